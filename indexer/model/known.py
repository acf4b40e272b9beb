"""From the name of a checkpoint to its file: which are known, and where each is."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import platformdirs

from indexer.errors import CheckpointError
from indexer.model.download import download_file, md5_of
from indexer.model.remembered import file_key, recall, remember
from indexer.paths import bundled_path
from indexer.progress import Listen, ignore

#: Environment variable that names another folder for downloaded checkpoints.
FOLDER_VARIABLE = "SOUNDALIKE_CHECKPOINTS"
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint that has a name.

    Attributes:
        name: What it is asked for by.
        filename: Of its file.
        url: Where it is published; None if nowhere, as of those that come with the package.
        md5: Digest of the file, in hex; None if nobody tells it: known by its name only.
        trained_on: The recordings it learned from.
        saw_audiocaps: Whether it, or the network that taught it, has heard clips of AudioCaps:
            figures on AudioCaps would flatter it.
        description: What it is for.
        others: What else it is called, beside the name and the address of its file.
        own_weights: Digest of its weights; None if it has to be learned from a file with the MD5.
        former: Of a version of the package that had it: where it was there; None of all others.
    """

    name: str
    filename: str
    url: str | None
    md5: str | None
    trained_on: str
    saw_audiocaps: bool
    description: str
    others: tuple[str, ...] = ()
    own_weights: str | None = None
    former: str | None = None

    @property
    def path(self) -> Path:
        """Where its file is, or will be once it is fetched."""
        if self.url is None and self.former is None:
            return bundled_path(f"checkpoints/{self.filename}")
        return checkpoint_folder() / self.filename

    @property
    def weights(self) -> str | None:
        """Digest of its weights; None if no file with its MD5 was ever loaded by this user."""
        return self.own_weights or (recall(_TAUGHT, self.md5, by_any=True) if self.md5 else None)

    def is_called(self, name: str) -> bool:
        """Whether a name is one of its own: a short one, its file's, or where that is published.

        An address may end in a slash, as browsers have it.
        """
        record = _ZENODO.fullmatch(name)
        if record and self.url:
            published = _ZENODO.fullmatch(self.url)
            return published is not None and published.groups() == record.groups()
        plain = name.rstrip("/") if "://" in name else name
        return plain in self.others or (self.url is not None and plain in (self.filename, self.url))


#: An address of a file as Zenodo has written it, then and now.
_ZENODO = re.compile(r"https?://(?:www\.)?zenodo\.org/records?/(\d+)/files/([^/?#]+)(?:[?#].*)?")
#: What files of known MD5 teach: the digest of their weights.
_TAUGHT = "weights of"

#: All but `demo` are by the authors of arXiv:2306.00830, with the digests that Zenodo lists. Short
#: names are those by which CoNeTTE's code and the baseline of DCASE 2024 ask for them.
_ALL = (
    KnownCheckpoint(
        name="convnext-tiny-471",
        filename="convnext_tiny_471mAP.pth",
        url="https://zenodo.org/record/8020843/files/convnext_tiny_471mAP.pth?download=1",
        md5="e069ecd1c7b880268331119521c549f2",
        trained_on="AudioSet",
        saw_audiocaps=True,
        description="tagging and general search; mAP 0.471 on AudioSet",
        others=("cnext_nobl",),
    ),
    KnownCheckpoint(
        name="convnext-tiny-465-audiocaps-70",
        filename="convnext_tiny_465mAP_BL_AC_70kit.pth",
        url="https://zenodo.org/record/8020843/files/convnext_tiny_465mAP_BL_AC_70kit.pth?download=1",
        md5="0688ae503f5893be0b6b71cb92f8b428",
        trained_on="AudioSet without the clips of AudioCaps",
        saw_audiocaps=False,
        description="AudioCaps experiments",
        others=("cnext_bl_70",),
    ),
    KnownCheckpoint(
        name="convnext-tiny-465-audiocaps-75",
        filename="convnext_tiny_465mAP_BL_AC_75kit.pth",
        url="https://zenodo.org/record/10987498/files/convnext_tiny_465mAP_BL_AC_75kit.pth?download=1",
        md5="f6f57c87b7eb664a23ae8cad26eccaa0",
        trained_on="AudioSet without the clips of AudioCaps",
        saw_audiocaps=False,
        description="AudioCaps experiments; what CoNeTTE uses since 0.3.0",
        others=("cnext_bl_75",),
    ),
    KnownCheckpoint(
        name="hf:topel/ConvNeXt-Tiny-AT",
        filename="topel--ConvNeXt-Tiny-AT.safetensors",
        url="https://huggingface.co/topel/ConvNeXt-Tiny-AT/resolve/main/model.safetensors",
        md5=None,
        trained_on="AudioSet (by its name: its digest is published nowhere)",
        saw_audiocaps=True,  # as long as its weights are not known to be those of another
        description="what the published demo loads from Hugging Face",
        others=("topel/ConvNeXt-Tiny-AT", "https://huggingface.co/topel/ConvNeXt-Tiny-AT"),
    ),
    KnownCheckpoint(
        name="demo",
        filename="demo.safetensors",
        url=None,
        md5="a00a0d65badd55d0b2a1a25c5ae44c6f",
        trained_on="8,865 short clips (7.5 h), as heard by YAMNet",
        saw_audiocaps=True,  # AudioCaps lies inside AudioSet, which taught YAMNet
        description="trying the tool with no download; not for results",
        own_weights="13bb83fb23894d2f22fbb0983a675c26cf27ffd96a71cc0ba3eddbd410e36e1c",
    ),
    KnownCheckpoint(
        name="demo-0.1.0",
        filename="demo-0.1.0.safetensors",
        url=None,
        md5="f3e0bcb78ed6a577c52f6ba55a5e0462",
        trained_on="3,200 short clips (1.5 h), as tagged by YAMNet",
        saw_audiocaps=True,
        description="what `demo` was in version 0.1.0; for stores that were made with it",
        own_weights="a95432275bfb3b0ed520345a9d3bf221c583af6a0e1c5c8cce649ae8abc504f5",
        former="checkpoints/demo.safetensors of soundalike 0.1.0",
    ),
)
KNOWN_CHECKPOINTS: Mapping[str, KnownCheckpoint] = MappingProxyType({k.name: k for k in _ALL})
DEFAULT_CHECKPOINT = "convnext-tiny-471"


def checkpoint_folder() -> Path:
    """Return where downloads are kept: SOUNDALIKE_CHECKPOINTS, or in the user's data folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_data_path("soundalike") / "checkpoints"


def known_as(name_or_path: str | Path) -> KnownCheckpoint | None:
    """Return the known checkpoint of a name; None for a file.

    Args:
        name_or_path: One of KNOWN_CHECKPOINTS; or what else one is called, unless there is a file
            of that name: `cnext_bl_75`, the name of its file, its address at Zenodo.
    """
    if not isinstance(name_or_path, str):
        return None
    if name_or_path in KNOWN_CHECKPOINTS:
        return KNOWN_CHECKPOINTS[name_or_path]
    if os.path.exists(name_or_path):  # noqa: PTH110 - it raises nothing
        return None
    return next((one for one in KNOWN_CHECKPOINTS.values() if one.is_called(name_or_path)), None)


def known_by_weights(digest: str) -> KnownCheckpoint | None:
    """Return the known checkpoint that has some weights, whatever file they are in.

    Args:
        digest: See `indexer.model.checkpoint.state_digest`.

    Returns:
        None if there is none, or none whose file this user has ever loaded.
    """
    return next((one for one in KNOWN_CHECKPOINTS.values() if one.weights == digest), None)


def name_now(name: str, weights: str) -> str:
    """Return what a store's checkpoint is called by now.

    Args:
        name: What it was called when the store was made: name or file.
        weights: Digest of its weights.
    """
    known = KNOWN_CHECKPOINTS.get(name)
    if known is None or known.own_weights in (None, weights):
        return name
    others = (one.name for one in KNOWN_CHECKPOINTS.values() if one.own_weights == weights)
    return next(others, name)


def recognise(path: Path, digest: str) -> KnownCheckpoint | None:
    """Return the known checkpoint that a file holds, by its weights or by its MD5.

    A file of known MD5 teaches what its weights are, and these are known from then on in any file.

    Args:
        path: The file.
        digest: Of its weights.

    Raises:
        OSError: If the file cannot be read.
    """
    found = known_by_weights(digest)
    if found is None:
        md5 = md5_of(path)
        found = next((one for one in KNOWN_CHECKPOINTS.values() if one.md5 == md5), None)
        if found is not None:
            remember(_TAUGHT, md5, digest, by_any=True)
    return found


def fetch(name: str, *, listen: Listen = ignore, download: bool = True) -> Path:
    """Return the file of a known checkpoint, downloaded if it is not there.

    Args:
        name: One of KNOWN_CHECKPOINTS, or what else it is called, see `known_as`.
        listen: Hears how far the download is, if there is one.
        download: Whether it may be downloaded.

    Returns:
        The file. Its digest was checked, also if it was put there by hand, if one is published.

    Raises:
        CheckpointError: If there is no such name, or the file can be neither found nor downloaded,
            or is not the published one.
    """
    known = known_as(name)
    if known is None:
        raise CheckpointError(f"no checkpoint is called {name!r}; {_names(name)}")
    return _fetch(known, listen, download=download)


def _fetch(known: KnownCheckpoint, listen: Listen, *, download: bool) -> Path:
    path = known.path
    with _read_errors(path):
        if known.former and not path.exists():
            raise CheckpointError(
                f"checkpoint {known.name!r} comes with no version any more; put {known.former} "
                f"(MD5 {known.md5}) at {path} yourself, or make the store anew with another"
            )
        if known.url is not None and not path.exists():
            if not download:
                raise _unavailable(known, " is not there")
            try:
                download_file(known.url, path, known.md5, listen)
            except CheckpointError as error:
                raise _unavailable(known, f": {error}") from error
        found = md5_of(path) if known.md5 else None
    if found != known.md5:
        raise CheckpointError(
            f"{path} is not checkpoint {known.name!r}, or damaged: its MD5 is {found}, not "
            f"{known.md5}; delete it and download or install it again"
        )
    return path


def locate(
    name_or_path: str | Path, *, listen: Listen = ignore, download: bool = True
) -> tuple[str, Path]:
    """Return the name and the file of a checkpoint.

    Args:
        name_or_path: One of KNOWN_CHECKPOINTS, what else it is called, see `known_as`, or a file. A
            file that is called like one of the former needs a folder before it: `./demo`.
        listen: As for `fetch`.
        download: As for `fetch`.

    Returns:
        Its name among the known ones, or that of the file; and the file.

    Raises:
        CheckpointError: As for `fetch`, or if there is no such file.
    """
    known = known_as(name_or_path)
    if known is not None:
        return known.name, _fetch(known, listen, download=download)
    path = Path(name_or_path)
    with _read_errors(path):
        if path.is_file():
            return path.name, path
        problem = "is not a file" if path.exists() else "does not exist"
    raise CheckpointError(f"checkpoint {str(path)!r} {problem}; {_names(str(path))}")


def recall_weights(name_or_path: str) -> str | None:
    """Return the digest of a checkpoint's weights, if it was loaded before and is as it was then.

    Neither the network nor PyTorch is loaded for it: see `indexer.model.checkpoint.state_digest`.

    Args:
        name_or_path: As for `locate`.

    Returns:
        64 hex digits; None if only loading the checkpoint can tell.
    """
    known = known_as(name_or_path)
    try:
        digest = recall("weights", file_key(known.path if known else Path(name_or_path)))
    except (OSError, ValueError):  # it is not there, or is no path: loading it says so
        return None
    return digest if digest and _DIGEST.fullmatch(digest) else None


def _names(wrong: str) -> str:
    names = [*KNOWN_CHECKPOINTS]
    for known in KNOWN_CHECKPOINTS.values():
        names += [known.filename, *known.others] if known.url else []
    close = difflib.get_close_matches(wrong, names, n=1)
    question = f"did you mean {close[0]!r}? " if close else ""
    return f"{question}the known names are {', '.join(KNOWN_CHECKPOINTS)}"


def _unavailable(known: KnownCheckpoint, problem: str) -> CheckpointError:
    told = f" (MD5 {known.md5})" if known.md5 else ""
    return CheckpointError(
        f"checkpoint {known.name!r}{problem}; put {known.url}{told} at {known.path} "
        f"yourself, or use the checkpoint 'demo', which needs no download",
        about="checkpoint",
        value="demo",
    )


@contextlib.contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
