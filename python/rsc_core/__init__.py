"""Single-cell and spatial transcriptomics kernels for GPU and CPU.

The arrays decide where the work runs: NumPy and SciPy arrays inside an AnnData are computed on the CPU, CuPy arrays on
the GPU, with the same functions and the same results. Subpackages are imported when they are first used, because a
workflow of many short tasks pays for every import many times.
"""

import importlib

__version__ = "0.1.0"

_SUBPACKAGES = ("dc", "get", "gr", "io", "pp", "tl")


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "CunnData":
        return importlib.import_module(f"{__name__}.data").CunnData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
