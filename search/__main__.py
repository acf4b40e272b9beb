"""The `soundalike` command as a process: exit codes, signals, and errors in one line.

`python -m search` is the same.
"""

from __future__ import annotations

import signal
import sys

import typer
from typer.exceptions import TyperException

from indexer.errors import SoundalikeError
from indexer.paths import printable
from search import cli

#: What the command line library returns after Ctrl-C: 128 + SIGINT.
_INTERRUPTED = 130
#: The same for SIGTERM, which a machine sends that is about to be taken away.
_TERMINATED = 143


class _Terminated(BaseException):
    """SIGTERM: what was computed is committed on the way out."""


def _terminate(*_: object) -> None:
    raise _Terminated


def main() -> None:
    """Run the command; an expected error is one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.app(prog_name="soundalike", standalone_mode=False)
    except SoundalikeError as error:
        code = _complain(str(error), 1)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else cli.app.info.name
        problem = error.format_message().rstrip(".")
        code = _complain(f"{problem}; '{command} --help' explains", error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        code = 1
    except OSError as error:  # a full disk, for one
        code = _complain(str(error), 1)
    except _Terminated:
        code = _TERMINATED
    if code in (_INTERRUPTED, _TERMINATED):
        embeds = sys.argv[1:2] in (["index"], ["extract"])
        kept = "; what was embedded is kept, and running again continues" if embeds else ""
        _complain(f"stopped{kept}", code)
    sys.exit(code or 0)


def _complain(message: str, code: int) -> int:
    typer.echo(f"soundalike: {printable(message)}", err=True)
    return code


if __name__ == "__main__":
    main()
