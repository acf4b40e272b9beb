"""From the file of a checkpoint to the network: strict, and without trusting the file."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from indexer.errors import CheckpointError, first_line
from indexer.model.convnext import EMBEDDING_DIM, TINY_DEPTHS, TINY_DIMS, ConvNeXt
from indexer.model.download import MAX_BYTES
from indexer.model.front_end import FFT_SAMPLES
from indexer.model.known import KnownCheckpoint, locate, recognise
from indexer.model.remembered import file_key, remember
from indexer.progress import Listen, ignore


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network that was loaded.

    Attributes:
        name: Its name among the known ones, or that of its file.
        path: The file.
        digest: `state_digest` of the model: two files that hold the same weights share it.
        model: In evaluation mode, float32, on the CPU.
        known: Which of the known checkpoints its weights are; None if they are of none.
    """

    name: str
    path: Path
    digest: str
    model: ConvNeXt
    known: KnownCheckpoint | None = None


def load_checkpoint(
    name_or_path: str | Path, *, listen: Listen = ignore, download: bool = True
) -> Checkpoint:
    """Load a checkpoint, strictly: all of the network and nothing else.

    Args:
        name_or_path: A name, see `indexer.model.known.known_as`, or a file: .safetensors, or .pth
            or .pt as PyTorch saves a state dict, bare or under "model". Depths and widths are read
            off the shapes. A file that is called like a name needs a folder before it: `./demo`.
        listen: Hears how far the download is, if there is one.
        download: Whether a known checkpoint that is not there may be downloaded.

    Raises:
        CheckpointError: If it is not there, not a whole and finite network of this family, or
            trained on another front end. A pickle with code is refused without running it.
    """
    name, path = locate(name_or_path, listen=listen, download=download)
    try:
        before = file_key(path)  # before it is read: it may be written to meanwhile
        model = _build(_read(path))
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    digest = state_digest(model)
    remember("weights", before, digest)
    return Checkpoint(name, path, digest, model, recognise(path, digest))


def state_digest(model: ConvNeXt) -> str:
    r"""Return the digest that names a network's weights, whatever file they came from.

    SHA-256 over the entries of the state dict, sorted by name (by code point). Each entry
    contributes the UTF-8 of `f"{name} {shape}\n"`, where shape is the sizes in decimal joined by
    "x", and then its values in C order as little-endian float32. `bn0.num_batches_tracked`, which
    changes no output, is left out; the front end's constants are not in the state dict.

    Returns:
        64 hex digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if _is_counter(name):
            continue
        shape = "x".join(str(size) for size in tensor.shape)
        digest.update(f"{name} {shape}\n".encode())
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(values.astype("<f4", copy=False))
    return digest.hexdigest()


# Reading: from bytes that may be anything to named tensors.


class _Ignored:
    """Stands in for any NumPy object that a pickle holds beside the weights.

    Training scripts save their scores, NumPy scalars, with the weights. To unpickle them in
    earnest would be to call NumPy with arguments from an untrusted file.
    """

    def __new__(cls, *_: object) -> _Ignored:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        pass


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Ignored, "numpy.dtype"),
    (_Ignored, "numpy.ndarray"),
    (_Ignored, "numpy.core.multiarray.scalar"),  # NumPy 1
    (_Ignored, "numpy.core.multiarray._reconstruct"),
    (_Ignored, "numpy._core.multiarray.scalar"),  # NumPy 2
    (_Ignored, "numpy._core.multiarray._reconstruct"),
]


#: What is read, for errors.
_EXPECTED = "what is read is the state dict of a ConvNeXt, bare or under 'model'"
#: By which PyTorch tells its new format from the old one.
_ZIP_BEGINS = b"PK\x03\x04"


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, float32, under our names, without counters of steps."""
    readers = {".safetensors": _read_safetensors, ".pth": _read_pickle, ".pt": _read_pickle}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CheckpointError("its name does not end in .safetensors, .pth or .pt")
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"it is longer than {MAX_BYTES} bytes")
    entries = _tensors(reader(path), num_bytes=path.stat().st_size)
    parallel = "module." if all(name.startswith("module.") for name in entries) else ""
    named = {name.removeprefix(parallel): tensor.detach() for name, tensor in entries.items()}
    return {
        _our_name(name, named): tensor.float()
        for name, tensor in named.items()
        if not _is_counter(name)
    }


def _our_name(name: str, taken: Container[str]) -> str:
    """Return our name of an entry: CoNeTTE calls the layer scale otherwise."""
    ours = re.sub(r"\.scale_layer$", ".gamma", name)
    return name if ours in taken else ours  # with both in one file, one comes out as unexpected


def _read_safetensors(path: Path) -> object:
    content = path.read_bytes()  # not mapped: if the file shrank later, the process would die
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # damaged bytes raise whatever the parser trips over
        raise CheckpointError(
            f"it is not a whole safetensors file ({first_line(error)})"
        ) from error


def _read_pickle(path: Path) -> object:
    with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
        warnings.simplefilter("ignore")  # of rare pickle protocols: what comes out is checked
        try:
            _refuse_compressed(path)
            # Banned elsewhere. With weights_only a pickle makes tensors and calls nothing else.
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
        except (OSError, CheckpointError):
            raise
        except UnpicklingError as error:
            raise CheckpointError(
                "it is damaged, or holds objects other than weights, which could run code"
            ) from error
        except Exception as error:  # damaged bytes raise whatever the parser trips over
            raise CheckpointError(
                f"it is not a whole PyTorch file ({first_line(error)})"
            ) from error


def _refuse_compressed(path: Path) -> None:
    """Raise if a zip archive would unpack to more than its size: PyTorch never compresses."""
    with path.open("rb") as file:
        if file.read(len(_ZIP_BEGINS)) != _ZIP_BEGINS:
            return  # the old format
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise CheckpointError(f"it is compressed: {unpacked} bytes when unpacked")


def _tensors(loaded: object, num_bytes: int) -> Mapping[str, Tensor]:
    """Return the tensors of a state dict, having checked that a file of that size can hold them.

    A few bytes can declare a tensor of any size, by strides of 0 or by compression.
    """
    entries = loaded
    if isinstance(entries, Mapping) and isinstance(entries.get("model"), Mapping):
        entries = entries["model"]
    if not isinstance(entries, Mapping) or not entries:
        raise CheckpointError(f"it holds no state dict; {_EXPECTED}")
    wrong = [repr(name) for name, value in entries.items() if not _is_plain(name, value)]
    if wrong:
        raise CheckpointError(
            f"these entries are not tensors of floats: {_shorten(wrong, 3)}; {_EXPECTED}"
        )
    declared = sum(value.numel() * value.element_size() for value in entries.values())
    if declared > num_bytes:
        raise CheckpointError(f"it declares {declared} bytes of weights, but has {num_bytes}")
    return entries


def _is_plain(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and (value.is_floating_point() or _is_counter(name))
    )


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


# Building: from named tensors to the network.


def _build(entries: Mapping[str, Tensor]) -> ConvNeXt:
    """Return the network that a state dict fits exactly."""
    depths, dims = _geometry(entries)
    with torch.device("meta"):  # shapes only: nothing is allocated on the word of a file
        model = ConvNeXt(depths, dims)
    constants = _front_end_constants(model)
    weights = {name: tensor for name, tensor in entries.items() if name not in constants}
    _check_fit(weights, model)
    for name in constants.keys() & entries.keys():
        if not _agrees(entries[name], constants[name]):
            raise CheckpointError(f"it was trained on another front end: {name} differs")
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(f"these weights are not finite: {_shorten(broken)}")
    counter = {"bn0.num_batches_tracked": torch.tensor(0)}
    model.load_state_dict({**weights, **counter}, strict=True, assign=True)
    return model.eval().requires_grad_(requires_grad=False)


def _geometry(entries: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """Return depths and widths, those of the published network where they cannot be read off."""
    depths, dims = list(TINY_DEPTHS), list(TINY_DIMS)
    for stage in range(len(depths)):
        # Two digits: a hundred blocks are not of this family, and come out as unexpected.
        found = [re.match(rf"stages\.{stage}\.(\d\d?)\.", name) for name in entries]
        depths[stage] = max((int(match[1]) + 1 for match in found if match), default=depths[stage])
        convolution = entries.get(f"downsample_layers.{stage}.{min(stage, 1)}.weight")
        if convolution is not None and convolution.ndim and convolution.numel():
            dims[stage] = len(convolution)
    return depths, [*dims[:-1], EMBEDDING_DIM]  # a store has no place for another last width


def _check_fit(weights: Mapping[str, Tensor], model: ConvNeXt) -> None:
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not _is_counter(name)
    }
    shared = given.keys() & wanted.keys()
    if len(shared) < len(wanted) / 2:
        raise CheckpointError(
            f"it is of another family, with {_shorten(list(given), 3)}; a ConvNeXt as it was "
            f"published has {len(wanted)} entries such as stages.0.0.dwconv.weight, of which "
            f"{len(shared)} are here"
        )
    problems = {
        "missing": [name for name in wanted if name not in given],
        "unexpected": [name for name in given if name not in wanted],
        "of another shape": [
            f"{name} {given[name]} instead of {shape}"
            for name, shape in wanted.items()
            if given.get(name, shape) != shape
        ],
    }
    found = "; ".join(f"{kind}: {_shorten(names)}" for kind, names in problems.items() if names)
    if found:
        raise CheckpointError(f"it is not a whole ConvNeXt of this family; {found}")


def _shorten(items: list[str], limit: int = 10) -> str:
    rest = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + rest


def _front_end_constants(model: ConvNeXt) -> dict[str, Tensor]:
    """Return what torchlibrosa's front end keeps in a state dict, as computed from ours."""
    bins = torch.arange(FFT_SAMPLES // 2 + 1)[:, None]  # (513, 1)
    turns = bins * torch.arange(FFT_SAMPLES) % FFT_SAMPLES / FFT_SAMPLES  # (513, 1024)
    angle = 2 * math.pi * turns
    return {
        "spectrogram_extractor.stft.conv_real.weight": (angle.cos() * model.window)[:, None],
        "spectrogram_extractor.stft.conv_imag.weight": (-angle.sin() * model.window)[:, None],
        "logmel_extractor.melW": model.mel_filterbank,
    }


def _agrees(theirs: Tensor, ours: Tensor) -> bool:
    """Whether constants are equal to a thousandth of the largest, which float16 storage keeps."""
    tolerance = 1e-3 * float(ours.abs().max())
    return theirs.shape == ours.shape and torch.allclose(theirs, ours, rtol=0, atol=tolerance)
