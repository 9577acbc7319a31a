#!/usr/bin/env bash
# containers.sh [DIR]: builds the CPU image from containers/cpu.Dockerfile without a registry and runs the profile test in it
# with podman, without a network. Root on Debian; the packages are installed. All state under DIR (default /tmp/rsc-flow-containers).
#   NETWORK (default host) is that of the build; PIP_CERT names a bundle of certificates where pip needs one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "${1:-/tmp/rsc-flow-containers}"
state=$(cd "${1:-/tmp/rsc-flow-containers}" && pwd)

for program in podman buildah mmdebstrap runc; do
    command -v "$program" >/dev/null || {
        apt-get update -q
        apt-get install -y -q --no-install-recommends podman runc buildah mmdebstrap
        break
    }
done
# Without CAP_SYS_RESOURCE the engine's own limits are refused, and crun does not know hybrid cgroups.
cat >"$state/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=8192:8192", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
EOF
cat >"$state/storage.conf" <<EOF
[storage]
driver = "overlay"
runroot = "$state/run"
graphroot = "$state/storage"
EOF
export CONTAINERS_STORAGE_CONF=$state/storage.conf CONTAINERS_CONF=$state/containers.conf USER=${USER:-root}

if ! podman image exists localhost/base:1; then
    TMPDIR=$([ -w /dev/shm ] && echo /dev/shm || echo "$state") mmdebstrap --quiet --variant=minbase \
        --include=python3-minimal,python3-pip,procps,ca-certificates \
        --dpkgopt='path-exclude=/usr/share/{doc,info,man,locale,help}/*' bookworm "$state/base.tar"
    podman import -q "$state/base.tar" localhost/base:1
fi
certificates=()
if [ -n "${PIP_CERT:-}" ]; then
    folder=$(dirname "$PIP_CERT")
    certificates=(-v "$folder:$folder:ro" --env "PIP_CERT=$PIP_CERT" --unsetenv PIP_CERT)
fi
buildah bud -q --network "${NETWORK:-host}" "${certificates[@]}" --build-arg BASE=localhost/base:1 -t rsc-flow:cpu \
    -f "$here/containers/cpu.Dockerfile" "$here"
podman images rsc-flow:cpu

cd "$state"
"$here/tools/nextflow" run "$here" -profile test,podman --outdir out --cache_dir "$state/cache" \
    --container_cpu localhost/rsc-flow:cpu --container_options '--network none'
for program in bash ps awk grep sed tail tee; do
    podman run --rm --network none localhost/rsc-flow:cpu bash -c "command -v $program" >/dev/null || { echo "no $program" >&2; exit 1; }
done
[ "$(podman run --rm --network none localhost/rsc-flow:cpu id -u)" = 1000 ] || { echo "runs as root" >&2; exit 1; }
if podman run --rm --network none localhost/rsc-flow:cpu python3 -c 'import rsc_core' 2>/dev/null; then
    echo "rsc_core is in the image" >&2
    exit 1
fi
[ "$(podman image inspect --format '{{.Config.Entrypoint}}' localhost/rsc-flow:cpu)" = '[]' ] || { echo "it has an entry point" >&2; exit 1; }
test -s out/report.html && echo "The profile test ran in the image."
