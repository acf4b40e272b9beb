"""The guard against publishing a leak: figures of a checkpoint on what it was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from indexer.errors import SoundalikeError
from indexer.model.known import KNOWN_CHECKPOINTS
from indexer.store.reader import Store
from search.datasets.consent import Consent
from search.datasets.provenance import known_checkpoint
from search.datasets.splits import role_of


def leak(store: Store, dataset: str, split: str, *, is_clean: bool) -> str | None:
    """Say why a split must not be evaluated with a store's checkpoint.

    Args:
        store: Made with some checkpoint.
        dataset: "AudioCaps" or "Clotho".
        split: Its name; what no word of it says to be for training, see `role_of`, is for
            evaluation. AudioCaps lies inside AudioSet's training set, and its own training split
            may be looked at.
        is_clean: Whether the user vouches for an unknown checkpoint.

    Returns:
        A sentence, or None if nothing speaks against it.
    """
    known = known_checkpoint(store)
    if known is not None and known.url is None:
        return (
            f"{known.name} was trained on {known.trained_on}, for trying the tool: not for results"
        )
    if dataset != "AudioCaps" or role_of(split) == "train":
        return None
    if known is None:
        if is_clean:
            return None
        return (
            f"{store.checkpoint} is none of the published checkpoints: it may have been trained on "
            f"the clips of AudioCaps"
        )
    if known.saw_audiocaps:
        return (
            f"{known.name} was trained on {known.trained_on}, which has the clips of AudioCaps in "
            f"it: figures on its {split} split would be too good"
        )
    return None


def require_no_leak(
    store: Store, dataset: str, splits: Sequence[str], consent: Consent
) -> str | None:
    """Stop before a leak is exported, unless that is wanted.

    Returns:
        What is wrong with it, to be written into every file; None if nothing is.

    Raises:
        SoundalikeError: If there is a leak and it is not allowed; names the right checkpoint.
    """
    found = [leak(store, dataset, split, is_clean=consent.is_clean) for split in splits]
    reason = next((one for one in found if one), None)
    if reason and not consent.allow_leak:
        right = [one.name for one in KNOWN_CHECKPOINTS.values() if not one.saw_audiocaps]
        is_unknown = known_checkpoint(store) is None
        raise SoundalikeError(
            f"{reason}. Embed again with {' or '.join(right)}",
            about="is_clean" if is_unknown else "allow_leak",
        )
    return reason
