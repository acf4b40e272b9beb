"""The `soundalike` command: warnings and errors in one line, and exit codes."""

from __future__ import annotations

import atexit
import gc
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from io import TextIOWrapper
from types import ModuleType
from typing import TextIO

import typer
from typer.exceptions import TyperException

from indexer.errors import ExpressionError, OutputError, SoundalikeError, SoundalikeWarning
from indexer.paths import printable
from soundalike.cli import app as cli
from soundalike.cli.printing import Printed
from soundalike.hints import with_hint
from soundalike.signals import UNREAD, Ending

# Nearly all that a command makes are modules, which stay until it ends. Looking through them for
# what could be collected, every 700 objects and once more at the end, takes a second with PyTorch.
gc.set_threshold(20_000)
atexit.register(gc.freeze)

#: What pydantic says before what is wrong.
_OF_PYDANTIC = "Value error, "


class WithoutPandas(MetaPathFinder, Loader):
    """Keeps pandas from being imported; who only looks whether it is installed, finds it.

    No command makes a data frame, but pyarrow imports pandas with the first array, wherever it is
    installed, to look whether that array comes from there: a third of what a quick command takes.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return pandas with this as its loader; others find everything else."""
        spec = PathFinder.find_spec(fullname, path) if fullname == "pandas" else None
        if spec:
            spec.loader = self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        """Refuse."""
        raise ModuleNotFoundError("no command needs pandas", name=module.__name__)


def run(ending: Ending) -> int:
    """Run the command; an expected error is one line on stderr and an exit code.

    A filter expression that cannot be read adds two lines, which show the spot.

    Args:
        ending: Whether the process was told to end: errors are a consequence then.
    """
    stdout, finder = sys.stdout, WithoutPandas()
    _print_whatever_it_is(stdout)
    sys.stdout = Printed(stdout)
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", SoundalikeWarning)  # whatever Python was told
            warnings.showwarning = _show_warning
            code = cli.app(prog_name="soundalike", standalone_mode=False) or 0
        sys.stdout.flush()
        return code
    except Exception as error:
        if ending.code is not None:
            raise
        return _explain(error)
    finally:
        sys.meta_path.remove(finder)
        sys.stdout = stdout


def _print_whatever_it_is(stream: TextIO) -> None:
    """Escape what the encoding of a stream does not have, as Python does on stderr."""
    if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def _explain(error: Exception) -> int:
    """Print an expected error, and return the exit code; raise any other."""
    if isinstance(error, OutputError) and isinstance(error.__cause__, BrokenPipeError):
        return UNREAD  # the reader of our output has gone, as `head` does
    if isinstance(error, ExpressionError):
        return _complain(*error.lines, code=1)
    if isinstance(error, SoundalikeError):
        return _complain(with_hint(error), code=1)
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else cli.app.info.name
        problem = error.format_message().rstrip(".").replace(_OF_PYDANTIC, "")
        return _complain(f"{problem}; '{command} --help' explains", code=error.exit_code)
    if isinstance(error, OSError):  # a full disk, for one
        return _complain(str(error), code=1)
    raise error


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning: our own in one line, which names no line of code."""
    from tqdm import tqdm  # noqa: PLC0415 - hardly any command warns

    with tqdm.external_write_mode(sys.stderr):
        if isinstance(message, SoundalikeWarning):
            _complain(with_hint(message), code=0)
        else:
            sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _complain(*lines: str, code: int) -> int:
    """Print a message; whatever is in a line, it stays one line."""
    text = "\n".join(printable(line) for line in (f"soundalike: {lines[0]}", *lines[1:]))
    with suppress(OSError):  # the terminal may be gone
        typer.echo(text, err=True)
    return code
