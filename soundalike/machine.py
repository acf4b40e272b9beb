"""What this machine computes with, for the report of a fault."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def machine() -> dict[str, str]:
    """Return what computes here and its versions, by name: Python, PyTorch, CUDA, GPUs, cores.

    It loads PyTorch, and asks the GPUs whether they can be used.
    """
    import torch  # noqa: PLC0415 - nothing is loaded before it is needed

    from indexer.embedding.cores import num_cores  # noqa: PLC0415 - likewise
    from indexer.embedding.devices import describe_gpus, driver_version  # noqa: PLC0415 - likewise

    return {
        "soundalike": version("soundalike"),
        "Python": platform.python_version(),
        "system": platform.platform(),
        "PyTorch": torch.__version__,
        "CUDA of PyTorch": torch.version.cuda or "none",
        "NVIDIA driver": driver_version(),
        "GPUs": "; ".join(describe_gpus()),
        "FAISS": _faiss(),
        "PyAV": _version("av"),
        "libsndfile for Python": _version("soundfile"),
        "NumPy": _version("numpy"),
        "pyarrow": _version("pyarrow"),
        "cores": str(num_cores()),
    }


def _faiss() -> str:
    names = [name for name in ("faiss-gpu", "faiss-cpu") if _version(name) != "none"]
    if not names:
        return "none"
    from search.nearest.centres import count_gpus  # noqa: PLC0415 - it imports FAISS

    return f"{', '.join(f'{name} {_version(name)}' for name in names)}, sees {count_gpus()}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
