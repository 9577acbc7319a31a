"""Memory of this process, for tools whose Python has no package of ours."""

from pathlib import Path


def of_process(key: str) -> int:
    """Bytes of an entry of the process's status, ``"VmRSS"`` now or ``"VmHWM"`` at most; 0 where there is none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return 0
