"""Which device computes; and what is said of a GPU that is there and cannot.

No machine has all these faults: PyTorch's functions raise here what they raise there.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, Run
from torch import Tensor

import soundalike
from indexer.embedding import cores, devices
from indexer.embedding import extractor as extractor_module
from indexer.embedding.devices import choose_device, describe_gpus, gpu_fault, other_gpus
from indexer.embedding.extractor import Embeddings, Extractor
from indexer.errors import SoundalikeError, SoundalikeWarning
from indexer.model.checkpoint import Checkpoint

TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU "
    "driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org"
)
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be"
GIB = 2**30

Break = Callable[..., None]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Say how many GPUs there seem to be, and what fails when they are used."""

    def seem(
        count: int = 1,
        *,
        init: Exception | None = None,
        compute: Exception | None = None,
        free_gib: float = 70.0,
        own_gib: float = 0.0,
        is_built: bool = True,
    ) -> None:
        def initialise() -> None:
            if init:
                raise init

        def ones(*_: object, **__: object) -> Tensor:
            if compute:
                raise compute
            return torch.zeros(1)

        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: is_built)
        monkeypatch.setattr(torch.cuda, "init", initialise)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        memory = int(free_gib * GIB), 80 * GIB
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: memory)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int(own_gib * GIB))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
        monkeypatch.setattr(devices, "torch", SimpleNamespace(**{**vars(torch), "ones": ones}))
        monkeypatch.setattr(devices, "has_gpu", lambda: True)

    return seem


FAULTS = [
    (
        {"init": RuntimeError(TOO_OLD)},
        "The NVIDIA driver on your system is too old (found version 11040); update the driver, or "
        "install a PyTorch for an older CUDA",
    ),
    (
        {"init": RuntimeError("Found no NVIDIA driver on your system. Please check that you")},
        "Found no NVIDIA driver on your system; install NVIDIA's driver; a container has to be "
        "given the GPU, too",
    ),
    (
        {"init": RuntimeError("No CUDA GPUs are available")},
        "PyTorch sees 0 GPUs; see what nvidia-smi says",
    ),
    (
        {"is_built": False},
        f"PyTorch {torch.__version__} is one without CUDA; install a PyTorch that has CUDA",
    ),
    (
        {"compute": RuntimeError(BUSY)},
        "CUDA error: CUDA-capable device(s) is/are busy or unavailable; another process has it for "
        "itself; nvidia-smi lists them",
    ),
    (
        {"compute": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")},
        "CUDA out of memory; close what uses its memory; nvidia-smi lists it",
    ),
    (
        {"compute": RuntimeError("CUDA error: no kernel image is available for execution on it")},
        "CUDA error: no kernel image is available for execution on it; install a PyTorch that has "
        "code for it",
    ),
    (
        {
            "init": RuntimeError(
                "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
                "before calling NumCudaDevices() that might have already set an error? Error 804: "
                "forward compatibility was attempted on non supported HW"
            )
        },
        "CUDA error 804: forward compatibility was attempted on non supported HW; restart after an "
        "update of the driver, or install one that fits this GPU",
    ),
    (
        {
            "init": torch.cuda.DeferredCudaCallError(
                "CUDA call failed lazily at initialization with error: device >= 0 && device < "
                "num_gpus INTERNAL ASSERT FAILED\n\nCUDA call was originally invoked at:"
            )
        },
        "device >= 0 && device < num_gpus INTERNAL ASSERT FAILED; see what nvidia-smi says",
    ),
    (
        {"free_gib": 0.3},
        "of its memory of 80.0 GiB, 0.3 GiB are free; close what uses its memory; nvidia-smi "
        "lists it",
    ),
]


@pytest.mark.parametrize(("how", "sentence"), FAULTS, ids=[text[:30] for _, text in FAULTS])
def test_choose_device_a_gpu_that_cannot_be_used_is_told_and_never_silently_left(
    gpus: Break, how: dict[str, object], sentence: str
) -> None:
    gpus(**how)
    with pytest.warns(SoundalikeWarning) as caught:
        assert choose_device("auto") == torch.device("cpu")
    (warning,) = caught
    assert str(warning.message) == (
        f"the GPU of this machine cannot be used: {sentence}. The CPU computes instead"
    )
    for asked in ("cuda", "cuda:0"):
        with pytest.raises(SoundalikeError) as raised:
            choose_device(asked)
        assert str(raised.value) == f"{asked} cannot be used: {sentence}"
        assert (raised.value.about, raised.value.value) == ("device", "cpu")
    assert choose_device("cpu") == torch.device("cpu")  # whoever asks for it is told nothing


def test_choose_device_one_that_can_be_used_is_chosen_without_a_word(gpus: Break) -> None:
    gpus(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_device("auto") == choose_device("cuda") == torch.device("cuda", 0)
        assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert gpu_fault(2) == "PyTorch sees 2 GPUs; see what nvidia-smi says"
    assert other_gpus(than=0) == [1]


def test_gpu_fault_memory_that_this_process_keeps_is_free(gpus: Break) -> None:
    gpus(free_gib=0.3, own_gib=2.0)
    assert gpu_fault(0) is None


def test_other_gpus_one_without_memory_is_left_out_and_told(gpus: Break) -> None:
    gpus(2, free_gib=0.5)
    with pytest.warns(SoundalikeWarning, match=r"GPU 1 .* 0.5 GiB are free.*compute without it"):
        assert other_gpus(than=0) == []


def test_gpu_fault_no_permission_names_the_file(
    gpus: Break, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpus(init=RuntimeError("No CUDA GPUs are available"))
    file = tmp_path / "nvidiactl"
    file.touch()
    monkeypatch.setattr(devices, "_DEVICE_FILES", (str(file),))
    assert gpu_fault(0) == "PyTorch sees 0 GPUs; see what nvidia-smi says"
    monkeypatch.setattr("os.access", lambda *_: False)  # the tests may run as root
    assert gpu_fault(0) == (
        f"there is no permission to open {file}; let this user into the group that owns it"
    )


def test_choose_device_without_any_gpu_is_the_cpu_without_a_word(
    gpus: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(init=RuntimeError("Found no NVIDIA driver on your system."))
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize(
    ("vendor", "kind", "is_gpu"),
    [
        ("0x10de\n", "0x030000\n", True),
        ("0x10de\n", "0x030200\n", True),  # a 3D controller, as in a server
        ("0x10de\n", "0x040300\n", False),  # its sound
        ("0x8086\n", "0x030000\n", False),
    ],
)
def test_has_gpu_asks_the_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vendor: str, kind: str, is_gpu: bool
) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0/vendor").write_text(vendor)
    (tmp_path / "0000:01:00.0/class").write_text(kind)
    monkeypatch.setattr(cores, "_PCI", tmp_path)
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cores.has_gpu() == is_gpu
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not cores.has_gpu()


def refuse(*_: object, **__: object) -> Tensor:
    """Fail as what gives page-locked memory does."""
    raise RuntimeError("CUDA error: out of memory\nCompile with")


@pytest.fixture
def waveforms() -> Tensor:
    return torch.randn(3, 16_000, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def expected(tiny_checkpoint: Checkpoint, waveforms: Tensor) -> Embeddings:
    return Extractor(tiny_checkpoint, device="cpu", precision="fp32")(waveforms)


@pytest.fixture
def extractor(tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    """One on a CPU that asks for page-locked memory, as on a GPU."""
    extractor = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    monkeypatch.setattr(extractor, "_pins", True)
    return extractor


def test_extractor_without_page_locked_memory_goes_on_and_says_so_once(
    extractor: Extractor,
    waveforms: Tensor,
    expected: Embeddings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", refuse)
    with pytest.warns(SoundalikeWarning) as caught:
        found = [extractor(waveforms) for _ in range(2)]
    assert [str(one.message) for one in caught] == [
        "the system gives no page-locked memory (CUDA error: out of memory); copies to and from "
        "cpu go on without it, and take longer"
    ]
    for one in found:
        np.testing.assert_array_equal(one.scene, expected.scene)


def test_extractor_results_come_back_without_page_locked_memory_too(
    extractor: Extractor,
    waveforms: Tensor,
    expected: Embeddings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tensor, "pin_memory", lambda waveforms: waveforms)
    monkeypatch.setattr(extractor_module.torch, "empty", refuse)
    with pytest.warns(SoundalikeWarning, match="no page-locked memory") as caught:
        found = extractor(waveforms)
    assert len(caught) == 1
    np.testing.assert_array_equal(found.scene, expected.scene)
    np.testing.assert_array_equal(found.tags, expected.tags)


@pytest.mark.whole
def test_the_command_says_in_one_line_that_a_gpu_cannot_be_used() -> None:
    code = f"""
        import sys, torch
        from indexer.embedding import devices
        from soundalike.__main__ import main

        def init():
            raise RuntimeError({TOO_OLD!r})

        torch.cuda.init = init
        torch.backends.cuda.is_built = lambda: True
        devices.has_gpu = lambda: True
        sys.argv[1:] = ["tag", "--checkpoint", "demo", "--top", "2", "--device", DEVICE, CLIP]
        main()
        """
    clip = REPOSITORY / "data" / "samples" / "animals" / "dog.ogg"

    def run(device: str) -> subprocess.CompletedProcess[str]:
        script = f"DEVICE, CLIP = {device!r}, {str(clip)!r}\n{textwrap.dedent(code)}"
        words = [sys.executable, "-c", script]
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    told = run("auto")
    assert told.returncode == 0
    assert "Dog" in told.stdout
    assert told.stderr.splitlines() == [
        "soundalike: the GPU of this machine cannot be used: The NVIDIA driver on your system is "
        "too old (found version 11040); update the driver, or install a PyTorch for an older CUDA. "
        "The CPU computes instead; say --device cpu"
    ]
    told = run("cuda")
    assert told.returncode == 1
    assert told.stderr.splitlines() == [
        "soundalike: cuda cannot be used: The NVIDIA driver on your system is too old (found "
        "version 11040); update the driver, or install a PyTorch for an older CUDA; say --device "
        "cpu"
    ]
    assert run("cpu").stderr == ""


def test_describe_gpus_names_each_and_what_keeps_it_from_working(
    gpus: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * GIB, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    gpus(2)
    assert describe_gpus() == [
        f"{number}: NVIDIA H100, 80.0 GiB, compute capability 9.0" for number in range(2)
    ]
    gpus(1, free_gib=0.2)
    (line,) = describe_gpus()
    assert line.startswith("0 cannot be used: of its memory of 80.0 GiB, 0.2 GiB are free; ")
    gpus(0, init=RuntimeError(TOO_OLD))
    (line,) = describe_gpus()
    assert line.startswith("none that can be used: The NVIDIA driver on your system is too old")
    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    assert describe_gpus() == ["none"]


@pytest.mark.whole
def test_version_verbose_says_what_computes_here(run: Run) -> None:
    found = soundalike.machine()
    assert found["soundalike"] == soundalike.__version__
    assert found["Python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["PyTorch"] == torch.__version__
    assert found["NumPy"] == np.__version__
    assert found["cores"] == str(cores.num_cores())
    assert "faiss" in found["FAISS"]
    told = run("--version", "--verbose").out.splitlines()
    assert dict(re.split(r" {2,}", line, maxsplit=1) for line in told) == found
    assert "--verbose goes with --version" in run("--verbose", code=2).err
