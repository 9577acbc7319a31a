# Third-party libraries of the CPU tasks. rsc_core is not in it: the workflow stages what a task needs.
#   docker build -f containers/cpu.Dockerfile -t rsc-flow:cpu .
# LIST: spatialdata in place of run adds the package spatialdata, for --container_spatialdata.
# BASE: Debian with Python 3.11 or 3.12 and pip. No ENTRYPOINT: Nextflow starts bash.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS libraries
# What Nextflow needs in an image: bash, ps, awk, grep, sed, coreutils.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bash coreutils gawk grep procps sed \
    && rm -rf /var/lib/apt/lists/*
ARG LIST=run
COPY requirements/${LIST}.lock /tmp/run.lock
# Tests of libraries are a tenth of the image.
RUN python3 -m pip install --no-cache-dir --disable-pip-version-check --break-system-packages --root-user-action=ignore \
        --require-hashes --only-binary=:all: -r /tmp/run.lock \
    && rm /tmp/run.lock \
    && for package in numba pandas scipy sklearn; do \
        find "$(python3 -c "import importlib.util as u; print(u.find_spec('$package').submodule_search_locations[0])")" \
            -type d -name tests -prune -exec rm -rf {} +; \
    done
# One target for every machine since 2015, so that what is compiled here is found there; the results are the same bits.
ENV NUMBA_CPU_NAME=x86-64-v3 \
    NUMBA_CPU_FEATURES=+64bit,+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+cx8,+f16c,+fma,+fxsr,+lzcnt,+mmx,+movbe,+popcnt,+sahf,+sse,+sse2,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave \
    RSC_CORE_PREBUILT=/opt/rsc-flow \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE= \
    HOME=/tmp

FROM libraries AS prebuilt
WORKDIR /src
COPY . .
RUN env -u RSC_CORE_PREBUILT PYTHONPATH=/src/python python3 containers/prebuild.py /opt/rsc-flow --cpu

FROM libraries
COPY --from=prebuilt /opt/rsc-flow /opt/rsc-flow
# Any other user works too (docker -u): nothing but /tmp and the folders of the task is written to.
USER 1000:1000
WORKDIR /tmp
CMD ["/bin/bash"]
