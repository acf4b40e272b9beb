"""The `soundalike` command as a process; `python -m soundalike` is the same.

What takes long to import is imported when signals are heard already.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from soundalike.signals import INTERRUPTED, Ending


def main() -> None:
    """Run the command, and exit with its code."""
    _open_what_is_closed()
    ending, code = Ending(), 0
    try:
        try:
            ending.begin()
            from soundalike.command import run  # noqa: PLC0415 - see above

            code = run(ending)
        finally:
            ending.end()
    except BaseException:
        if ending.code is None:
            raise
    if ending.code is not None or code == INTERRUPTED:
        code = ending.code or code
        embeds = sys.argv[1:2] in (["index"], ["extract"])
        kept = "; what was embedded is kept, and running again continues" if embeds else ""
        with suppress(OSError):  # the terminal may be gone
            sys.stderr.write(f"soundalike: stopped{kept}\n")
    _let_go_of_output()
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Put the null device where a shell has closed something, as `2>&-` does.

    Otherwise the next file that is opened would be standard error, for the libraries that write
    there: a part of a store, for one.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            lowest = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            os.set_inheritable(lowest, True)  # noqa: FBT003 - it has no name
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _let_go_of_output() -> None:
    """Write out what waits to be written; if nobody takes it, Python must not try again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
