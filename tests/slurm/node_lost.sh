#!/usr/bin/env bash
# node_lost.sh DIR NODE: make NODE (n1|n2) of the cluster of up.sh DIR die as in a power cut: its slurmd, its
# slurmstepds and everything in their sessions get SIGKILL, each by pid. up.sh DIR brings it back.
set -uo pipefail
D=$(cd "$1" && pwd); N=$2; export SLURM_CONF=$D/etc/slurm.conf
jobs=" $(squeue -h -t R,CG -w "$N" -o %A | tr '\n' ' ') "
pid=$(cat "$D/run/slurmd.$N.pid")
grep -qzF -- "RSC_FLOW_SLURM_DIR=$D" "/proc/$pid/environ" && kill -KILL "$pid" && echo "slurmd $N: $pid"
for p in /proc/[0-9]*; do
    [[ $(readlink "$p/exe" 2>/dev/null) == */slurmstepd* ]] || continue
    grep -qzF -- "SLURM_CONF=$SLURM_CONF" "$p/environ" || continue
    id=$(tr '\0' ' ' <"$p/cmdline" | sed -n 's/.*\[\([0-9]*\)\..*/\1/p')
    [[ $jobs == *" $id "* ]] || continue
    sid=$(ps -o sid= -p "${p#/proc/}" | tr -d ' ')
    ps -e -o pid=,sid= | awk -v s="$sid" '$2 == s {print $1}' | while read -r q; do kill -KILL "$q"; done
    echo "job $id: session $sid"
done
