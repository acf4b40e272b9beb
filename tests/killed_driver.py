"""The driver of a run on a cluster, as a process of its own: to be killed."""

from __future__ import annotations

import sys
from pathlib import Path

from ray_workers import Watched

from indexer.progress import News
from indexer.run import cutting
from indexer.run.config import ExtractConfig, Settings
from indexer.run.spread import embed_spread
from indexer.run.survey import survey
from indexer.store.reader import Store


def listen(news: News) -> None:
    told = news if isinstance(news, str) else f"done {news.done} of {news.total}"
    sys.stdout.write(f"{told}\n")
    sys.stdout.flush()


def main(address: str, library: str, place: str, checkpoint: str) -> None:
    cutting.FIRST_BYTES, cutting.SHARD_S, cutting.LEAST_S = 400_000, 1.0, 0.5
    config = ExtractConfig(num_workers=1, batch_size=2)
    store = Store.open(Path(place))
    with survey(Path(library), store, config, listen) as surveyed:
        if surveyed.has_files_to_read:
            settings = Settings(checkpoint=checkpoint)
            embed_spread(surveyed, settings, config, listen, address=address, kind=Watched)
        else:
            surveyed.settle(config)


if __name__ == "__main__":
    main(*sys.argv[1:])
