"""Wakes the device while Python imports what a stage needs: its context takes as long as some of the libraries, but no interpreter."""

from __future__ import annotations

import ctypes
import threading

DRIVER = "libcuda.so.1"


def wake() -> None:
    """Begin to make the context that CuPy will find, that of the first visible device, in a thread that the process need not wait for.

    What goes wrong is told later: by :func:`rsc_core.backend.require`, which asks the same.
    """
    threading.Thread(target=_make_context, daemon=True).start()


def _make_context() -> None:
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
