# Third-party libraries of the GPU tasks. rsc_core is not in it: the workflow stages what a task needs.
#   docker build -f containers/gpu.Dockerfile --build-arg CUDA=13 -t rsc-flow:gpu .
#   docker build -f containers/gpu.Dockerfile --build-arg CUDA=13 --build-arg LIBRARIES=rapids -t rsc-flow:rapids .
# CUDA: 12 (drivers from 525) or 13 (from 580). LIBRARIES: gpu, or rapids for EMBED and CLUSTER, which use cuML and cuGraph.
# The build needs no GPU. BASE: Debian with Python 3.12 and pip; the driver comes from the host. No ENTRYPOINT.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS libraries
ARG CUDA=13
ARG LIBRARIES=gpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash coreutils gawk grep procps sed \
    && rm -rf /var/lib/apt/lists/*
COPY containers/${LIBRARIES}_cu${CUDA}.lock /tmp/gpu.lock
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --break-system-packages --root-user-action=ignore \
        --require-hashes --only-binary=:all: -r /tmp/gpu.lock \
    && rm /tmp/gpu.lock
ENV NUMBA_CPU_NAME=x86-64-v3 \
    NUMBA_CPU_FEATURES=+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave \
    RSC_CORE_PREBUILT=/opt/rsc-flow \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE= \
    HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM libraries AS prebuilt
WORKDIR /src
COPY . .
RUN env -u RSC_CORE_PREBUILT PYTHONPATH=/src/python python3 containers/prebuild.py /opt/rsc-flow --cuda --cpu

FROM libraries
COPY --from=prebuilt /opt/rsc-flow /opt/rsc-flow
USER 1000:1000
WORKDIR /tmp
CMD ["/bin/bash"]
