"""Which array library, which device, how much memory: the only file that knows about devices.

Functions take arrays and call :func:`xp_of`; stages take the name of a backend and call :func:`to_device` once, where
they have read their input.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import itertools
import os
import re
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from rsc_core import prebuilt
from rsc_core.errors import BackendUnavailable

BACKENDS = ("cpu", "gpu")
RUNGS = ("whole", "blocks", "managed")
FREE_SHARE = 0.85  # of the free memory that a plan may use
RETRY_SHARE = 8  # parts of that, one of which a plan may use where what it reckoned with was not enough before
LIMITS = {"cpu": "RSC_CORE_HOST_MEMORY", "gpu": "RSC_CORE_DEVICE_MEMORY"}
# Files of a control group: limit, use, and in memory.stat the name of what the kernel gives back when it is asked to.
CGROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}
PINNED = 1 << 25  # bytes of each of two buffers that copies to the device go through
COPIERS = 4  # threads that fill or empty such a buffer: one alone does not reach the speed of the memory
TOGETHER = 4  # blocks of 256 threads on a multiprocessor where blocks wait for each other; the oldest chip has room for so many
PINNED_FROM = 1 << 22  # bytes of an array that copies from the device begin to use such buffers for, one for each of these threads
DEFAULT_SHARED = 48 << 10  # bytes of shared memory that a block may have without asking
# FMA contracts a*b+c with one rounding where the CPU twin rounds twice; without it both give the same bits.
NVRTC_OPTIONS = ("--std=c++17", "--fmad=false")


@functools.cache
def is_of_device(kind: type) -> bool:
    """Whether a type of arrays or sparse matrices is one of CuPy's."""
    return kind.__module__.split(".")[0] in ("cupy", "cupyx")


def _is_device(array) -> bool:
    return getattr(array, "on_device", False) or is_of_device(type(array))


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


def prepare(name: str) -> None:
    """:func:`require`, and hold CuPy's pool to ``RSC_CORE_DEVICE_MEMORY``, or let CUDA move memory where a retry begins with that.

    The pools of other libraries (RMM of cuML and cuGraph) know nothing of the limit.
    """
    require(name)
    if name == "cpu":
        return
    if first_rung() == "managed":
        use_managed_memory()
    else:
        import cupy

        cupy.get_default_memory_pool().set_limit(size=_limit(name) or 0)  # 0: none


def is_available(name: str) -> bool:
    """Whether the backend can run on this machine; :func:`require` says why not."""
    try:
        require(name)
    except BackendUnavailable:
        return False
    return True


def namespace(backend: str):
    """The array library of a backend."""
    if backend == "cpu":
        return np
    import cupy

    return cupy


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


def upload(array, backend: str, dtype):
    """A one-dimensional array of the host, often a map of a file, on a backend, of another dtype.

    Copies go through two pinned buffers in turn: one is filled while the other is sent, in the dtype that is stored.
    """
    array = np.asarray(array)
    if backend == "cpu":
        out = np.empty(array.size, dtype=dtype)
        fill(out, array)
        return out
    import cupy

    out, step = cupy.empty(array.size, dtype=array.dtype), max(1, PINNED // array.itemsize)
    stream, buffers = cupy.cuda.get_current_stream(), _pinned_buffers()
    for number, start in enumerate(range(0, array.size, step)):
        memory, event = buffers[number % 2]
        event.synchronize()  # the copy that used it before is done
        part = array[start : start + step]
        pinned = np.frombuffer(memory, dtype=array.dtype, count=part.size)
        fill(pinned, part)
        out[start : start + part.size].set(pinned, stream=stream)
        event.record(stream)
    return out.astype(dtype, copy=False)


@functools.cache
def _pinned_buffers():
    import cupy

    return [(cupy.cuda.alloc_pinned_memory(PINNED), cupy.cuda.Event()) for _ in range(2)]


def fill(buffer, part) -> None:
    """Copy one array of the host into another of the same length, cast to its dtype, by several threads."""
    edges = [part.size * i // COPIERS for i in range(COPIERS + 1)]
    pieces = [slice(*edge) for edge in itertools.pairwise(edges)]
    list(_copiers().map(np.copyto, [buffer[piece] for piece in pieces], [part[piece] for piece in pieces]))


@functools.cache
def _copiers():
    return concurrent.futures.ThreadPoolExecutor(COPIERS, thread_name_prefix="copies")


def to_host(value):
    """Copy an array or sparse matrix to the host's memory; arrays of the host are returned unchanged.

    Large arrays go through pinned buffers, as in :func:`upload`. What takes the time then is the host's pages, which come
    into being when they are first written: threads share them.
    """
    if not _is_device(value):
        return value
    if getattr(value, "format", "") in ("csr", "csc"):
        parts = tuple(to_host(part) for part in (value.data, value.indices, value.indptr))
        return getattr(sp, f"{value.format}_matrix")(parts, shape=value.shape)
    if getattr(value, "nbytes", 0) < PINNED_FROM:
        return value.get()
    import cupy

    value = cupy.ascontiguousarray(value)
    out, flat = np.empty(value.shape, dtype=value.dtype), value.ravel()
    flat_out, step = out.reshape(-1), max(1, PINNED // COPIERS // value.itemsize)
    stream, buffers = cupy.cuda.get_current_stream(), _landing_buffers()
    written = [None] * COPIERS
    for number, start in enumerate(range(0, flat.size, step)):
        place = number % COPIERS
        if written[place] is not None:
            written[place].result()  # the buffer is free again
        memory, event = buffers[place]
        part = flat[start : start + step]
        pinned = np.frombuffer(memory, dtype=value.dtype, count=part.size)
        part.get(stream=stream, out=pinned, blocking=False)
        event.record(stream)
        written[place] = _copiers().submit(_land, event, pinned, flat_out[start : start + part.size])
    for part in written:
        if part is not None:
            part.result()
    return out


def _land(event, pinned, out) -> None:
    event.synchronize()
    np.copyto(out, pinned)


@functools.cache
def _landing_buffers():
    """A pinned buffer and an event for each thread."""
    import cupy

    return [(cupy.cuda.alloc_pinned_memory(PINNED // COPIERS), cupy.cuda.Event()) for _ in range(COPIERS)]


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


def kernel(source: Path, name: str):
    """A compiled CUDA kernel of a ``.cu`` file; CuPy keeps the binary in ``CUPY_CACHE_DIR``."""
    import cupy

    return _kernel(source, name, cupy.cuda.runtime.getDevice())


def room_in_block(kernel, n_bytes: int) -> int:
    """Bytes of shared memory that a block of a kernel gets: as many as it wants, or none where the device has fewer."""
    import cupy

    n_bytes = int(n_bytes)
    if n_bytes > _most_shared(cupy.cuda.runtime.getDevice()):
        return 0
    if n_bytes > DEFAULT_SHARED and kernel.max_dynamic_shared_size_bytes < n_bytes:
        kernel.max_dynamic_shared_size_bytes = n_bytes
    return n_bytes


@functools.cache
def _most_shared(device: int) -> int:
    import cupy

    return cupy.cuda.Device(device).attributes["MaxSharedMemoryPerBlockOptin"]


@functools.cache
def _kernel(source: Path, name: str, device: int):
    return _module(source, device).get_function(name)


@functools.cache
def _module(source: Path, device: int):
    import cupy

    text = cuda_source(source)
    binary = prebuilt.cubin(text, NVRTC_OPTIONS, cupy.cuda.Device(device).compute_capability)
    if binary is not None:
        return cupy.RawModule(path=str(binary))
    return cupy.RawModule(code=text, options=NVRTC_OPTIONS, backend="nvrtc")


def launch_together(kernel, n_blocks: int, threads: int, args) -> None:
    """Start a kernel whose blocks wait for each other: the driver runs all of them at once or refuses.

    Such a kernel says ``__launch_bounds__(threads, TOGETHER)``, so that a multiprocessor has room for that many blocks.
    """
    import cupy

    n_blocks = min(n_blocks, TOGETHER * _multiprocessors(cupy.cuda.runtime.getDevice()))
    kernel.kernel((n_blocks,), (threads,), args, enable_cooperative_groups=True)


@functools.cache
def _multiprocessors(device: int) -> int:
    import cupy

    return cupy.cuda.Device(device).attributes["MultiProcessorCount"]


def products_of_halves(left, right):
    """left rightᵀ of float16 rows (m, k) and (n, k), summed in float32: (m, n). Tensor cores want k to be a multiple of 8."""
    if xp_of(left) is np:
        return left.astype(np.float32) @ right.astype(np.float32).T
    import cupy
    from cupy.cuda import cublas, device, runtime

    (m, k), n, one, zero = left.shape, len(right), np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
    out = cupy.empty((m, n), dtype=np.float32)
    # cuBLAS reads rows as columns: it makes right leftᵀ, the transpose.
    size, ours = (cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, n, m, k), (right.data.ptr, runtime.CUDA_R_16F, k)
    theirs, result = (left.data.ptr, runtime.CUDA_R_16F, k), (out.data.ptr, runtime.CUDA_R_32F, n)
    kind = cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT
    cublas.gemmEx(device.get_cublas_handle(), *size, one.ctypes.data, *ours, *theirs, zero.ctypes.data, *result, *kind)
    return out


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


def peak_device_bytes() -> int:
    """Bytes that this process holds of the device's memory in its pools: 0 where CuPy was never imported."""
    if "cupy" not in sys.modules:
        return 0
    import cupy

    pools = [cupy.get_default_memory_pool(), *([_managed_pool()] if _managed_pool.cache_info().currsize else [])]
    return sum(pool.total_bytes() for pool in pools)


def device_name(backend: str) -> str:
    """The name of the device that a backend runs on, as the report shows it."""
    if backend == "gpu":
        import cupy

        return cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"].decode()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a stage fits its work into memory; :func:`plan` makes it.

    Parameters
    ----------
    rung
        ``"whole"``: the matrix lies on the backend; ``"blocks"``: row blocks are read from the store, once for each pass over
        the matrix; ``"managed"``: blocks, and CUDA moves what does not fit to the host's memory.
    needed
        Bytes that the whole matrix and its results would take.
    available
        Bytes that may be used.
    block_nnz
        Non-zeros of a row block.
    """

    rung: str
    needed: int
    available: int
    block_nnz: int

    def __str__(self) -> str:
        return f"rung {self.rung}: {self.needed / 1e9:.2f} GB for all at once, {self.available / 1e9:.2f} GB available" + (
            "" if self.rung == "whole" else f", blocks of {self.block_nnz} non-zeros"
        )


def parse_bytes(text: str) -> int:
    """A number of bytes: ``2GB``, ``500 MiB``, ``1.5G``, ``1000``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if found is None or found[2] == "I":
        raise ValueError(f"{text!r} is no amount of memory; write for example 2GB or 500MiB")
    return int(float(found[1]) * _UNITS[found[2]])


def first_rung() -> str:
    """The rung to begin with: ``RSC_CORE_FIRST_RUNG`` of a retry, else ``whole``."""
    first = os.environ.get("RSC_CORE_FIRST_RUNG") or RUNGS[0]
    if first not in RUNGS:
        raise ValueError(f"RSC_CORE_FIRST_RUNG is {first!r}; it must be one of {RUNGS}")
    return first


def _limit(backend: str) -> int | None:
    text = os.environ.get(LIMITS[backend])
    return parse_bytes(text) if text else None


def available_bytes(backend: str) -> int:
    """Bytes that a plan may use: a share of what is free and within ``RSC_CORE_DEVICE_MEMORY`` or ``RSC_CORE_HOST_MEMORY``.

    Of a retry after exhausted memory an eighth of it.
    """
    limit = _limit(backend)
    if backend == "gpu":
        import cupy

        pool = cupy.get_default_memory_pool()
        free = cupy.cuda.runtime.memGetInfo()[0] + pool.free_bytes()
        free = free if limit is None else min(free, limit - pool.used_bytes())
    else:
        free = free_host_bytes() if limit is None else min(free_host_bytes(), limit)
    return int(max(free, 0) * FREE_SHARE) // (1 if first_rung() == RUNGS[0] else RETRY_SHARE)


def free_host_bytes(root: Path = Path("/")) -> int:
    """What the machine has free, and at most what is left of the limits of the container or job that this process is in.

    Parameters
    ----------
    root
        Where ``proc`` and ``sys`` are.
    """
    lines = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines())
    return max(0, min([int(lines["MemAvailable"].split()[0]) * 1024, *_left_of_cgroups(root)]))


def _left_of_cgroups(root: Path):
    """Bytes left of each limit of the process's control groups (of version 2, or 1), its own and those that hold it."""
    listed = root / "proc/self/cgroup"
    for line in listed.read_text().splitlines() if listed.exists() else ():
        _, controllers, place = line.split(":", 2)
        kind = "memory" if "memory" in controllers.split(",") else controllers
        if kind not in CGROUPS:
            continue
        top = root / "sys/fs/cgroup" / kind
        limit, used, reclaimable = CGROUPS[kind]
        here = top / place.lstrip("/")  # in a container often the group's name outside of it, where here is nothing
        for group in (here, *here.parents):
            if group.is_relative_to(top) and (group / limit).exists() and (most := (group / limit).read_text().strip()) != "max":
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                yield int(most) - int((group / used).read_text()) + int(stat.get(reclaimable, 0))


def plan(backend: str, *, whole: int, fixed: int, per_nnz: int, least_nnz: int) -> Plan:
    """Choose the rung of the memory ladder, before the work starts.

    Parameters
    ----------
    whole
        Bytes for the matrix as a whole and all that is made of it.
    fixed
        Bytes that row blocks need besides the blocks.
    per_nnz
        Bytes of a non-zero of a block and of what is made of it.
    least_nnz
        Non-zeros of the largest block that cannot be cut.

    Returns
    -------
    Plan. The first rung, from ``RSC_CORE_FIRST_RUNG`` on where that is set (``whole``, ``blocks``, ``managed``), that fits; the
    last one that the backend has where none does: ``managed`` on the GPU, the smallest blocks on the CPU.

    Raises
    ------
    ValueError
        When an environment variable cannot be read.
    """
    first, available = first_rung(), available_bytes(backend)
    block_nnz = max(least_nnz, int((available - fixed) / per_nnz))
    if first == "whole" and whole <= available:
        return Plan("whole", whole, available, block_nnz)
    if backend == "cpu" or (first != "managed" and fixed + least_nnz * per_nnz <= available):
        return Plan("blocks", whole, available, block_nnz)
    return Plan("managed", whole, available, block_nnz)


def use_managed_memory() -> None:
    """From now on CuPy allocates memory that CUDA moves between device and host."""
    import cupy

    cupy.cuda.set_allocator(_managed_pool().malloc)


@functools.cache
def _managed_pool():
    import cupy

    return cupy.cuda.MemoryPool(cupy.cuda.malloc_managed)
