"""Which array library, which device, how much memory: the only file that knows about devices.

Functions take arrays and call :func:`xp_of`; stages take the name of a backend and call :func:`to_device` once, where
they have read their input.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from rsc_core.errors import BackendUnavailable

BACKENDS = ("cpu", "gpu")
# FMA contracts a*b+c with one rounding where the CPU twin rounds twice; without it both give the same bits.
NVRTC_OPTIONS = ("--std=c++17", "--fmad=false")


def _is_device(array) -> bool:
    return type(array).__module__.split(".")[0] in ("cupy", "cupyx")


def xp_of(*arrays):
    """The array library (``numpy`` or ``cupy``) that the arrays belong to.

    Parameters
    ----------
    arrays
        NumPy, SciPy sparse, CuPy or CuPy sparse arrays. Scalars and None are passed over.

    Raises
    ------
    TypeError
        When arrays of the host and of the device come together: nothing is copied between them silently.
    """
    arrays = [a for a in arrays if hasattr(a, "shape") and a.shape != ()]
    on_device = [_is_device(a) for a in arrays]
    if not any(on_device):
        return np
    if not all(on_device):
        raise TypeError(
            "arrays of the host and of the device were mixed; move them with rsc_core.backend.to_device or to_host: "
            + ", ".join(type(a).__name__ for a in arrays)
        )
    import cupy

    return cupy


def sparse_of(xp):
    """The sparse-matrix module (``scipy.sparse`` or ``cupyx.scipy.sparse``) of an array library."""
    if xp is np:
        return sp
    import cupyx.scipy.sparse

    return cupyx.scipy.sparse


def require(name: str) -> None:
    """Raise :class:`~rsc_core.errors.BackendUnavailable` unless the backend can run on this machine.

    Parameters
    ----------
    name
        ``"cpu"`` or ``"gpu"``.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend is {name!r}; it must be one of {BACKENDS}")
    if name == "cpu":
        return
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except ImportError as error:
        raise BackendUnavailable(
            f"backend gpu: CuPy cannot be imported ({error}).",
            "Use a GPU image or install cupy-cuda13x, or run with --backend cpu.",
        ) from error
    except Exception as error:  # CuPy raises its own runtime error when there is no driver or no device
        raise BackendUnavailable(
            f"backend gpu: no usable NVIDIA device ({error}).",
            "Check nvidia-smi on this node and the executor's GPU request, or run with --backend cpu.",
        ) from error


def is_available(name: str) -> bool:
    """Whether the backend can run on this machine; :func:`require` says why not."""
    try:
        require(name)
    except BackendUnavailable:
        return False
    return True


def to_device(value, backend: str):
    """Move an array or a sparse matrix to the backend's memory.

    Parameters
    ----------
    value
        Array of the host. ``None`` stays ``None``.
    backend
        ``"cpu"`` (returned unchanged) or ``"gpu"``.
    """
    if backend == "cpu" or value is None:
        return value
    import cupy

    if sp.issparse(value):
        parts = tuple(cupy.asarray(part) for part in (value.data, value.indices, value.indptr))
        return getattr(sparse_of(cupy), f"{value.format}_matrix")(parts, shape=value.shape)
    return cupy.asarray(value)


def to_host(value):
    """Copy an array or sparse matrix to the host's memory; arrays of the host are returned unchanged."""
    return value.get() if _is_device(value) else value


def csr_parts(matrix, value_dtype=None):
    """The three arrays of a CSR matrix with the dtypes that the kernels take.

    Parameters
    ----------
    matrix
        CSR matrix, SciPy or CuPy, with integer indices of any width.
    value_dtype
        Dtype of the returned values; by default as stored.

    Returns
    -------
    indptr : int64 (rows + 1,)
    indices : int32 (nnz,)
    values : (nnz,)
    """
    values = matrix.data if value_dtype is None else matrix.data.astype(value_dtype, copy=False)
    return matrix.indptr.astype(np.int64, copy=False), matrix.indices.astype(np.int32, copy=False), values


def module(source: Path):
    """The compiled CUDA module of a ``.cu`` file; CuPy keeps the binary in ``CUPY_CACHE_DIR``."""
    import cupy

    return _module(source, cupy.cuda.runtime.getDevice())


@functools.cache
def _module(source: Path, device: int):
    import cupy

    return cupy.RawModule(code=cuda_source(source), options=NVRTC_OPTIONS, backend="nvrtc")


def cuda_source(source: Path) -> str:
    """The text of a ``.cu`` file with its own headers put in place.

    CuPy's cache is keyed by the text alone: a change of an included header would not be seen.
    """
    lines = Path(source).read_text().splitlines()
    return "\n".join((Path(source).parent / line.split('"')[1]).read_text() if line.startswith('#include "') else line for line in lines)


def synchronize() -> None:
    """Wait for the device, where CuPy was imported at all."""
    if "cupy" in sys.modules:
        import cupy

        cupy.cuda.get_current_stream().synchronize()


def free_bytes(xp) -> int:
    """Bytes of memory that arrays of a library can still take: of the device with its pool, or of the host."""
    if xp is np:
        lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 1 << 30)
    return xp.cuda.runtime.memGetInfo()[0] + xp.get_default_memory_pool().free_bytes()


def peak_device_bytes() -> int:
    """Bytes that this process holds of the device's memory in its pool: 0 where CuPy was never imported."""
    if "cupy" not in sys.modules:
        return 0
    import cupy

    return cupy.get_default_memory_pool().total_bytes()


def device_name(backend: str) -> str:
    """The name of the device that a backend runs on, as the report shows it."""
    if backend == "gpu":
        import cupy

        return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"].decode()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
