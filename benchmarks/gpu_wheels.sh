#!/bin/sh
# Collects the wheels that a CUDA image lacks for benchmarks/on_gpu.py, below 64 MiB.
#
#     sh benchmarks/gpu_wheels.sh [FOLDER]          a new one; gpu-wheels in the checkout
#     PYTHON_VERSION=3.11 sh benchmarks/gpu_wheels.sh       for another Python than 3.12
#
# The image has those of IMAGE, with all that they need. Pillow is left out: nothing there needs it.
# FAISS is the smaller one, for the CPU: what is found there is compared with.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$here/gpu-wheels}
version=${PYTHON_VERSION:-3.12}
IMAGE="torch torchaudio numpy pyarrow h5py typer tqdm scikit-learn safetensors"
# What ours need that no other brings; and pytest, with what it needs.
MORE="cffi pycparser pytest iniconfig packaging pluggy pygments"

[ ! -e "$folder" ] || { echo "$folder is there already: remove it, or name another" >&2; exit 1; }
requirements=$(IMAGE="$IMAGE" python3 - "$here/pyproject.toml" <<'PYTHON'
import os, re, sys, tomllib

left_out = {*os.environ["IMAGE"].split(), "faiss-gpu", "pillow"}
with open(sys.argv[1], "rb") as file:
    for requirement in tomllib.load(file)["project"]["dependencies"]:
        if re.match(r"[\w.-]+", requirement)[0] not in left_out:
            print(requirement.partition(";")[0])
PYTHON
)
platforms="--platform manylinux2014_x86_64"
for glibc in 2_28 2_27 2_26 2_17 2_5; do
    platforms="$platforms --platform manylinux_${glibc}_x86_64"
done
collected="$folder.part"
mkdir "$collected"
trap 'rm -rf "$collected"' EXIT
# shellcheck disable=SC2086 # words are meant
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version "$version" $platforms --dest "$collected" $requirements $MORE
kib=$(du -sk "$collected" | cut -f1)
[ "$kib" -lt 65536 ] || { echo "$((kib / 1024)) MiB are more than 64" >&2; exit 1; }
mv "$collected" "$folder"
echo "$(find "$folder" -name '*.whl' | wc -l) wheels, $((kib / 1024)) MiB, in $folder"
