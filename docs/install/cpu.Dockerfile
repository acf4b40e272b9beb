# soundalike on a machine without a GPU. In the clone:
#
#   docker build --file docs/install/cpu.Dockerfile --tag soundalike .
#   docker run --rm --shm-size 2g --user "$(id -u)" --volume "$PWD:/work" --volume soundalike:/checkpoints \
#       soundalike index data/samples
#
# Readers hand over their windows through /dev/shm, of which a container has 64 MB unless told otherwise.
#
# The RUN steps that install are the README's commands, and a test compares them.

FROM python:3.12-slim AS build
RUN python -m venv /opt/soundalike
ENV PATH=/opt/soundalike/bin:$PATH PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY docs/install docs/install
RUN pip install -r docs/install/cpu-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY indexer indexer
COPY search search
COPY soundalike soundalike
COPY metadata metadata
COPY checkpoints checkpoints
RUN pip install --no-deps .

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
