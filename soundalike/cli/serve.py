"""The `serve` command: the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from soundalike.cli.bars import Bars, telling
from soundalike.cli.numbers import number_option
from soundalike.cli.options import Given, Network, OwnOption, QuietOption, takes
from soundalike.cli.printing import say, say_what_is_missing
from soundalike.cli.spreading import RayOption

if TYPE_CHECKING:
    from search.filters.metadata import Coverage
    from soundalike.sounds import Sounds


@takes(network=(Network,))
def serve(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE…", help="One or more stores that are asked.")
    ],
    *,
    host: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where to listen; 0.0.0.0 for all that reach this machine. Default: this machine "
            "alone.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, number_option(int, 0, 65535, "N", "Port; 0 for one that is free.")] = 8765,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Another name that browsers know this machine by. May be repeated; no other is "
            "answered to.",
        ),
    ] = None,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token", help="Let everybody on this machine ask, without the token. Only there."
        ),
    ] = False,
    browser: Annotated[
        bool, typer.Option("--browser", help="Open the page in a browser, too.")
    ] = False,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or Parquet with more columns for filters, and for hits; its column 'path' "
            "says which file a row is about.",
        ),
    ] = None,
    own: OwnOption = None,
    ray: RayOption = None,
    network: Given,
    quiet: QuietOption = False,
) -> None:
    """Open a page to search by ear: drop a sound, see and hear what is like it.

    The address that is printed opens the page; it has a token in it, which nobody else knows.
    Ctrl-C ends the server. Programs ask the same server: /api/docs says how, and in Python
    soundalike.connect(ADDRESS) asks as soundalike.open does.

    Example: soundalike serve recordings.soundalike

    Example: soundalike serve recordings.soundalike --browser --metadata sheet.csv

    Example: soundalike serve recordings.soundalike --host 0.0.0.0 --name birds.example.org
    """
    with telling("starting"):
        import webbrowser

        import soundalike
        from indexer.reading.apart import Apart
        from soundalike.web.address import Address
        from soundalike.web.serve import serve as run

    def began(address: str) -> None:
        typer.echo(address)
        if not quiet:
            say("the page is at this address; Ctrl-C ends it")
        if not where.is_loopback:
            say("others can open it as well; what they send and hear is not encrypted")
        if browser:
            webbrowser.open(address)

    where = Address(host, port, name or (), has_token=not no_token)
    apart = Apart()
    with Bars(quiet=quiet) as bars:
        spread = False if ray is None else ray
        sounds = soundalike.open(*stores, own=own, **network, listen=bars, apart=apart, ray=spread)
        if any(network[one] != getattr(Network, one) for one in network):
            sounds.load()  # what was asked for may not be there
        if metadata and not quiet:
            say_what_is_missing(_coverage(sounds, metadata), 0)
        run(sounds, apart, where, metadata, began=began)


def _coverage(sounds: Sounds, metadata: Path) -> Coverage | None:
    """Return how metadata and the stores fit together; None where there is no index yet."""
    from indexer.errors import StoreError

    try:
        return sounds.search(where="duration >= 0", metadata=metadata, k=1).coverage
    except StoreError:
        return None
