"""One space for text and sound: trained on captions, for stores that are open."""

from __future__ import annotations

import os
from typing import Any

from indexer.paths import as_path
from indexer.store.reader import Store
from search.datasets.captions import Form
from search.datasets.consent import Consent
from search.generation.segments import Generation
from search.projection.config import Training
from search.projection.rows import keep_rows
from search.projection.tables import Projected, write_projected
from search.projection.training import DEFAULT_NAME, Trained, train_projection
from search.upkeep.build import has_index
from soundalike.arguments import show_fields, take_fields
from soundalike.filling import StorePath, keeping
from soundalike.stores import Stores


class Projections(Stores):
    """Stores whose sounds can be put into one space with text."""

    def train_projection(
        self,
        *captions: StorePath,
        name: str = DEFAULT_NAME,
        form: Form | None = None,
        match: StorePath | None = None,
        output: StorePath | None = None,
        allow_leak: bool = False,
        is_clean: bool = False,
        force: bool = False,
        **how: Any,
    ) -> Trained:
        """Train what puts texts and sounds into one space, and let it see all windows.

        See `search.projection.training.train_projection`.

        Args:
            captions: A table per split: train, val and test in their names say which.
            name: What the projection will be called.
            form: "audiocaps", "clotho" or "paths" (path and caption); None to tell by the columns.
            match: A table of which file is which sound, with the columns path and id.
            output: Folder where `project` then writes these captions and their sounds.
            allow_leak: Whether a checkpoint that has heard val and test is taken nevertheless.
            is_clean: Vouch that an unknown checkpoint has not.
            force: Whether a projection of that name is replaced, and files in the folder.
            how: The fields of `Training`.

        Raises:
            SoundalikeError: If it cannot be trained on these.
            OutputError: If there is a projection of that name.
            StoreError: If there is no store, or it cannot be read or written.
        """
        store = Store.open(self._require_one("a projection is trained on"))
        trained = train_projection(
            store,
            [as_path("captions", one) for one in captions],
            self.own,
            take_fields(Training, how),
            name=name,
            form=form,
            match=None if match is None else as_path("matches", match),
            consent=Consent(allow_leak, is_clean),
            output=None if output is None else as_path("the output", output),
            force=force,
            listen=self._kept.listen,
        )
        if has_index(store):
            with keeping(trained, f"the projection {name} was trained and written"):
                keep_rows(store, Generation.current(store), self.own, self._kept.listen)
        return trained

    def project(  # noqa: PLR0913 - each is a choice of its own
        self,
        *captions: StorePath,
        output: StorePath,
        projection: str | None = None,
        text_encoder: StorePath | None = None,
        form: Form | None = None,
        match: StorePath | None = None,
        allow_leak: bool = False,
        is_clean: bool = False,
        force: bool = False,
    ) -> Projected:
        """Write projected sounds and captions into a folder, for `eval retrieval`.

        See `search.projection.tables.write_projected`.

        Args:
            captions: As for `train_projection`.
            output: The folder.
            projection: Its name; None for the only one.
            text_encoder: A file of vectors, if it was trained with such; else as for `search`.
            form: As for `train_projection`.
            match: Likewise.
            allow_leak: Likewise.
            is_clean: Likewise.
            force: Whether files that are there are replaced.

        Raises:
            SoundalikeError: If these captions cannot be projected.
            OutputError: If one of the files is there already, or cannot be written.
            StoreError: If there is no store, or it cannot be read.
        """
        store = Store.open(self._require_one("what is projected is in"))
        return write_projected(
            store,
            [as_path("captions", one) for one in captions],
            self._kept.projection(self.own, projection),
            as_path("the output", output),
            text_encoder=None if text_encoder is None else os.fspath(text_encoder),
            form=form,
            match=None if match is None else as_path("matches", match),
            consent=Consent(allow_leak, is_clean),
            force=force,
            listen=self._kept.listen,
        )


show_fields(Projections.train_projection, Training)
