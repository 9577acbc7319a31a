"""Compiled code that an image brings: found by ``RSC_CORE_PREBUILT``, a folder of ``containers/prebuild.py``.

``numba/`` holds what numba compiled for NUMBA_CPU_NAME, ``cubin/DIGEST/sm_90.cubin`` what NVRTC compiled. Both are found
by content: code that does not fit the source at hand is passed over, and compiled as if there was nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path


def folder() -> Path | None:
    """The folder of compiled code; None where there is none."""
    named = os.environ.get("RSC_CORE_PREBUILT")
    return Path(named) if named and Path(named).is_dir() else None


def fill_cache() -> None:
    """Copy numba's part to NUMBA_CACHE_DIR, which it may write to, unless it is there; a folder appears whole or not at all."""
    source, target = folder(), os.environ.get("NUMBA_CACHE_DIR")
    if source is None or not target or not (source / "numba").is_dir():
        return
    import shutil

    Path(target).mkdir(parents=True, exist_ok=True)
    for entry in sorted((source / "numba").iterdir()):
        place = Path(target) / entry.name
        if place.exists():
            continue
        temporary = place.with_name(f".{entry.name}.{os.getpid()}.part")
        try:
            shutil.copytree(entry, temporary)
            with contextlib.suppress(OSError):  # another task was faster
                temporary.rename(place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def key(text: str, options: tuple[str, ...]) -> str:
    """What identifies the binary of a CUDA text."""
    return hashlib.sha256("\0".join((text, *options)).encode()).hexdigest()[:16]


def cubin(text: str, options: tuple[str, ...], capability: str) -> Path | None:
    """The binary of a CUDA text for a device, for example of capability ``"86"``; None where there is none.

    A binary runs on devices of the same major version and the same or a later minor one: the latest that fits is taken.
    """
    source = folder()
    if source is None:
        return None
    built = {int(file.stem.removeprefix("sm_")): file for file in (source / "cubin" / key(text, options)).glob("sm_*.cubin")}
    wanted = int(capability)
    fitting = [chip for chip in built if chip // 10 == wanted // 10 and chip <= wanted]
    return built[max(fitting)] if fitting else None
