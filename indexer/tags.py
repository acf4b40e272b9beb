"""The tag vocabulary: AudioSet's 527 outputs by index, mid or name, and the ontology above them.

Everything is keyed by mid, the ontology's own identifier: positions have been got wrong before, and
names have more than one spelling.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from itertools import groupby, islice
from numbers import Real
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from indexer.errors import UnknownTagError
from indexer.paths import bundled_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: From this probability on, a tag is heard: that of the published demo (audioset-convnext-inf).
DEFAULT_THRESHOLD = 0.25
#: Share that is right of what is heard at a threshold that was measured, unless told otherwise.
DEFAULT_PRECISION = 0.8
#: From which probability on a tag is heard: one for all, or (527,) float32, one for each. In words:
#: naming tags should not import NumPy.
Threshold: TypeAlias = "float | npt.NDArray[np.float32]"
#: Most tags that an error message proposes.
_MAX_PROPOSED = 3
#: A proposed name must be this like what was asked for, in itself and compared with the best.
_MIN_LIKENESS = 0.45
_MIN_SHARE_OF_BEST = 0.88
#: A word of at least 3 letters is nearly the same as one with at most 4 more before or after it:
#: "bark" and "barking", "phone" and "telephone", but not "car" and "Carnatic".
_MIN_STEM_LETTERS = 3
_MAX_EXTRA_LETTERS = 4
#: Spelling this close is taken for a slip.
_MIN_SLIP_RATIO = 0.8
#: What a word that is in no name weighs beside the others, whose weights are about 3 to 7.
_UNKNOWN_WORD_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class Tag:
    """A node of the ontology.

    Attributes:
        mid: Identifier in the ontology, such as "/m/04rlf".
        name: Display name: of the output where there is one, otherwise of the node.
        index: Position among the model's outputs, or None where the model has none for it.
    """

    mid: str
    name: str
    index: int | None


class Node(NamedTuple):
    """One entry of an ontology file.

    Attributes:
        mid: Its identifier.
        name: Its name there.
        children: Identifiers of the nodes directly below it.
    """

    mid: str
    name: str
    children: tuple[str, ...]


class TagVocabulary:
    """The model's outputs, and the directed acyclic graph of kinds of sound that they are nodes of.

    Attributes:
        nodes: Every node, in the order of the ontology file.
        tags: The nodes with an output, in output order.
        names: Their display names, in output order.
        groups: (mid, output indices) of every node with two or more outputs at or below it, in the
            order of the ontology file. Search keeps a column of its own for each.
    """

    def __init__(self, labels: Sequence[tuple[str, str]], ontology: Sequence[Node]) -> None:
        """Build a vocabulary.

        Args:
            labels: (mid, display name) of every output, in output order.
            ontology: Every node, including those of the labels.
        """
        display_names = dict(labels)
        index_of = {mid: index for index, mid in enumerate(display_names)}
        self.nodes = tuple(
            Tag(node.mid, display_names.get(node.mid, node.name), index_of.get(node.mid))
            for node in ontology
        )
        self._by_mid = {tag.mid: tag for tag in self.nodes}
        self.tags = tuple(self._by_mid[mid] for mid in display_names)
        self.names = tuple(display_names.values())

        self._children = {node.mid: node.children for node in ontology}
        self._parents: dict[str, list[str]] = {node.mid: [] for node in ontology}
        for node in ontology:
            for child in node.children:
                self._parents[child].append(node.mid)
        self._outputs = {tag.mid: _indices(tag, *self.descendants(tag)) for tag in self.nodes}
        self.groups = tuple(
            (mid, indices) for mid, indices in self._outputs.items() if len(indices) > 1
        )

        # Later keys win: an output's display name over the same name elsewhere in the ontology.
        self._by_text = {_normalise(node.name): self._by_mid[node.mid] for node in ontology}
        for tag in self.tags:
            self._by_text[_normalise(tag.name)] = tag
            self._by_text[str(tag.index)] = tag
        for tag in self.nodes:
            self._by_text[tag.mid.casefold()] = tag

    @classmethod
    @cache
    def audioset(cls) -> TagVocabulary:
        """Return AudioSet's vocabulary, read once from the files that come with the package.

        Returns:
            527 outputs among 632 nodes.

        Source: Gemmeke et al. 2017, "Audio Set: an ontology and human-labeled dataset for audio
        events"; see metadata/SOURCES.md.
        """
        labels_path = bundled_path("metadata/class_labels_indices.csv")
        with labels_path.open(encoding="utf-8", newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
        entries = json.loads(bundled_path("metadata/ontology.json").read_text(encoding="utf-8"))
        return cls(
            [(row["mid"], row["display_name"]) for row in rows],
            [Node(entry["id"], entry["name"], tuple(entry["child_ids"])) for entry in entries],
        )

    def find(self, text: str) -> Tag | None:
        """Return the node that `resolve` does; None where that is an error."""
        return self._by_text.get(_normalise(text))

    def resolve(self, text: str) -> Tag:
        """Return the node that a person means.

        Args:
            text: An output index ("137"), a mid ("/m/04rlf") or a name, as the ontology or as the
                label file spells it. Letter case, and space around words and commas, do not matter.

        Returns:
            The node; it need not have an output.

        Raises:
            UnknownTagError: If there is none; the message proposes names that are like it.
        """
        tag = self.find(text)
        if tag is not None:
            return tag
        likely = self._likely(text)
        question = f"did you mean {_in_words(likely)}? " if likely else ""
        raise UnknownTagError(f"unknown tag {text!r}; {question}{self._advice()}.", about="tags")

    def outputs(self, tag: Tag, descendants: bool = True) -> tuple[int, ...]:
        """Return the outputs that stand for a node.

        Args:
            tag: A node of this vocabulary.
            descendants: Whether the nodes below it count. "Animal" is then 65 outputs, not one.

        Returns:
            Output indices, ascending, at least one.

        Raises:
            UnknownTagError: If there is none; the message names the nearest nodes that have one.
        """
        indices = self._outputs[tag.mid]
        if not indices:
            raise UnknownTagError(
                f"tag '{tag.name}' has no output in the model; {self._nearest_with_outputs(tag)}.",
                about="tags",
            )
        if descendants:
            return indices
        if tag.index is None:
            below = [self.tags[index].name for index in indices[:_MAX_PROPOSED]]
            raise UnknownTagError(
                f"tag '{tag.name}' has no output of its own; count its descendants "
                f"({len(indices)} outputs), or ask for one of them, such as {_in_words(below)}."
            )
        return (tag.index,)

    def children(self, tag: Tag) -> tuple[str, ...]:
        """Return the mids of the nodes directly below one, in the order of the ontology file."""
        return self._children[tag.mid]

    def descendants(self, tag: Tag) -> tuple[Tag, ...]:
        """Return every node below one, each once, nearest first, without itself."""
        return tuple(self._by_mid[mid] for mid in _reachable(tag.mid, self._children))

    def ancestors(self, tag: Tag) -> tuple[Tag, ...]:
        """Return every node above one, each once, nearest first, without itself."""
        return tuple(self._by_mid[mid] for mid in _reachable(tag.mid, self._parents))

    def _nearest_with_outputs(self, tag: Tag) -> str:
        """Say which nodes above and beside one could be asked for in its place."""
        above = [node for node in self.ancestors(tag) if self._outputs[node.mid]]
        beside = {
            child: self._by_mid[child].name
            for parent in self._parents[tag.mid]
            for child in self._children[parent]
            if self._outputs[child]
        }
        proposed = []
        if above:
            proposed.append(f"'{above[0].name}' above it")
        if beside:
            proposed.append(f"{_in_words(list(beside.values())[:_MAX_PROPOSED])} beside it")
        if not proposed:
            return self._advice()
        return f"the nearest with one: {', or '.join(proposed)}"

    def _advice(self) -> str:
        return f"give one of {len(self.tags)} by name, AudioSet id or index"

    def _likely(self, text: str) -> list[str]:
        """Return the names that are most like a text, best first, perhaps none."""
        rarity = self._rarity_of_words()
        # Between equals, those that can be used in a query come first.
        ranked = sorted(
            (-_likeness(text, tag.name, rarity), not self._outputs[tag.mid], tag.name)
            for tag in self.nodes
        )[:_MAX_PROPOSED]
        least = max([_MIN_LIKENESS, *(_MIN_SHARE_OF_BEST * -score for score, _, _ in ranked)])
        return [name for score, _, name in ranked if -score >= least]

    def _rarity_of_words(self) -> dict[str, float]:
        """Return how telling each word is: "music" is in dozens of names, "violin" in one."""
        counts = Counter(word for tag in self.nodes for word in _words(tag.name))
        return {word: math.log(2 * len(self.nodes) / count) for word, count in counts.items()}


def _indices(*tags: Tag) -> tuple[int, ...]:
    return tuple(sorted(tag.index for tag in tags if tag.index is not None))


def _reachable(start: str, steps: Mapping[str, Iterable[str]]) -> list[str]:
    """Return where the steps lead from a start, nearest first, each once, without the start."""
    found: dict[str, None] = {}
    queue = deque(steps[start])
    while queue:
        mid = queue.popleft()
        if mid not in found:
            found[mid] = None
            queue.extend(steps[mid])
    return list(found)


def _normalise(text: str) -> str:
    """Return a text without what a person gets differently: letter case, space, space at commas."""
    return re.sub(r"\s*,\s*", ", ", " ".join(text.split())).casefold()


def _likeness(asked: str, name: str, rarity: Mapping[str, float]) -> float:
    """Return from 0 to 1 how like a text is to a name, or to one of the synonyms that it lists."""
    theirs = _words(asked)
    return max(_overlap(_words(part), theirs, rarity) for part in (name, *name.split(",")))


def _overlap(ours: Sequence[str], theirs: Sequence[str], rarity: Mapping[str, float]) -> float:
    """Return from 0 to 1 how much of what was asked for, `theirs`, is in a name, `ours`."""
    if not theirs or "".join(ours) == "".join(theirs):  # "birdsong", "thunder storm"
        return float(bool(theirs))
    found = [max((_alike(word, own) for own in ours), default=0.0) for word in theirs]
    weights = [rarity.get(word, _UNKNOWN_WORD_WEIGHT) for word in theirs]
    weighted = sum(f * w for f, w in zip(found, weights, strict=True)) / sum(weights)
    # What was asked for matters most; of two names that have it, the shorter one is meant.
    return 0.6 * weighted + 0.4 * 2 * sum(found) / (len(ours) + len(theirs))


def _alike(first: str, second: str) -> float:
    """Return 1 for equal words, less for a longer form or a slip of the pen, otherwise 0."""
    if first == second:
        return 1.0
    stem, word = sorted((first, second), key=len)
    if len(stem) < _MIN_STEM_LETTERS or len(word) - len(stem) > _MAX_EXTRA_LETTERS:
        return 0.0
    if stem in (word[: len(stem)], word[-len(stem) :]):
        return 0.85 if word.startswith(stem) else 0.7
    if any(_swap_at(first, at) == second for at in range(len(first) - 1)):
        return 0.75
    ratio = SequenceMatcher(None, first, second).ratio()
    return 0.9 * ratio if ratio >= _MIN_SLIP_RATIO else 0.0


def _swap_at(word: str, at: int) -> str:
    """Return a word with the letter at a place and the next one the other way round: "Brid"."""
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\w+", text.casefold())))


def _in_words(names: Sequence[str]) -> str:
    """Return "'a', 'b' or 'c'"."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


class HeardTag(NamedTuple):
    """A tag, and its probability in a window."""

    tag: Tag
    probability: float


def reaches(probabilities: npt.NDArray[np.floating], threshold: Threshold) -> npt.NDArray[np.bool_]:
    """Return which probabilities reach a threshold; both are compared as float32.

    Args:
        probabilities: (…, n), of any floating type.
        threshold: One for all, or (n,).
    """
    wide = probabilities.astype("float32", copy=False)
    reached: npt.NDArray[np.bool_] = wide >= wide.dtype.type(threshold)
    return reached


def threshold_of(threshold: Any, outputs: Any) -> Any:
    """Return the threshold of an output, or of several, be it one for all or one for each."""
    return threshold if isinstance(threshold, Real) else threshold[outputs]


def least_of(threshold: Any) -> Any:
    """Return the least threshold of any output, be it one for all or one for each."""
    return threshold if isinstance(threshold, Real) else threshold.min()


def pick_heard(
    probabilities: npt.NDArray[np.floating], *, threshold: Threshold, top: int | None = None
) -> list[HeardTag]:
    """Return the tags of one window that reach a threshold, see `pick_heard_each`.

    Args:
        probabilities: (527,), of any floating type.
        threshold: As there.
        top: Likewise.
    """
    return pick_heard_each(probabilities[None], threshold=threshold, top=top)[0]


def pick_heard_each(
    probabilities: npt.NDArray[np.floating], *, threshold: Threshold, top: int | None = None
) -> list[list[HeardTag]]:
    """Return the tags of each of some windows that reach a threshold.

    Args:
        probabilities: (n, 527), of any floating type.
        threshold: Probability from which on a tag counts; one for all, or (527,).
        top: At most this many of a window; None for all.

    Returns:
        Of each window, the most probable first; of equals, the lower index.
    """
    vocabulary = TagVocabulary.audioset().tags
    window, tag = reaches(probabilities, least_of(threshold)).nonzero()  # few, and quickly sorted
    found = probabilities[window, tag]
    order = (-found.astype("float32")).argsort(kind="stable")
    order = order[window[order].argsort(kind="stable")]
    columns = window, tag, found, reaches(found, threshold_of(threshold, tag))
    rows = zip(*(one[order].tolist() for one in columns), strict=True)
    heard: list[list[HeardTag]] = [[] for _ in probabilities]
    for at, group in groupby(rows, key=itemgetter(0)):
        heard[at] = [
            HeardTag(vocabulary[index], probability)
            for _, index, probability, is_heard in islice(group, top)
            if is_heard
        ]
    return heard
