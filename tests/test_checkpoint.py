"""Loading: every form of a good file gives the same network, every bad one an error in one line."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import Run
from faults import fault
from listener import Listener
from synthetic import write_tone
from torch import Tensor
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from indexer.errors import CheckpointError
from indexer.model import known as known_module
from indexer.model.checkpoint import load_checkpoint, state_digest
from indexer.model.convnext import EMBEDDING_DIM, ConvNeXt
from indexer.model.download import MAX_BYTES
from indexer.model.known import DEFAULT_CHECKPOINT, KNOWN_CHECKPOINTS, fetch
from indexer.progress import Step

DEPTHS = (1, 2, 1, 1)
DIMS = (8, 16, 8, EMBEDDING_DIM)
#: `state_digest` of the bundled checkpoint: stores made with it are known by this.
DEMO_DIGEST = "13bb83fb23894d2f22fbb0983a675c26cf27ffd96a71cc0ba3eddbd410e36e1c"

Weights = dict[str, Tensor]
Save = Callable[[Weights, Path], None]


@pytest.fixture(scope="module")
def model() -> ConvNeXt:
    """A small network in which each weight matters."""
    torch.manual_seed(0)
    model = ConvNeXt(DEPTHS, DIMS).requires_grad_(requires_grad=False)
    model.get_buffer("bn0.running_mean").uniform_(-40, -20)
    model.get_buffer("bn0.running_var").uniform_(80, 200)
    return model


@pytest.fixture
def weights(model: ConvNeXt) -> Weights:
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def front_end() -> Weights:
    """The constants that the published checkpoints carry, as torchlibrosa computes them."""
    spectrogram = Spectrogram(n_fft=1024, hop_length=320, win_length=1024)
    log_mel = LogmelFilterBank(sr=32000, n_fft=1024, n_mels=224, fmin=50, fmax=14000)
    return {f"spectrogram_extractor.{n}": t for n, t in spectrogram.state_dict().items()} | {
        f"logmel_extractor.{n}": t for n, t in log_mel.state_dict().items()
    }


def save_under_model(weights: Weights, path: Path) -> None:
    torch.save({"model": weights, "iteration": 75_000}, path)


def save_as_distributed(weights: Weights, path: Path) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)


def save_old_format(weights: Weights, path: Path) -> None:
    torch.save(weights, path, _use_new_zipfile_serialization=False)


def save_scale_layer(weights: Weights, path: Path) -> None:
    torch.save({n.replace(".gamma", ".scale_layer"): t for n, t in weights.items()}, path)


def save_parameters(weights: Weights, path: Path) -> None:
    torch.save({n: torch.nn.Parameter(t, t.is_floating_point()) for n, t in weights.items()}, path)


def save_float64(weights: Weights, path: Path) -> None:
    torch.save({n: t.double() for n, t in weights.items() if t.ndim}, path)


def save_without_counter(weights: Weights, path: Path) -> None:
    torch.save({n: t for n, t in weights.items() if "num_batches" not in n}, path)


def save_with_scores(weights: Weights, path: Path) -> None:
    """As training scripts do: NumPy scalars and arrays beside the weights."""
    scores = {"test_mAP": np.float64(0.471), "per_class": np.ones(527, np.float32)}
    torch.save({**scores, "model": weights}, path)


def save_with_scores_of_numpy_1(weights: Weights, path: Path) -> None:
    """As NumPy 1 did, whose modules have since moved."""
    recent = path.with_suffix(".recent")
    save_with_scores(weights, recent)
    with zipfile.ZipFile(recent) as source, zipfile.ZipFile(path, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            copy.writestr(name, content)


FORMS: Mapping[str, tuple[str, Save]] = {
    "safetensors": (".safetensors", safetensors.torch.save_file),
    "under model": (".pth", save_under_model),
    "bare": (".pt", torch.save),
    "capital suffix": (".PTH", torch.save),
    "scale_layer": (".pth", save_scale_layer),
    "distributed": (".pth", save_as_distributed),
    "old format": (".pth", save_old_format),
    "parameters": (".pth", save_parameters),
    "float64": (".pth", save_float64),
    "without counter": (".pth", save_without_counter),
    "with scores": (".pth", save_with_scores),
    "with scores of NumPy 1": (".pth", save_with_scores_of_numpy_1),
}


@pytest.mark.whole
@pytest.mark.parametrize("form", FORMS)
def test_load_checkpoint_form_gives_same_digest_and_outputs(
    model: ConvNeXt, weights: Weights, tmp_path: Path, form: str
) -> None:
    suffix, save = FORMS[form]
    path = tmp_path / f"mine{suffix}"
    save(weights, path)
    loaded = load_checkpoint(path)
    assert loaded.name == path.name
    assert loaded.path == path
    assert loaded.digest == state_digest(model) == state_digest(loaded.model)
    waveforms = 0.1 * torch.randn(1, 32_000)
    for found, expected in zip(loaded.model(waveforms), model(waveforms), strict=True):
        assert torch.equal(found, expected)


def test_load_checkpoint_model_is_ready_to_use(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    halved = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    safetensors.torch.save_file(halved, path)
    model = load_checkpoint(str(path)).model
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {str(t.device) for t in [*model.parameters(), *model.buffers()]} == {"cpu"}
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.whole
def test_load_checkpoint_front_end_constants_are_checked_and_dropped(
    model: ConvNeXt, weights: Weights, front_end: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "published.pth"
    torch.save({"model": front_end | weights}, path)
    assert load_checkpoint(path).digest == state_digest(model)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("logmel_extractor.melW", lambda t: t * 1.01),
        ("logmel_extractor.melW", lambda t: t[:, :64]),
        ("logmel_extractor.melW", lambda t: t * float("nan")),
        ("spectrogram_extractor.stft.conv_real.weight", lambda t: t.roll(1, dims=2)),
        ("spectrogram_extractor.stft.conv_imag.weight", lambda t: -t),
    ],
    ids=["scaled", "64 bands", "nan", "another window", "sign"],
)
def test_load_checkpoint_another_front_end_raises(
    weights: Weights,
    front_end: Weights,
    tmp_path: Path,
    name: str,
    change: Callable[[Tensor], Tensor],
) -> None:
    path = tmp_path / "other.pth"
    changed = {name: change(front_end[name]).contiguous()}
    torch.save(front_end | weights | changed, path)
    with pytest.raises(CheckpointError, match=f"another front end: {name}"):
        load_checkpoint(path)


# Weights that do not fit.


def test_load_checkpoint_entry_missing_raises(weights: Weights, tmp_path: Path) -> None:
    del weights["stages.1.0.gamma"]
    assert "missing: stages.1.0.gamma" in refusal(weights, tmp_path)


def test_load_checkpoint_entry_unexpected_raises(weights: Weights, tmp_path: Path) -> None:
    weights["stages.1.0.extra"] = torch.zeros(3)
    weights["stages.1.100.gamma"] = torch.zeros(3)
    message = refusal(weights, tmp_path)
    assert "unexpected: stages.1.0.extra, stages.1.100.gamma" in message
    assert "missing" not in message


def test_load_checkpoint_scale_under_both_names_raises(weights: Weights, tmp_path: Path) -> None:
    weights["stages.0.0.scale_layer"] = weights["stages.0.0.gamma"]
    assert "unexpected: stages.0.0.scale_layer" in refusal(weights, tmp_path)


def test_load_checkpoint_entry_of_another_shape_raises(weights: Weights, tmp_path: Path) -> None:
    weights["stages.1.0.gamma"] = torch.zeros(16, 1, 1)
    message = refusal(weights, tmp_path)
    assert "of another shape: stages.1.0.gamma (16, 1, 1) instead of (16,)" in message


def test_load_checkpoint_fewer_tags_raises(tmp_path: Path) -> None:
    weights = dict(ConvNeXt(DEPTHS, DIMS, num_classes=10).state_dict())
    assert "head_audioset.weight (10, 768) instead of (527, 768)" in refusal(weights, tmp_path)


def test_load_checkpoint_narrower_embedding_raises(tmp_path: Path) -> None:
    weights = dict(ConvNeXt((1, 1, 1, 1), (8, 8, 8, 16)).state_dict())
    assert "norm.weight (16,) instead of (768,)" in refusal(weights, tmp_path)


def test_load_checkpoint_another_network_lists_a_few_names(tmp_path: Path) -> None:
    message = refusal({f"layer{i}": torch.zeros(3) for i in range(50)}, tmp_path)
    assert "it is of another family, with layer0, layer1, layer2 and 47 more; a ConvNeXt" in message
    assert message.endswith("has 186 entries such as stages.0.0.dwconv.weight, of which 0 are here")


def test_checkpoint_that_is_none_of_ours_is_one_line(run: Run, tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "clip.wav", 1.0)
    torch.save(OTHERS["cnn14.pth"], tmp_path / "cnn14.pth")
    wrong = [(fault("R9a"), str(tmp_path / "cnn14.pth")), (fault("R9b"), "cnext_bl75")]
    for expected, checkpoint in wrong:
        outcome = run("tag", clip, "--checkpoint", checkpoint, code=None)
        expected.require(outcome.code, outcome.err)
        assert len(outcome.err.splitlines()) == 1


#: What others hold: PANNs' CNN14 as it is published, a transformer, and a training loop's notes.
OTHERS: dict[str, dict[str, Any]] = {
    "cnn14.pth": {
        "iteration": 600_000,
        "model": {
            "spectrogram_extractor.stft.conv_real.weight": torch.zeros(513, 1, 1024),
            "bn0.weight": torch.ones(64),
            "bn0.num_batches_tracked": torch.tensor(3),
            "conv_block1.conv1.weight": torch.zeros(64, 1, 3, 3),
            "fc1.weight": torch.zeros(2048, 2048),
            "fc_audioset.weight": torch.zeros(527, 2048),
        },
    },
    "bert.safetensors": {
        "bert.embeddings.position_ids": torch.arange(512),
        "bert.embeddings.word_embeddings.weight": torch.zeros(100, 8),
    },
    "notes.pt": {"epoch": 3, "loss": 0.1},
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cnn14.pth", "it is of another family, with "),
        ("bert.safetensors", "not tensors of floats: 'bert.embeddings.position_ids'; what is read"),
        ("notes.pt", "not tensors of floats: 'epoch', 'loss'; what is read is the state dict of a"),
    ],
)
def test_load_checkpoint_of_another_family_is_one_line_that_says_what_is_read(
    tmp_path: Path, name: str, told: str
) -> None:
    path = tmp_path / name
    save = safetensors.torch.save_file if path.suffix == ".safetensors" else torch.save
    save(OTHERS[name], path)
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(path)
    message = str(raised.value)
    assert message.startswith(f"cannot load {path}: ")
    assert told in message
    assert "ConvNeXt" in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_load_checkpoint_not_finite_raises(weights: Weights, tmp_path: Path, value: float) -> None:
    weights["norm.bias"] = weights["norm.bias"].clone()
    weights["norm.bias"][5] = value
    assert "not finite: norm.bias" in refusal(weights, tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        torch.zeros(EMBEDDING_DIM, dtype=torch.int32),
        torch.zeros(EMBEDDING_DIM, dtype=torch.complex64),
        torch.zeros(EMBEDDING_DIM).to_sparse(),
        torch.zeros(EMBEDDING_DIM, device="meta"),
        [0.0] * EMBEDDING_DIM,
        None,
    ],
    ids=["int", "complex", "sparse", "meta", "list", "None"],
)
def test_load_checkpoint_entry_not_floats_raises(
    weights: Weights, tmp_path: Path, entry: object
) -> None:
    message = refusal({**weights, "norm.weight": entry}, tmp_path)
    assert "not tensors of floats: 'norm.weight'" in message


@pytest.mark.parametrize("content", [{}, [], {"model": {}}, 3, "text"])
def test_load_checkpoint_no_state_dict_raises(tmp_path: Path, content: object) -> None:
    assert "no state dict" in refusal(content, tmp_path)


def test_load_checkpoint_tensor_declared_larger_than_file_raises(
    weights: Weights, tmp_path: Path
) -> None:
    weights["norm.weight"] = torch.zeros(1).expand(1_000_000, 1_000_000)  # 4 TB in 4 bytes
    assert "declares" in refusal(weights, tmp_path)


@pytest.mark.parametrize("shape", [(1 << 20, 0), (1 << 20, 1, 1, 1), (0,), ()])
def test_load_checkpoint_absurd_width_raises(tmp_path: Path, shape: tuple[int, ...]) -> None:
    weights = {f"downsample_layers.{i}.{min(i, 1)}.weight": torch.zeros(shape) for i in range(4)}
    assert "ConvNeXt as it was published" in refusal(weights, tmp_path)


def refusal(content: object, folder: Path) -> str:
    """Return the one line with which a saved object is refused."""
    path = folder / "refused.pth"
    torch.save(content, path)
    return refusal_of(path)


def refusal_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Files that are not what they say.


class Malicious:
    """Unpickles to a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("new_format", [True, False])
def test_load_checkpoint_pickle_with_code_is_refused_without_running(
    weights: Weights, tmp_path: Path, new_format: bool
) -> None:
    path, trace = tmp_path / "malicious.pth", tmp_path / "trace"
    content = {"model": weights, "extra": Malicious(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert "could run code" in refusal_of(path)
    assert not trace.exists()


def test_load_checkpoint_plain_pickle_with_code_is_refused_without_running(
    tmp_path: Path,
) -> None:
    path, trace = tmp_path / "malicious.pth", tmp_path / "trace"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(Malicious(trace), protocol))
        refusal_of(path)
        assert not trace.exists()


def test_load_checkpoint_leaves_pickle_rules_as_they_were(weights: Weights, tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    save_with_scores(weights, tmp_path / "scores.pth")
    load_checkpoint(tmp_path / "scores.pth")
    refusal([], tmp_path)
    assert torch.serialization.get_safe_globals() == before


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("content", [b"", b"x", b"garbage " * 1000, bytes(10_000)])
def test_load_checkpoint_garbage_raises(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"garbage{suffix}"
    path.write_bytes(content)
    refusal_of(path)


@pytest.mark.parametrize("header_bytes", [1 << 62, (1 << 64) - 1, 200_000_000, 8])
def test_load_checkpoint_safetensors_header_lies_raises(tmp_path: Path, header_bytes: int) -> None:
    path = tmp_path / "header.safetensors"
    path.write_bytes(header_bytes.to_bytes(8, "little") + b"{}")
    assert "not a whole safetensors file" in refusal_of(path)


def test_load_checkpoint_safetensors_declares_too_much_raises(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"norm.weight": entry}).encode()
    path = tmp_path / "declares.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "not a whole safetensors file" in refusal_of(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_load_checkpoint_truncated_raises(
    weights: Weights, tmp_path: Path, suffix: str, kept: float
) -> None:
    path = tmp_path / f"whole{suffix}"
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refusal_of(path)


@pytest.mark.whole
@pytest.mark.parametrize("form", ["under model", "old format", "safetensors"])
def test_load_checkpoint_flipped_bytes_load_or_raise(tmp_path: Path, form: str) -> None:
    suffix, save = FORMS[form]
    path = tmp_path / f"flipped{suffix}"
    save({"bn0.weight": torch.ones(224)}, path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(50):
        flipped = content.copy()
        flipped[generator.integers(0, len(flipped), 3)] = generator.integers(0, 256, 3)
        path.write_bytes(flipped.tobytes())
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def test_load_checkpoint_suffix_unknown_raises(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    torch.save(weights, path)
    assert ".safetensors, .pth or .pt" in refusal_of(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_load_checkpoint_too_long_raises(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)  # a hole, which takes no room
    assert f"longer than {MAX_BYTES} bytes" in refusal_of(path)


def test_load_checkpoint_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        load_checkpoint(tmp_path)


def test_load_checkpoint_missing_suggests_names() -> None:
    with pytest.raises(CheckpointError, match=r"does not exist; did you mean 'demo'\?") as caught:
        load_checkpoint("demmo")
    assert all(name in str(caught.value) for name in KNOWN_CHECKPOINTS)


# By name.


def test_load_checkpoint_demo_is_the_bundled_network() -> None:
    demo = load_checkpoint("demo", download=False)
    assert demo.name == "demo"
    assert demo.path == fetch("demo")
    assert demo.digest == DEMO_DIGEST
    assert [len(stage) for stage in demo.model.stages] == [1, 1, 2, 1]  # type: ignore[arg-type]
    assert sum(p.numel() for p in demo.model.parameters()) == 6_567_615
    output = demo.model(torch.zeros(1, 320_000))
    assert output.scene.shape == (1, EMBEDDING_DIM)
    assert output.tags[0].argmax() == 500  # Silence


def test_load_checkpoint_not_there_and_no_download_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path))
    with pytest.raises(CheckpointError, match="is not there; put https://zenodo"):
        load_checkpoint(DEFAULT_CHECKPOINT, download=False)


class OneFile(ThreadingHTTPServer):
    content = b""


class OneFileHandler(BaseHTTPRequestHandler):
    server: OneFile

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def server() -> Iterator[OneFile]:
    with OneFile(("127.0.0.1", 0), OneFileHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_load_checkpoint_name_downloads_and_loads(
    server: OneFile,
    model: ConvNeXt,
    weights: Weights,
    front_end: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.save({"model": front_end | weights}, tmp_path / "published.pth")
    server.content = (tmp_path / "published.pth").read_bytes()
    known = replace(
        KNOWN_CHECKPOINTS[DEFAULT_CHECKPOINT],
        url=f"http://127.0.0.1:{server.server_port}/",
        md5=hashlib.md5(server.content).hexdigest(),
    )
    monkeypatch.setattr(known_module, "KNOWN_CHECKPOINTS", {DEFAULT_CHECKPOINT: known})
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path / "downloads"))
    monkeypatch.setenv("no_proxy", "*")
    heard = Listener()
    loaded = load_checkpoint(DEFAULT_CHECKPOINT, listen=heard)
    assert loaded.name == DEFAULT_CHECKPOINT
    assert loaded.path == tmp_path / "downloads" / "convnext_tiny_471mAP.pth"
    assert loaded.digest == state_digest(model)
    num_bytes = len(server.content)
    assert heard.steps[-1] == Step("downloading", num_bytes, num_bytes, "byte")


HF = "hf:topel/ConvNeXt-Tiny-AT"


def test_load_checkpoint_weights_are_known_in_any_file_once_a_published_one_was_loaded(
    server: OneFile,
    weights: Weights,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Hugging Face sends has no published digest; the .pth of the same weights has."""
    published = tmp_path / "moved and renamed.pth"
    torch.save({"model": weights, "salt": torch.rand(1)}, published)  # an MD5 of this test's own
    safetensors.torch.save_file(weights, tmp_path / "model.safetensors")
    server.content = (tmp_path / "model.safetensors").read_bytes()
    at = f"http://127.0.0.1:{server.server_port}/topel/ConvNeXt-Tiny-AT/resolve/main/m.safetensors"
    md5 = hashlib.md5(published.read_bytes()).hexdigest()
    everything = {
        **KNOWN_CHECKPOINTS,
        DEFAULT_CHECKPOINT: replace(KNOWN_CHECKPOINTS[DEFAULT_CHECKPOINT], md5=md5),
        HF: replace(KNOWN_CHECKPOINTS[HF], url=at),
    }
    monkeypatch.setattr(known_module, "KNOWN_CHECKPOINTS", everything)
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path / "downloads"))
    monkeypatch.setenv("no_proxy", "*")
    first = load_checkpoint("topel/ConvNeXt-Tiny-AT")
    assert (first.name, first.known) == (HF, None)
    assert first.path.parent == tmp_path / "downloads"
    taught = load_checkpoint(published)
    assert taught.known is not None
    assert taught.known.name == DEFAULT_CHECKPOINT
    for again in (HF, tmp_path / "model.safetensors"):
        loaded = load_checkpoint(again)
        assert loaded.digest == taught.digest
        assert loaded.known == taught.known
    other = {**weights, "head_audioset.bias": weights["head_audioset.bias"] + 1}
    safetensors.torch.save_file(other, tmp_path / "other.safetensors")
    assert load_checkpoint(tmp_path / "other.safetensors").known is None


# The digest.


def test_state_digest_is_what_its_documentation_says(model: ConvNeXt, weights: Weights) -> None:
    digest = hashlib.sha256()
    for name in sorted(weights):
        if name != "bn0.num_batches_tracked":
            values = weights[name].numpy()
            digest.update(f"{name} {'x'.join(map(str, values.shape))}\n".encode())
            digest.update(values.astype("<f4").tobytes())
    assert state_digest(model) == digest.hexdigest()


def test_state_digest_one_weight_changed_differs(model: ConvNeXt) -> None:
    before = state_digest(model)
    bias = model.head_audioset.bias
    original = bias[3].item()
    bias[3] = np.nextafter(np.float32(original), np.float32(1e9)).item()
    after = state_digest(model)
    bias[3] = original
    assert after != before
    assert state_digest(model) == before
