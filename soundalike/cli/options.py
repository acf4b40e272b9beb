"""Options of several commands, declared once: they are made from the fields of dataclasses."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import typer

from indexer.audio.times import seconds_of
from indexer.errors import QueryError
from search.nearest.limits import (
    DEFAULT_RECALL,
    LEAST_MEMORY_BYTES,
    LEAST_RECALL,
    MOST_MEMORY_BYTES,
    MOST_RECALL,
)
from soundalike.cli.numbers import number_option

# The help of every command is made from this: nothing here takes long to import.

_KEYWORD = inspect.Parameter.KEYWORD_ONLY

#: Values of a group of options, by the names of the fields: keyword arguments of what takes them.
Given = dict[str, Any]
Format = Literal["text", "json"]

LibraryArgument = Annotated[
    Path,
    typer.Argument(
        metavar="LIBRARY",
        help="Folder of audio, walked with its subfolders; a pack: tar, zip, PANNs' waveforms in "
        "HDF5, or Parquet with a column of sounds; or where objects lie: s3://BUCKET/PREFIX, "
        "gs://, az://, https://.",
    ),
]
StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", help="A directory that 'index' made.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that are there already.")]
FormatOption = Annotated[Format, typer.Option("--format", help="json is for programs.")]
ThresholdOption = Annotated[
    float, number_option(float, 0, 1, "P", "Probability that counts as heard.")
]
MeasuredOption = Annotated[
    float,
    number_option(
        float,
        0,
        1,
        "P",
        "Probability that counts as heard; auto: for each tag what 'thresholds' measured, or else "
        "0.25.",
        words=("auto",),
    ),
]
MemoryOption = Annotated[
    float | None,
    number_option(
        float,
        LEAST_MEMORY_BYTES / 1e9,
        MOST_MEMORY_BYTES // 10**9,
        "GB",
        "What the index may take while it is built. Default: half of the machine's memory.",
    ),
]
RecallOption = Annotated[
    float | None,
    number_option(
        float,
        LEAST_RECALL,
        MOST_RECALL,
        "R",
        "Share of the true best 10 to find where answers are not exact. "
        f"Default: {DEFAULT_RECALL}.",
    ),
]


def complete_tag(incomplete: str) -> list[str]:
    """Return the tags that begin so, for the shell: those that it needs no quotes for."""
    from indexer.tags import TagVocabulary  # it reads the vocabulary

    names = [tag.name for tag in TagVocabulary.audioset().tags if shlex.quote(tag.name) == tag.name]
    begin = incomplete.casefold()
    found = sorted(name for name in names if name.casefold().startswith(begin))
    return [incomplete + name[len(incomplete) :] for name in found]  # what differs is not shown


UnlikeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="QUERY",
        help="What hits are not to be like: as QUERY. The question is turned away from it. May be "
        "repeated.",
    ),
]


def _read_time(word: str) -> float:
    try:
        return seconds_of(word)
    except QueryError as error:
        raise typer.BadParameter(str(error)) from error


StartOption = Annotated[
    float | None,
    typer.Option(
        parser=_read_time,
        metavar="TIME",
        help="Where the clip begins in its file: in seconds, or as in 31:10.",
    ),
]
EndOption = Annotated[
    float | None, typer.Option(parser=_read_time, metavar="TIME", help="Where it ends.")
]
DurationOption = Annotated[
    float | None,
    typer.Option(parser=_read_time, metavar="TIME", help="Length of the clip, instead of its end."),
]


OwnOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where what was added to the store is. Default: own in the store."
    ),
]
CaptionsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="CAPTIONS…", help="A CSV per split, such as train.csv val.csv test.csv"),
]
MatchOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="Which file is which sound, where names do not say: the columns path and id.",
    ),
]
ProjectionOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which projection of text and sound. Default: the only one."),
]
AllowLeakOption = Annotated[
    bool,
    typer.Option("--allow-leak", help="Go on though the checkpoint has seen it; files say so."),
]
CleanOption = Annotated[
    bool,
    typer.Option(
        "--checkpoint-clean",
        help="Vouch that an unknown checkpoint was not trained on these clips.",
    ),
]


@dataclass(frozen=True)
class Network:
    """What embeds audio: what `soundalike.open` takes beside stores."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint; 'soundalike checkpoints' lists the names. "
            "Default: the store's, or convnext-tiny-471.",
            "unit": "NAME|FILE",
        },
    )
    device: str = field(default="auto", metadata={"help": "auto, cpu, cuda or cuda:N."})
    precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto",
        metadata={
            "help": "auto: bf16 on a GPU, and on a CPU that computes it much faster (AMX, "
            "AVX512-bf16); else fp32. For figures in papers, say fp32."
        },
    )


def takes(**groups: tuple[type, ...]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the fields of dataclasses as options.

    They stand where the command has a parameter with the name of the group, and it receives there
    what was given, see `Given`. A field becomes an option by its name, type, default and metadata:

    - `help` says what it means; a field without it is no option. `unit` stands for its value. A
      number has a `least` and a `most`.
    - `hop_s` is --hop, `num_workers` is --workers, `files_from` is --files-from, `k` is -k.
    - A tuple is an option that may be repeated, in the singular: `any_tags` is --any-tag.
    - A bool is a flag. One that is True unless told otherwise says no: --no-descendants, which its
      `opposite` explains. One that is None unless told otherwise may have a word for False, its
      `otherwise`: --all-windows or --places.

    Args:
        **groups: The dataclasses whose fields each parameter is given.
    """

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        made = {name: _options(owners) for name, owners in groups.items()}
        parameters: list[inspect.Parameter] = []
        for name, own in inspect.signature(command, eval_str=True).parameters.items():
            shared = [option.parameter for option in made.get(name, {}).values()]
            parameters += shared or [own.replace(kind=_KEYWORD)]

        @wraps(command)
        def call(**given: Any) -> None:
            for group, options in made.items():
                given[group] = {
                    name: option.value(given.pop(name)) for name, option in options.items()
                }
            command(**given)

        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        return call

    return wrap


class _Option(NamedTuple):
    """A field as an option: a parameter of the command, and what its value means for the field."""

    parameter: inspect.Parameter
    value: Callable[[Any], Any]


def _options(owners: tuple[type, ...]) -> dict[str, _Option]:
    return {
        one.name: _option(one, get_type_hints(owner)[one.name])
        for owner in owners
        for one in fields(owner)
        if "help" in one.metadata
    }


def _option(one: Field[Any], kind: Any) -> _Option:
    """Make an option of a field, by the rules of `takes`."""
    name = one.name.removeprefix("num_").removesuffix("_s").replace("_", "-")
    flag, default, value = f"--{name}" if len(name) > 1 else f"-{name}", one.default, _as_it_is
    if get_origin(kind) is tuple:
        kind, default, value = list[get_args(kind)[0]], None, _as_tuple  # type: ignore[misc]
        flag = flag.removesuffix("s")
    elif one.default is True:
        flag, default, value = f"--no-{name}", False, _opposite
    elif get_args(kind) == (bool, float):
        kind = bool
    if "otherwise" in one.metadata:
        flag += f"/--{one.metadata['otherwise']}"
    text = one.metadata["opposite" if one.default is True else "help"]
    unit: Any = one.metadata.get("unit")
    number = next((some for some in (int, float) if some in (kind, *get_args(kind))), None)
    if number:
        least, most = one.metadata["least"], one.metadata["most"]
        words = tuple(word for one in get_args(kind) for word in get_args(one))
        option = number_option(number, least, most, unit, text, flag, words=words)
        kind = number if words else kind
    else:
        completed = complete_tag if unit == "T" else None
        option = typer.Option(flag, metavar=unit, help=text, autocompletion=completed)
    parameter = inspect.Parameter(
        one.name, _KEYWORD, default=default, annotation=Annotated[kind, option]
    )
    return _Option(parameter, value)


def _as_it_is(value: Any) -> Any:
    return value


def _as_tuple(value: list[Any] | None) -> tuple[Any, ...]:
    return tuple(value or ())


def _opposite(value: bool) -> bool:
    return not value
