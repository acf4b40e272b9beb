"""The `soundalike` command as a process: exit codes, signals, and errors in one line.

`python -m soundalike` is the same.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from io import TextIOWrapper
from types import ModuleType
from typing import TextIO

import typer
from typer.exceptions import TyperException

from indexer.errors import ExpressionError, SoundalikeError, SoundalikeWarning
from indexer.paths import printable
from soundalike.cli import app as cli
from soundalike.hints import with_hint

#: What the command line library returns after Ctrl-C: 128 + SIGINT.
_INTERRUPTED = 130
#: The same for SIGTERM, which a machine sends that is about to be taken away.
_TERMINATED = 143

# Nearly all that a command makes are modules, which stay until it ends. Looking through them for
# what could be collected, every 700 objects and once more at the end, takes a second with PyTorch.
gc.set_threshold(20_000)
atexit.register(gc.freeze)


class _Terminated(BaseException):
    """SIGTERM: what was computed is committed on the way out."""


def _terminate(*_: object) -> None:
    raise _Terminated


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


def main() -> None:
    """Run the command; an expected error is one line on stderr and an exit code.

    A filter expression that cannot be read adds two lines, which show the spot.
    """
    signal.signal(signal.SIGTERM, _terminate)
    _print_whatever_it_is(sys.stdout)
    finder = WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", SoundalikeWarning)  # whatever Python was told
            warnings.showwarning = _show_warning
            code = cli.app(prog_name="soundalike", standalone_mode=False)
    except ExpressionError as error:
        code = _complain(*error.lines, code=1)
    except SoundalikeError as error:
        code = _complain(with_hint(error), code=1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else cli.app.info.name
        problem = error.format_message().rstrip(".")
        code = _complain(f"{problem}; '{command} --help' explains", code=error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        code = 1
    except OSError as error:  # a full disk, for one
        code = _complain(str(error), code=1)
    except _Terminated:
        code = _TERMINATED
    finally:
        sys.meta_path.remove(finder)
    if code in (_INTERRUPTED, _TERMINATED):
        embeds = sys.argv[1:2] in (["index"], ["extract"])
        kept = "; what was embedded is kept, and running again continues" if embeds else ""
        _complain(f"stopped{kept}", code=code)
    sys.exit(code or 0)


def _print_whatever_it_is(stream: TextIO) -> None:
    """Escape what the encoding of a stream does not have, as Python does on stderr."""
    if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


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
    typer.echo(
        "\n".join(printable(line) for line in (f"soundalike: {lines[0]}", *lines[1:])), err=True
    )
    return code


if __name__ == "__main__":
    main()
