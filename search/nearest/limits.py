"""What an index may be asked for: how much memory, and how much of the true best to find."""

from __future__ import annotations

# Nothing is imported here: the help of the command is made from these numbers.

#: What building takes at the least, in bytes: with less there is no room for a block of vectors.
LEAST_MEMORY_BYTES = 300_000_000
#: More than any machine has, in bytes.
MOST_MEMORY_BYTES = 100_000_000_000_000
#: A share of the true best 10; who wants all of them asks for an exact answer.
LEAST_RECALL = 0.5
MOST_RECALL = 0.999
#: Where nothing else is said, for an index that was not built before.
DEFAULT_RECALL = 0.99
#: How much of a score is how alike the tags are, unless told otherwise.
DEFAULT_TAG_WEIGHT = 0.35
