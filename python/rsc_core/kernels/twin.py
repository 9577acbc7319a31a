"""The pairing of a numba function with the CUDA kernel of the same name."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numba
import numpy as np
from numba.core import caching

from rsc_core import backend

BLOCK = 256  # threads of a CUDA block


class _ContentLocator(caching._CacheLocator):
    """Finds compiled CPU code by the content of its source, not by its path.

    The workflow stages the library into a new folder for each version; numba's own locators would compile anew in each.
    """

    def __init__(self, py_func, py_file):
        source = Path(py_file)
        content = source.read_bytes()
        digest = hashlib.sha256(content)
        if b"rsc_core.kernels.device" in content:  # inlined; a stage whose kernels do not import it has no such file
            digest.update((source.parent / "device.py").read_bytes())
        self._stamp, self._line = digest.hexdigest(), py_func.__code__.co_firstlineno
        self._path = Path(numba.config.CACHE_DIR) / f"rsc_core-{source.stem}-{self._stamp[:16]}"

    def get_cache_path(self):
        return str(self._path)

    def get_source_stamp(self):
        return self._stamp

    def get_disambiguator(self):
        return str(self._line)

    @classmethod
    def from_function(cls, py_func, py_file):
        if not numba.config.CACHE_DIR or Path(py_file).parent != Path(__file__).parent:
            return None
        locator = cls(py_func, py_file)
        locator.ensure_cache_path()
        return locator


caching.CacheImpl._locator_classes.insert(0, _ContentLocator)


def twin(types: str, threads: int = BLOCK, per_item: int = 1, together: bool = False, shared=None):
    """Pair a numba body with the CUDA kernel of the same name in the ``.cu`` file beside it.

    Parameters
    ----------
    types
        A dtype for each argument after ``n_items``, separated by spaces. A raw kernel would silently misread another
        dtype, so it is refused. A scalar is cast.
    threads
        Threads of a CUDA block.
    per_item
        CUDA threads that share one item (1, or 32 for a warp an item).
    together
        The blocks wait for each other; there are no more of them than the device holds at once (``backend.launch_together``).
    shared
        A function of the arguments after ``n_items``: bytes of shared memory for a CUDA block. Where a block cannot have as
        many, it gets none, which the kernel sees by ``shared_bytes()``.

    Returns
    -------
    A function ``launch(n_items, *args)``: the arrays among the arguments choose which body runs.
    """
    dtypes = [np.dtype(t) for t in types.split()]

    def pair(body):
        parallel = "prange" in body.__code__.co_names
        # Never fastmath: both sides round alike. A division by zero is no error on either side; a test for it would keep loops scalar.
        on_cpu = numba.njit(parallel=parallel, cache=True, error_model="numpy")(body)
        source = Path(body.__code__.co_filename).with_suffix(".cu")

        @functools.wraps(body)
        def launch(n_items, *args):
            args, xp = _checked(body.__name__, args, dtypes)
            if n_items == 0:
                return
            if xp is np:
                on_cpu(n_items, *args)
                return
            kernel, n_blocks = backend.kernel(source, body.__name__), -(-n_items * per_item // threads)
            arguments = (np.int64(n_items), *args)
            if together:
                backend.launch_together(kernel, n_blocks, threads, arguments)
            else:
                room = backend.room_in_block(kernel, shared(*args)) if shared else 0
                kernel((n_blocks,), (threads,), arguments, shared_mem=room)

        launch.body = body
        return launch

    return pair


@functools.cache
def _library(kind: type):
    """The array library of a type of arrays; None for scalars."""
    if issubclass(kind, np.ndarray):
        return np
    return backend.namespace("gpu") if backend.is_of_device(kind) else None


def _checked(kernel: str, args, dtypes):
    """The arguments with scalars cast, and their array library. One pass: some steps launch thousands of small kernels."""
    ready, found = [], None
    for argument, dtype in zip(args, dtypes, strict=True):
        xp = _library(type(argument))
        if xp is None or argument.ndim == 0:
            ready.append(dtype.type(argument))
            continue
        if argument.dtype != dtype or not argument.flags.c_contiguous:
            raise TypeError(
                f"{kernel} takes contiguous {dtype} arrays; one of {argument.dtype}, contiguous={argument.flags.c_contiguous} came"
            )
        if found is not xp:
            found = xp if found is None else backend.xp_of(*args)  # raises
        ready.append(argument)
    return ready, found or np
