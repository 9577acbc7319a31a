# shellcheck shell=bash
# Sourced before a GPU task of the local executor: takes a GPU that no other task has, and shows the task that one alone.
# own_gpu FOLDER: the devices are those of CUDA_VISIBLE_DEVICES, else of nvidia-smi. A device is taken by a lock on
# FOLDER/gpu.HOST.DEVICE.lock, which the system frees when the task's last process has ended, killed or not.
own_gpu() {
    local folder=$1 devices device handle
    devices=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | paste -sd, -)}
    if [ -z "$devices" ] || ! command -v flock >/dev/null; then
        return 0 # the task itself says that there is no device
    fi
    mkdir -p "$folder"
    while true; do
        for device in ${devices//,/ }; do
            exec {handle}>>"$folder/gpu.$(hostname).$device.lock"
            if flock -n "$handle"; then
                export CUDA_VISIBLE_DEVICES=$device
                return 0
            fi
            exec {handle}>&-
        done
        sleep 0.5
    done
}
