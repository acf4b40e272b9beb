"""Answers `blend_cost.py`: CPU seconds of questions to a store, by the code that is on the path.

Each line of the input is JSON: a window that asks, whether exactly, and the weight of tags; None
for code that has no such weight. Each line of the output: seconds of the whole answer as a user
gets it, of the vector index alone, the plan that was taken, and the windows that were found.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

import soundalike
from search.asking.opened import OpenedStore
from search.asking.sound_index import SoundIndex

K = 10


def vectors_of(index: SoundIndex, window_id: int, weight: float | None) -> Any:
    """What asks of the vector index: a scene, or a blend of it and its tags."""
    found = index.windows_of([window_id])
    if not weight:
        return np.ascontiguousarray(found[0], np.float32)
    from search.nearest.blend import blended  # noqa: PLC0415 - code from before has none

    return blended(found[0], found[2], weight)


def main(path: Path) -> None:
    opened = OpenedStore.at(path)
    index, sounds = SoundIndex([opened]), soundalike.open(path)
    for line in sys.stdin:
        window_id, exact, weight = json.loads(line)
        how = {} if weight is None else {"tag_weight": weight}
        vectors = vectors_of(index, window_id, weight)
        began = process_time()
        answer = sounds.search(window_id, k=K, exact=exact, **how)
        whole_s = process_time() - began
        began = process_time()
        opened.index.search(vectors, K, exact=exact)
        plan_s = process_time() - began
        plan = answer.steps[0].plan
        found = [hit.window_id for hit in answer]
        print(json.dumps([whole_s, plan_s, plan.name, found]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
