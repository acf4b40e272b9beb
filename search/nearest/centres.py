"""Centres of lists, by k-means: on the GPUs of the machine, if there are any.

That is done in a process of its own. Where CUDA refuses something, FAISS raises no error but ends
its process, and a driver that is too old for it should cost no more than an attempt.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import faiss
import numpy as np

from indexer.arrays import Float32
from indexer.embedding.cores import has_gpu
from indexer.progress import Listen

#: Rows that k-means is given for each centre: FAISS asks for 39 at least.
TRAINING_ROWS_PER_LIST = 40
#: Iterations of k-means: more did not change recall at 200,000 windows.
ITERATIONS = 8
#: A GPU that is not done by then is not well: it needs seconds for what takes a CPU minutes.
_PATIENCE_S = 600
#: To look for GPUs takes a second or two where all is well.
_LOOK_S = 30
#: Where the other process begins; it takes the numbers of lists and of columns, and the sample from
#: its input.
_COMMAND = (sys.executable, "-P", "-m", "search.nearest.centres")


def find_centres(sample: Float32, num_lists: int, listen: Listen) -> Float32:
    """Return centres of vectors, such that each is near to one.

    Args:
        sample: (n, d) float32; 40 rows for each list are enough.
        num_lists: How many centres.
        listen: Hears why a GPU that is there did not find them, if it did not.

    Returns:
        (num_lists, d) float32.
    """
    if has_gpu() and hasattr(faiss, "StandardGpuResources"):  # else it is FAISS for the CPU alone
        found = _ask_gpus(sample, num_lists)
        if not isinstance(found, str):
            return found
        listen(f"the CPU looks for the centres of the lists, since no GPU could: {found}")
    return _cluster(sample, num_lists, faiss.IndexFlatL2(sample.shape[1]))


def _cluster(sample: Float32, num_lists: int, index: faiss.Index) -> Float32:
    """Run k-means, with an empty index that finds the centre of each row."""
    parameters = faiss.ClusteringParameters()
    parameters.niter = ITERATIONS
    parameters.min_points_per_centroid = 1  # small samples are tests, or filters of damage
    parameters.max_points_per_centroid = TRAINING_ROWS_PER_LIST
    clustering = faiss.Clustering(sample.shape[1], num_lists, parameters)
    clustering.train(np.ascontiguousarray(sample), index)
    centres: Float32 = faiss.vector_to_array(clustering.centroids).reshape(num_lists, -1)
    return centres


def _ask_gpus(sample: Float32, num_lists: int) -> Float32 | str:
    """Return the centres as GPUs find them; or in a few words why they do not."""
    words = [*_COMMAND, str(num_lists), str(sample.shape[1])]
    given = np.ascontiguousarray(sample).data.cast("B")  # no copy
    try:
        done = subprocess.run(words, input=given, capture_output=True, timeout=_PATIENCE_S)
    except OSError as error:
        return f"no process could be started ({error})"
    except subprocess.TimeoutExpired:
        return f"FAISS was not done after {_PATIENCE_S} s"
    data, told, code = done.stdout, done.stderr, done.returncode
    if code < 0:
        return f"FAISS was ended by a signal, {signal.strsignal(-code)}{_last_line(told)}"
    if code:
        return f"FAISS failed{_last_line(told)}"
    if len(data) == num_lists * sample.shape[1] * sample.itemsize:
        centres = np.frombuffer(data, np.float32).reshape(num_lists, -1)
        if np.isfinite(centres).all():
            return centres
    return "FAISS gave something else"


def count_gpus() -> str:
    """Return how many GPUs FAISS sees, in words; asked in a process that may end."""
    if not has_gpu():
        return "0 GPUs"
    words = [sys.executable, "-P", "-c", "import faiss; print(faiss.get_num_gpus(), 'GPUs')"]
    try:
        told = subprocess.run(words, capture_output=True, timeout=_LOOK_S)
    except subprocess.TimeoutExpired:
        return f"no GPU: it looked for them for {_LOOK_S} s"
    if told.returncode:
        return f"no GPU: it fails when it looks for them{_last_line(told.stderr)}"
    return told.stdout.decode().strip()


def _last_line(told: bytes) -> str:
    lines = told.decode(errors="replace").strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def main() -> None:
    """Be the other process: give the centres of what comes in, as GPUs find them."""
    if not faiss.get_num_gpus():
        sys.exit("it sees no GPU")
    num_lists, width = map(int, sys.argv[1:])
    sample = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, width)
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatL2(width))
    sys.stdout.buffer.write(_cluster(sample, num_lists, index).tobytes())


if __name__ == "__main__":
    main()
