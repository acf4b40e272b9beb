"""The vocabulary against plain recursion over the raw files, and over random graphs."""

from __future__ import annotations

import csv
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import UnknownTagError
from indexer.tags import Node, Tag, TagVocabulary

METADATA = Path(__file__).parent.parent / "metadata"

# The oracle: the files read a second time, and recursion where the module walks in breadth.
ENTRIES: dict[str, Any] = {
    entry["id"]: entry
    for entry in json.loads((METADATA / "ontology.json").read_text(encoding="utf-8"))
}
with (METADATA / "class_labels_indices.csv").open(encoding="utf-8", newline="") as _file:
    LABELS = [(row["index"], row["mid"], row["display_name"]) for row in csv.DictReader(_file)]
INDEX_OF = {mid: int(index) for index, mid, _ in LABELS}


@cache
def mids_below(mid: str) -> frozenset[str]:
    children = ENTRIES[mid]["child_ids"]
    return frozenset(children).union(*(mids_below(child) for child in children))


def outputs_at_or_below(mid: str) -> tuple[int, ...]:
    return tuple(sorted(INDEX_OF[m] for m in {mid} | mids_below(mid) if m in INDEX_OF))


@pytest.fixture(scope="module")
def audioset() -> TagVocabulary:
    return TagVocabulary.audioset()


def message_of(vocabulary: TagVocabulary, text: str) -> str:
    with pytest.raises(UnknownTagError) as raised:
        vocabulary.resolve(text)
    return str(raised.value)


# --- the bundled files ---------------------------------------------------------------------------


def test_label_file_rows_are_in_output_order() -> None:
    assert [index for index, _, _ in LABELS] == [str(index) for index in range(527)]


def test_label_file_names_and_mids_are_the_ontologys() -> None:
    assert all(ENTRIES[mid]["name"] == name for _, mid, name in LABELS)


def test_ontology_names_differ_even_without_letter_case() -> None:
    assert len({entry["name"].casefold() for entry in ENTRIES.values()}) == len(ENTRIES)


def test_ontology_children_are_nodes() -> None:
    assert all(child in ENTRIES for entry in ENTRIES.values() for child in entry["child_ids"])


# --- the vocabulary as a whole -------------------------------------------------------------------


def test_audioset_twice_is_read_once(audioset: TagVocabulary) -> None:
    assert TagVocabulary.audioset() is audioset


def test_tags_equal_the_label_file(audioset: TagVocabulary) -> None:
    assert audioset.tags == tuple(Tag(mid, name, int(index)) for index, mid, name in LABELS)
    assert audioset.names == tuple(name for _, _, name in LABELS)


def test_nodes_are_in_the_order_of_the_ontology_file(audioset: TagVocabulary) -> None:
    assert [tag.mid for tag in audioset.nodes] == list(ENTRIES)


def test_counts_equal_the_published_ontology(audioset: TagVocabulary) -> None:
    num_outputs = {tag.mid: len(outputs_at_or_below(tag.mid)) for tag in audioset.nodes}
    parents = Counter(child for entry in ENTRIES.values() for child in entry["child_ids"])

    assert len(audioset.nodes) == 632
    assert sum(count > 1 for count in parents.values()) == 38
    assert sum(tag.index is None for tag in audioset.nodes) == 105
    assert sum(num_outputs[tag.mid] > 1 for tag in audioset.tags) == 119
    assert sum(count == 0 for count in num_outputs.values()) == 75
    assert sum(count > 1 for count in num_outputs.values()) == 145


# --- outputs and groups --------------------------------------------------------------------------


def test_outputs_every_node_equal_the_recursive_oracle(audioset: TagVocabulary) -> None:
    for tag in audioset.nodes:
        expected = outputs_at_or_below(tag.mid)
        if expected:
            assert audioset.outputs(tag) == expected
        else:
            with pytest.raises(UnknownTagError):
                audioset.outputs(tag)


@pytest.mark.parametrize(("name", "count"), [("Animal", 65), ("Music", 150), ("Human voice", 40)])
def test_outputs_wide_name_has_known_count(audioset: TagVocabulary, name: str, count: int) -> None:
    assert len(audioset.outputs(audioset.resolve(name))) == count


def test_outputs_without_descendants_is_the_tags_own(audioset: TagVocabulary) -> None:
    for tag in audioset.tags:
        assert audioset.outputs(tag, descendants=False) == (tag.index,)


def test_outputs_without_descendants_of_node_without_own_is_refused(
    audioset: TagVocabulary,
) -> None:
    with pytest.raises(UnknownTagError, match=r"'Human voice' has no output of its own.*'Speech'"):
        audioset.outputs(audioset.resolve("Human voice"), descendants=False)


@pytest.mark.parametrize("descendants", [True, False])
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Oboe", "'Wind instrument, woodwind instrument' above it, or 'Flute'"),
        ("Bassoon", "'Wind instrument, woodwind instrument' above it, or 'Flute'"),
        ("Yawn", "'Human voice' above it, or 'Speech'"),
        ("Drum beat", "'Musical concepts' above it."),  # its parent has none, and no sibling has
    ],
)
def test_outputs_node_without_any_names_the_nearest(
    audioset: TagVocabulary, name: str, nearest: str, descendants: bool
) -> None:
    with pytest.raises(UnknownTagError) as raised:
        audioset.outputs(audioset.resolve(name), descendants=descendants)
    assert str(raised.value).startswith(f"tag '{name}' has no output in the model; ")
    assert nearest in str(raised.value)


def test_outputs_orphan_without_any_points_to_the_list() -> None:
    vocabulary = TagVocabulary([("/m/a", "A")], [Node("/m/a", "A", ()), Node("/m/b", "B", ())])
    with pytest.raises(
        UnknownTagError, match="give one of 1 by name, AudioSet id or index"
    ) as caught:
        vocabulary.outputs(vocabulary.resolve("B"))
    assert caught.value.about == "tags"


def test_groups_are_the_nodes_with_several_outputs_in_file_order(audioset: TagVocabulary) -> None:
    expected = [(mid, outputs_at_or_below(mid)) for mid in ENTRIES]
    assert audioset.groups == tuple((mid, own) for mid, own in expected if len(own) > 1)
    assert len(audioset.groups) == 145


# --- the graph -----------------------------------------------------------------------------------


def test_descendants_every_node_equal_the_recursive_oracle(audioset: TagVocabulary) -> None:
    for tag in audioset.nodes:
        below = [node.mid for node in audioset.descendants(tag)]
        assert len(below) == len(set(below))
        assert set(below) == mids_below(tag.mid)


def test_ancestors_every_node_are_the_inverse_of_descendants(audioset: TagVocabulary) -> None:
    for tag in audioset.nodes:
        assert {node.mid for node in audioset.ancestors(tag)} == {
            mid for mid in ENTRIES if tag.mid in mids_below(mid)
        }


def test_ancestors_are_nearest_first(audioset: TagVocabulary) -> None:
    above = [node.name for node in audioset.ancestors(audioset.resolve("Bark"))]
    assert above == ["Dog", "Domestic animals, pets", "Animal"]


@st.composite
def vocabularies(draw: st.DrawFn) -> tuple[list[tuple[str, str]], list[Node]]:
    """Random acyclic graphs: a node's children come after it, some nodes are outputs."""
    size = draw(st.integers(1, 12))
    mids = [f"/m/{number}" for number in range(size)]
    nodes = [
        Node(
            mid, f"Name {mid}", tuple(draw(st.lists(st.sampled_from(mids[at + 1 :]), unique=True)))
        )
        if at + 1 < size
        else Node(mid, f"Name {mid}", ())
        for at, mid in enumerate(mids)
    ]
    labelled = draw(st.lists(st.sampled_from(mids), unique=True))
    return [(mid, f"Label {mid}") for mid in labelled], draw(st.permutations(nodes))


@settings(deadline=None)
@given(vocabularies())
def test_vocabulary_any_graph_equals_recursion(
    made: tuple[list[tuple[str, str]], list[Node]],
) -> None:
    labels, nodes = made
    children = {node.mid: node.children for node in nodes}
    index_of = {mid: index for index, (mid, _) in enumerate(labels)}

    def below(mid: str) -> set[str]:
        return set(children[mid]).union(*map(below, children[mid]))

    def at_or_below(mid: str) -> tuple[int, ...]:
        return tuple(sorted(index_of[m] for m in {mid} | below(mid) if m in index_of))

    vocabulary = TagVocabulary(labels, nodes)

    assert vocabulary.groups == tuple(
        (node.mid, at_or_below(node.mid)) for node in nodes if len(at_or_below(node.mid)) > 1
    )
    for tag in vocabulary.nodes:
        assert {node.mid for node in vocabulary.descendants(tag)} == below(tag.mid)
        if at_or_below(tag.mid):
            assert vocabulary.outputs(tag) == at_or_below(tag.mid)
        else:
            with pytest.raises(UnknownTagError):
                vocabulary.outputs(tag)


# --- resolving -----------------------------------------------------------------------------------


def test_resolve_index_mid_and_name_give_the_same_tag(audioset: TagVocabulary) -> None:
    for index, mid, name in LABELS:
        expected = Tag(mid, name, int(index))
        assert [audioset.resolve(text) for text in (index, mid, name)] == [expected] * 3


def test_resolve_node_without_output_is_found(audioset: TagVocabulary) -> None:
    assert audioset.resolve("oboe") == Tag("/m/05kms", "Oboe", None)


@settings(deadline=None)
@given(
    number=st.integers(0, 631),
    change=st.sampled_from([str.upper, str.lower, str.title, str.swapcase]),
    space=st.sampled_from([" ", "  ", "\t", " \n"]),
)
def test_resolve_letter_case_and_space_do_not_matter(number: int, change: Any, space: str) -> None:
    tag = TagVocabulary.audioset().nodes[number]
    name = space + change(tag.name).replace(", ", space + "," + space).replace(" ", space) + space
    assert TagVocabulary.audioset().resolve(name) == tag
    assert TagVocabulary.audioset().resolve(space + change(tag.mid)) == tag


def test_resolve_comma_without_space_is_found(audioset: TagVocabulary) -> None:
    assert audioset.resolve("fly,housefly").name == "Fly, housefly"


def test_resolve_two_spellings_of_one_mid_give_the_label_files_name() -> None:
    vocabulary = TagVocabulary([("/m/a", "Gull")], [Node("/m/a", "Seagull", ())])
    assert vocabulary.resolve("seagull") == vocabulary.resolve("gull") == Tag("/m/a", "Gull", 0)


def test_resolve_name_shared_by_two_nodes_means_the_output() -> None:
    vocabulary = TagVocabulary(
        [("/m/b", "Roll")], [Node("/m/b", "Roll", ()), Node("/m/c", "Roll", ())]
    )
    assert vocabulary.resolve("roll").mid == "/m/b"


def test_resolve_unknown_name_proposes_and_points_to_the_list(audioset: TagVocabulary) -> None:
    assert message_of(audioset, "Dog bark") == (
        "unknown tag 'Dog bark'; did you mean 'Bark' or 'Dog'? "
        "give one of 527 by name, AudioSet id or index."
    )


@pytest.mark.parametrize(
    ("text", "proposed"),
    [
        ("musik", "'Music'"),
        ("helicoptr", "'Helicopter'"),
        ("car horn", "'Vehicle horn, car horn, honking'"),
        ("seagulls", "'Gull, seagull'"),
        ("thunder storm", "'Thunderstorm'"),
        ("birdsong", "'Bird vocalization, bird call, bird song'"),
        ("police", "'Police car (siren)'"),
        ("violin music", "'Violin, fiddle'"),
        ("clap", "'Clapping'"),
        ("wind noise", "'Wind noise (microphone)'"),
        ("glass breaking", "'Breaking' or 'Glass'"),
        ("Dgo", "'Dog'"),
        ("brid", "'Bird'"),
        ("phone", "'Marimba, xylophone', 'Saxophone' or 'Telephone'"),
    ],
)
def test_resolve_unknown_name_proposes_what_was_meant(
    audioset: TagVocabulary, text: str, proposed: str
) -> None:
    assert f"did you mean {proposed}? " in message_of(audioset, text)


@pytest.mark.parametrize("text", ["", "  ", ",", "-1", "527", "1.0", "xyzzy", "/m/nothing", "犬"])
def test_resolve_text_like_no_name_proposes_none(audioset: TagVocabulary, text: str) -> None:
    assert message_of(audioset, text) == (
        f"unknown tag {text!r}; give one of 527 by name, AudioSet id or index."
    )


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40))
def test_resolve_any_text_gives_a_node_or_unknown_tag(text: str) -> None:
    vocabulary = TagVocabulary.audioset()
    try:
        message = vocabulary.resolve(text).name
    except UnknownTagError as error:
        message = str(error)
    assert message.isprintable()  # what was typed must not reach the terminal as control characters


def test_resolve_empty_vocabulary_is_unknown_tag() -> None:
    assert message_of(TagVocabulary([], []), "Dog") == (
        "unknown tag 'Dog'; give one of 0 by name, AudioSet id or index."
    )
