#!/usr/bin/env bash
# up.sh [DIR]: a two-node SLURM cluster with fake GPUs on this one machine, all its state under DIR
# (default /tmp/rsc-flow-slurm). Root, no systemd, no cgroups, no accounting DB, loopback only. Idempotent: a second call
# leaves a healthy cluster alone and restarts a dead daemon. Then:  . DIR/env.sh   End: down.sh DIR
#   packages (3.5 MB): apt-get install -y --no-install-recommends slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge
#   n1: 4 cpus, 8 GB, gpu:1   n2: 4 cpus, 8 GB, gpu:2   partitions: cpu (default), gpu
set -euo pipefail
D=$(mkdir -p "${1:-/tmp/rsc-flow-slurm}" && cd "${1:-/tmp/rsc-flow-slurm}" && pwd)
PORT=${RSC_FLOW_SLURM_PORT:-16817}   # slurmctld; the nodes take PORT+1, PORT+2
for p in slurmctld slurmd sbatch munged; do
    PATH=$PATH:/usr/sbin command -v $p >/dev/null || { echo "up.sh: $p is not installed" >&2; exit 2; }
done
export PATH=$PATH:/usr/sbin SLURM_CONF=$D/etc/slurm.conf
mkdir -p "$D"/{etc,run,log,state,dev,munge}
chmod 755 "$D" "$D/run"; chmod 700 "$D/munge"

# alive NAME: the pid in run/NAME.pid is a live process of ours (its executable is NAME's, not a reused pid)
alive() {
    local pid; pid=$(cat "$D/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] || return 1
    [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == *"${1%%.*}"* ]] && grep -qF -- "$D" <(tr '\0' ' ' <"/proc/$pid/environ")
}

host=$(hostname -s)
cat >"$D/etc/slurm.conf.new" <<EOF
ClusterName=rscflow
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$D/run/munge.socket
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool.%n
SlurmctldPidFile=$D/run/slurmctld.pid
SlurmdPidFile=$D/run/slurmd.%n.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$D/log/jobcomp.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=30
KillWait=5
MinJobAge=600
PropagateResourceLimits=NONE
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + 1)) CPUs=4 RealMemory=8000 Gres=gpu:1 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((PORT + 2)) CPUs=4 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=n1,n2 MaxTime=60 State=UP
EOF
# fake devices: SLURM only stats them, and then sets CUDA_VISIBLE_DEVICES for the job as on a real GPU node
for i in 0 1; do [ -e "$D/dev/gpu$i" ] || mknod "$D/dev/gpu$i" c 1 3; done
cat >"$D/etc/gres.conf" <<EOF
AutoDetect=off
NodeName=n1 Name=gpu File=$D/dev/gpu0
NodeName=n2 Name=gpu File=$D/dev/gpu[0-1]
EOF
printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainDevices=no\nConstrainRAMSpace=no\n' >"$D/etc/cgroup.conf"
mv "$D/etc/slurm.conf.new" "$D/etc/slurm.conf"
printf 'export SLURM_CONF=%q\n' "$SLURM_CONF" >"$D/env.sh"

if ! alive munged; then
    [ -s "$D/munge/key" ] || (umask 077; dd if=/dev/urandom of="$D/munge/key" bs=128 count=1 status=none)
    rm -f "$D/run/munge.socket" "$D/run/munge.socket.lock"
    RSC_FLOW_SLURM_DIR=$D munged --key-file="$D/munge/key" --socket="$D/run/munge.socket" --pid-file="$D/run/munged.pid" \
        --seed-file="$D/munge/seed" --log-file="$D/log/munged.log" --num-threads=2
fi
alive slurmctld || RSC_FLOW_SLURM_DIR=$D slurmctld -f "$SLURM_CONF"
for n in n1 n2; do
    mkdir -p "$D/spool.$n"
    alive slurmd.$n || RSC_FLOW_SLURM_DIR=$D slurmd -N $n -f "$SLURM_CONF"
done
for _ in $(seq 200); do
    up=$(sinfo -h -N -p gpu -o '%N %t' 2>/dev/null | grep -cE '^n[12] (idle|mix|alloc)$' || true)
    [ "$up" = 2 ] && { sinfo -N -p gpu -o '%N %T %c %m %G' ; exit 0; }
    # a node that went down with its slurmd comes back by itself (ReturnToService=2)
    sleep 0.1
done
echo "up.sh: the nodes did not come up in 20 s; see $D/log" >&2; sinfo -N >&2 || true; exit 1
