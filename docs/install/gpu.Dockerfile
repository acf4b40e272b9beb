# soundalike with PyTorch and FAISS for NVIDIA GPUs. In the clone, on a machine with the NVIDIA Container Toolkit:
#
#   docker build --file docs/install/gpu.Dockerfile --tag soundalike-gpu .
#   docker run --rm --gpus all --shm-size 2g --user "$(id -u)" --volume "$PWD:/work" --volume soundalike:/checkpoints \
#       soundalike-gpu index data/samples
#
# Readers hand over their windows through /dev/shm, of which a container has 64 MB unless told otherwise.
#
# The RUN steps that install are the README's commands, and a test compares them.

FROM python:3.12-slim AS build
RUN python -m venv /opt/soundalike
ENV PATH=/opt/soundalike/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY indexer indexer
COPY search search
COPY soundalike soundalike
COPY metadata metadata
COPY checkpoints checkpoints
RUN pip install .

# What was needed to install stays behind in the first stage.
FROM python:3.12-slim
COPY --from=build /opt/soundalike /opt/soundalike
# Whoever it runs as may keep checkpoints, and write what is only cached.
RUN useradd --create-home soundalike && install --directory --mode 1777 /checkpoints /work
ENV PATH=/opt/soundalike/bin:$PATH SOUNDALIKE_CHECKPOINTS=/checkpoints XDG_CACHE_HOME=/tmp NUMBA_CACHE_DIR=/tmp
VOLUME /checkpoints
WORKDIR /work
USER soundalike
ENTRYPOINT ["soundalike"]
CMD ["--help"]
