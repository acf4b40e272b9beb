"""What must agree between two stores, and what the columns are."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from typing import get_args

import pytest

from indexer.errors import IdentityError
from indexer.store.schema import (
    FILES_SCHEMA,
    FRAMES_SCHEMA,
    SCENE_SCHEMA,
    STATUSES,
    FramesMode,
    Identity,
    LedgerRow,
    Status,
    frame_shape,
)
from indexer.windows import Geometry

IDENTITY = Identity("a" * 64, "logmel 1", "resampler 1")
OTHER = {
    "weights": "b" * 64,
    "front_end": "logmel 2",
    "resampler": "resampler 2",
    "frames": "full",
    "hop_samples": 160_000,
    "native": True,
    "window_samples": 160_000,
    "sample_rate_hz": 16_000,
    "channel": 2,
    "native_samples": 1_920_000,
    "padding": "repeat",
    "level": "rms",
}


def test_identity_same_fields_pass() -> None:
    IDENTITY.require(Identity("a" * 64, "logmel 1", "resampler 1"), "message", "advice")


def test_identity_other_values_cover_all_fields() -> None:
    assert set(OTHER) == {field.name for field in fields(Identity)}


@pytest.mark.parametrize("name", OTHER)
def test_identity_one_field_differs_is_named_with_both_values(name: str) -> None:
    there, here = getattr(IDENTITY, name), OTHER[name]
    with pytest.raises(IdentityError) as raised:
        IDENTITY.require(replace(IDENTITY, **{name: here}), "the store differs", "Do this.")
    assert raised.value.differences == {name: (there, here)}
    told = str(raised.value)
    assert re.fullmatch(r"the store differs: .* is .* there and .* here\. Do this\.", told)
    assert "_" not in told


def test_identity_all_fields_differ_are_all_named() -> None:
    with pytest.raises(IdentityError) as raised:
        IDENTITY.require(Identity(**OTHER), "m", "a")  # type: ignore[arg-type]
    assert list(raised.value.differences) == list(OTHER)


def test_identity_document_is_read_back() -> None:
    identity = Identity(**OTHER)  # type: ignore[arg-type]
    assert Identity.from_dict(asdict(identity)) == identity


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_identity_document_with_other_fields_is_a_type_error(change: str) -> None:
    document = asdict(IDENTITY)
    if change == "missing":
        del document["weights"]
    else:
        document["colour"] = "red"
    with pytest.raises(TypeError):
        Identity.from_dict(document)


def test_identity_geometry_has_its_numbers() -> None:
    identity = replace(
        IDENTITY, hop_samples=1_000, native=True, window_samples=5_000, native_samples=6_000
    )
    assert identity.geometry == Geometry(1_000, True, 5_000, 6_000)  # noqa: FBT003


def test_identity_of_before_native_had_a_limit_of_its_own_has_that_of_30_s() -> None:
    document = asdict(replace(IDENTITY, native=True))
    del document["native_samples"]
    assert Identity.from_dict(document).geometry.plan(960_001)[0] == (0, 320_000)
    assert Identity.from_dict(document).geometry.plan(960_000) == [(0, 960_000)]


def test_identity_defaults_are_ten_seconds_apart_at_32_khz() -> None:
    assert (IDENTITY.hop_samples, IDENTITY.window_samples) == (320_000, 320_000)
    assert (IDENTITY.sample_rate_hz, IDENTITY.native, IDENTITY.frames) == (32_000, False, "pooled")


def test_ledger_row_has_the_columns_of_the_ledger() -> None:
    assert {field.name for field in fields(LedgerRow)} == set(FILES_SCHEMA.names)


def test_ledger_row_fields_without_default_are_the_columns_without_null() -> None:
    row = LedgerRow(1, "library", "a.wav", 2, 3, "ok")
    required = {name for name, value in asdict(row).items() if value is not None}
    assert required == {field.name for field in FILES_SCHEMA if not field.nullable}


def test_statuses_are_those_of_the_type() -> None:
    assert get_args(Status) == STATUSES


@pytest.mark.parametrize(
    ("mode", "shape"), [("pooled", (31, 768)), ("full", (31, 7, 768)), ("none", (31, 768))]
)
def test_frame_shape_has_time_first(mode: FramesMode, shape: tuple[int, ...]) -> None:
    assert frame_shape(mode, 31) == shape


def test_schemas_are_the_documented_format() -> None:
    """A change here is another format: FORMAT_VERSION and docs/store-format.md change with it."""
    assert {field.name: str(field.type) for field in SCENE_SCHEMA} == {
        "window_id": "int64",
        "recording_id": "fixed_size_binary[16]",
        "start_sample": "int64",
        "num_samples": "int32",
        "scene": "fixed_size_list<item: float>[768]",
        "tags": "fixed_size_list<item: halffloat>[527]",
        "level_db": "float",
    }
    assert {field.name: str(field.type) for field in FRAMES_SCHEMA} == {
        "window_id": "int64",
        "num_frames": "int32",
        "frames": "large_binary",
    }
    assert {field.name: str(field.type) for field in FILES_SCHEMA} == {
        "path_id": "int64",
        "library_id": "string",
        "path": "string",
        "path_bytes": "binary",
        "span_start": "int64",
        "span_samples": "int64",
        "size": "int64",
        "mtime_ns": "int64",
        "status": "string",
        "stage": "string",
        "reason": "string",
        "recording_id": "fixed_size_binary[16]",
        "num_samples": "int64",
        "sample_rate": "int32",
        "channels": "int32",
        "codec": "string",
        "warnings": "string",
        "audio_id": "fixed_size_binary[16]",
        "file_digest": "fixed_size_binary[16]",
        "first_sample": "int64",
    }
