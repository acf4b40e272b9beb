#!/bin/sh
# Collects the wheels that a CUDA image lacks for benchmarks/on_gpu.py, below 64 MiB.
#
#     sh benchmarks/gpu_wheels.sh [FOLDER]          gpu-wheels/, for Python 3.12
#     PYTHON_VERSION=3.11 sh benchmarks/gpu_wheels.sh
#
# The image has those of IMAGE, with all that they need. FAISS and Pillow are left out: extraction
# does without them.
set -eu
cd "$(dirname "$0")/.."
folder=${1:-gpu-wheels}
version=${PYTHON_VERSION:-3.12}
IMAGE="torch torchaudio numpy pyarrow h5py typer tqdm scikit-learn safetensors"
# What ours need that no other brings; and pytest, with what it needs.
MORE="cffi pycparser pytest iniconfig packaging pluggy pygments"

requirements=$(IMAGE="$IMAGE" python3 - <<'PYTHON'
import os, re, tomllib

left_out = {*os.environ["IMAGE"].split(), "faiss-gpu", "faiss-cpu", "pillow"}
with open("pyproject.toml", "rb") as file:
    for requirement in tomllib.load(file)["project"]["dependencies"]:
        if re.match(r"[\w.-]+", requirement)[0] not in left_out:
            print(requirement)
PYTHON
)
platforms=""
for glibc in 2_28 2_27 2_26 2_17 2_5; do
    platforms="$platforms --platform manylinux_${glibc}_x86_64"
done
mkdir -p "$folder"
rm -f "$folder"/*.whl
# shellcheck disable=SC2086 # words are meant
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version "$version" $platforms --platform manylinux2014_x86_64 \
    --dest "$folder" $requirements $MORE
kib=$(du -sk "$folder" | cut -f1)
echo "$(ls "$folder" | wc -l) wheels, $((kib / 1024)) MiB, in $folder"
[ "$kib" -lt 65536 ] || { echo "that is more than 64 MiB" >&2; exit 1; }
