# The image of all pods in jobs/kuberay, and of `python -m jobs` anywhere:
#   docker build --build-arg CODE_VERSION="git:$(git rev-parse HEAD)" --tag REGISTRY/meissonic:0.1.0 .
# With weights inside, for nodes that reach no storage: the folder ./weights becomes /weights, and a job names them so
# (`model: /weights/meissonic`). `python -m jobs weights fetch meissonic --to weights` fills it.
#   docker build --target with-weights --build-context weights=weights --tag REGISTRY/meissonic-with-weights:0.1.0 .
# Large weights are better kept out of it: docs/cluster.md has a volume and a bucket instead.

# torch brings CUDA's libraries of its own; the base brings what the driver needs to be found
FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS runtime

# gcc and Python's headers: torch.compile builds its kernels with them. wget: KubeRay's probes. openssh-client, rsync: for
# Ray's cluster launcher, where it runs this image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates gcc libc6-dev openssh-client python3 python3-dev python3-venv rsync tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && userdel --remove ubuntu \
    && useradd --uid 1000 --create-home --shell /bin/bash ray \
    && mkdir -p /app /cache /spill /weights \
    && chown ray:ray /cache /spill

# a login shell, which some operators start Ray in, would forget the PATH below
# hadolint ignore=SC2016
RUN echo 'export PATH=/opt/venv/bin:$PATH' >/etc/profile.d/venv.sh

# A layer of its own: code changes more often than packages do. Ray is among them, in the version of constraints.txt.
COPY constraints.txt /app/constraints.txt
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --requirement /app/constraints.txt

COPY . /app
# what run.json says of the code, as there is no .git here; without it, a digest of the files
ARG CODE_VERSION=""
RUN if [ -n "$CODE_VERSION" ]; then echo "$CODE_VERSION" >/app/CODE_VERSION; fi

# PYTHONPATH: workers import the code from /app, unless a job brings its own (`python -m jobs submit`)
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    MEISSONIC_CACHE=/cache \
    HF_HOME=/cache/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /app
USER 1000
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "jobs", "--help"]

FROM runtime AS with-weights
# hadolint ignore=DL3022
COPY --from=weights . /weights

# the last stage is the one that is built where no --target is named
FROM runtime
