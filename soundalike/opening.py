"""The front door: `soundalike.open`."""

from __future__ import annotations

from typing import Literal

from indexer.paths import as_name_or_path, as_path
from indexer.progress import Listen, ignore
from indexer.reading.apart import Apart
from indexer.run.config import Settings
from soundalike.filling import StorePath
from soundalike.sounds import Sounds


def open(  # noqa: A001, PLR0913 - as the function of the module; each is a choice of its own
    store: StorePath,
    *more: StorePath,
    checkpoint: StorePath | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    listen: Listen = ignore,
    own: StorePath | None = None,
    apart: Apart | None = None,
    ray: bool | str = False,
) -> Sounds:
    """Open a store, or several that were computed the same way.

    Nothing of them is read yet. A store that is not there is made by the first `index`.

    Args:
        store: Its folder.
        more: Other stores, which are asked together with the first.
        checkpoint: Name or file of the network; None for the one that the store was made with, or
            for a new store the published ConvNeXt-Tiny.
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
        precision: "fp32", what published figures are of; "bf16"; or "auto", which is bf16 on a GPU
            and on a CPU that computes it much faster, else fp32.
        listen: Hears how far long work is, and sentences about it; `print` will do.
        own: Folder for what is added to the store, where it is not to be in the store itself: the
            store may only be read, for one.
        apart: What decodes files that ask in a process of its own, so that one which crashes a
            decoder ends in an error; None to decode them in this process.
        ray: Whether questions are answered on a Ray cluster, by an actor for each share of the
            segments of the stores, which every machine has to see at the same paths: True for the
            cluster of RAY_ADDRESS or of this machine, or else a new one here; or its address. What
            asks in words is answered here.

    Raises:
        SoundalikeError: If there is no such cluster, or Ray is not installed.
    """
    paths = [as_path("a store", one) for one in (store, *more)]
    name = None if checkpoint is None else as_name_or_path("a checkpoint", checkpoint)
    settings = Settings(checkpoint=name, device=device, precision=precision)
    kept_in = None if own is None else as_path("a folder", own)
    spread = None
    if ray is not False:
        from soundalike.spread import Spread  # noqa: PLC0415 - only for those who ask so

        spread = Spread(None if ray is True else ray)
    return Sounds(paths, settings, listen, kept_in, apart, spread)
