#!/usr/bin/env bash
# down.sh [DIR]: end the cluster of up.sh DIR: cancel its jobs, then end, by the pid files under DIR/run,
# only the daemons that were started with that DIR. --purge removes DIR as well.
set -uo pipefail
D=${1:-/tmp/rsc-flow-slurm}; [ -d "$D" ] || exit 0
D=$(cd "$D" && pwd); export SLURM_CONF=$D/etc/slurm.conf
mine() { # PID NAME: still that daemon of this DIR?
    [[ $(readlink "/proc/$1/exe" 2>/dev/null) == *"$2"* ]] && grep -qF -- "RSC_FLOW_SLURM_DIR=$D" <(tr '\0' '\n' <"/proc/$1/environ")
}
if timeout 5 scontrol ping >/dev/null 2>&1; then
    timeout 10 scancel -u "$(id -un)" 2>/dev/null
    for _ in $(seq 100); do [ -z "$(timeout 5 squeue -h -o %i 2>/dev/null)" ] && break; sleep 0.1; done
fi
for name in slurmd.n1 slurmd.n2 slurmctld munged; do
    f=$D/run/$name.pid; pid=$(cat "$f" 2>/dev/null) && [ -n "$pid" ] || continue
    exe=${name%%.*}
    if mine "$pid" "$exe"; then
        kill -TERM "$pid"
        for _ in $(seq 100); do mine "$pid" "$exe" || break; sleep 0.1; done
        mine "$pid" "$exe" && kill -KILL "$pid"
    fi
    rm -f "$f"
done
[ "${2:-}" = --purge ] && rm -rf -- "$D"
exit 0
