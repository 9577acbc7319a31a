"""Runs the text of the CUDA kernels on the CPU, so that a machine without a GPU compares them with their twins.

A ``.cu`` file is compiled by the C++ compiler with ``cuda.h``: a block's threads take turns at barriers, blocks come one after
the other. What this cannot show is what comes from running at once: races, and the order of atomic operations. And ``exp``,
``log``, ``erfc`` and the like are those of the C library on both sides, where CUDA has its own: their last bits are compared on
a GPU only.
"""

import ctypes
import functools
import hashlib
import importlib
import inspect
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from rsc_core import backend
from rsc_core.kernels import twin
from rsc_core.pp import _hvg_flavors, _moments, _regress

HERE = Path(__file__).parent
KERNELS = Path(twin.__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
OPTIONS = ("-O1", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC", "-w")
SHARED = 227 << 10  # bytes of shared memory that a block of a Hopper may have
GLOBAL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(([^)]*)\)")


def text_for_cpu(source: Path) -> str:
    """The text of a ``.cu`` file as C++, with a function ``launch_NAME`` for each kernel."""
    text = backend.cuda_source(source)
    text = re.sub(r"asm\(.*\);", "n = emulated::dynamic_bytes;", text)  # shared_bytes
    text = re.sub(r"extern __shared__\s+(?:__align__\(\d+\)\s*)?([\w ]+?)\s+(\w+)\[\];", r"\1* \2 = (\1*)emulated::room.data();", text)
    for name, parameters in GLOBAL.findall(text):
        kinds = [re.sub(r"\b\w+$", "", parameter.replace("__restrict__", "").strip()).strip() for parameter in parameters.split(",")]
        values = ", ".join(f"*({kind}*)given[{i}]" for i, kind in enumerate(kinds))
        text += f'\nextern "C" int launch_{name}(long long blocks, unsigned threads, unsigned bytes, void** given) {{'
        text += f" return emulated::launch(blocks, threads, bytes, [=] {{ {name}({values}); }}); }}"
    return '#include "cuda.h"\n' + text


@functools.cache
def library(source: Path):
    """A ``.cu`` file compiled for the CPU, kept in the system's folder for temporary files by its content."""
    text = text_for_cpu(source)
    digest = hashlib.sha256((text + (HERE / "cuda.h").read_text() + str(OPTIONS)).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / "rsc_core_emulated"
    folder.mkdir(exist_ok=True)
    built = folder / f"{source.stem}-{digest}.so"
    if not built.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            Path(scratch, "kernel.cpp").write_text(text)
            command = [COMPILER, *OPTIONS, f"-I{HERE}", "-o", f"{scratch}/kernel.so", f"{scratch}/kernel.cpp"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:4000]
            Path(scratch, "kernel.so").rename(built)
    return ctypes.CDLL(str(built))


def launch(kernel, n_items, *args) -> None:
    """Run the CUDA kernel of a pair of :func:`rsc_core.kernels.twin.twin` on arrays of the host, as a launch on a device would."""
    given = inspect.getclosurevars(kernel).nonlocals
    name, threads = kernel.body.__name__, given["threads"]
    blocks = 1 if given["together"] else -(-n_items * given["per_item"] // threads)
    room = int(given["shared"](*args)) if given["shared"] else 0
    values = [np.array([n_items], dtype=np.int64)]
    for argument, dtype in zip(args, given["dtypes"], strict=True):
        array = isinstance(argument, np.ndarray) and argument.ndim
        assert not array or (argument.dtype == dtype and argument.flags.c_contiguous), name
        values.append(np.array([argument.ctypes.data], dtype=np.int64) if array else np.array([argument], dtype=dtype))
    places = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
    run = getattr(library(given["source"]), f"launch_{name}")
    stuck = run(ctypes.c_longlong(blocks), ctypes.c_uint(threads), ctypes.c_uint(room if room <= SHARED else 0), places)
    assert not stuck, f"{name}: threads wait for each other for ever"


def all_kernels() -> dict:
    """Every pair of the library by module and name."""
    found = {}
    for source in sorted(KERNELS.glob("*.cu")):
        module = importlib.import_module(f"rsc_core.kernels.{source.stem}")
        pairs = {name: value for name, value in vars(module).items() if hasattr(value, "body") and value.__module__ == module.__name__}
        there = {name for name, _ in GLOBAL.findall(source.read_text())}  # some pairs are of the CPU alone
        found |= {f"{source.stem}.{name}": value for name, value in pairs.items() if name in there}
    return found


MOST_THREADS = 1 << 19  # of a launch that is compared: an emulated thread takes a microsecond

# Arguments that differ by design: "summed" over the first axis, "sorted", or "scratch", which is not compared.
BY_DESIGN = {
    # On the CPU one thread adds into one copy, CUDA spreads its atomics over them.
    "counts.cell_and_gene_sums": {"gene_total": "summed", "gene_cells": "summed"},
    "counts.gene_moments": {"total": "summed", "squares": "summed", "above": "summed"},
    "panels.entry_counts": {"counts": "summed"},
    # Atomics decide in what order sets and cells find their places in a list or table.
    "levels.gather_arcs": {"name": "sorted", "total": "sorted", "owner": "scratch", "rank": "scratch"},
    "within.within_limits": {"candidates": "sorted"},
    # Working space; the CPU works in arrays of its own.
    "sepal.diffused": {"amount": "scratch", "change": "scratch"},
    # Room in which CUDA sorts a cell's values; the CPU sorts in arrays of its own.
    "places.places_of_stored": {"sorted_value": "scratch", "sorted_column": "scratch"},
    "places.mean_ranks": {"sorted_value": "scratch", "sorted_column": "scratch"},
    # The device lists the vertices of each turn apart, and counts them for its blocks; the CPU needs neither.
    "leiden.move_vertices": {"listed": "scratch", "counters": "scratch"},
    "leiden.form_sets": {"listed": "scratch", "counters": "scratch"},
}


def name_of(kernel) -> str:
    """Module and name of a pair."""
    return f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"


def differences(kernel, cpu, cuda) -> list:
    """What differs between the arguments of a kernel after its two bodies, a line for each argument."""
    found, by_design = [], BY_DESIGN.get(name_of(kernel), {})
    for argument, ours, theirs in zip(list(inspect.signature(kernel.body).parameters)[1:], cpu, cuda, strict=True):
        how = by_design.get(argument)
        if not isinstance(ours, np.ndarray) or how == "scratch":
            continue
        ours, theirs = (as_compared(array, how) for array in (ours, theirs))
        differ = np.unique(np.flatnonzero(ours.reshape(-1).view(np.uint8) != theirs.reshape(-1).view(np.uint8)) // ours.itemsize)
        if len(differ):
            at = np.unravel_index(differ[0], ours.shape)
            place = tuple(int(i) for i in at)
            found.append(f"{len(differ)} of {ours.size} values of {argument} differ, at {place} {ours[at]!r} and {theirs[at]!r}")
    return found


def as_compared(array, how):
    """An argument in the form in which both sides have the same; NaN has many bit patterns, which say nothing."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.nan, array)
    if how == "summed":
        return array.sum(axis=0)
    return np.sort(array, axis=-1) if how == "sorted" else array


def copies(args) -> list:
    """The arguments with arrays copied; a kernel may write where it reads, therefore one array given twice has one copy."""
    kept = {(a.ctypes.data, a.nbytes, a.dtype): a for a in args if isinstance(a, np.ndarray)}
    kept = {place: array.copy() for place, array in kept.items()}
    return [kept[a.ctypes.data, a.nbytes, a.dtype].reshape(a.shape) if isinstance(a, np.ndarray) else a for a in args]


def compared(kernel):
    """A function in the place of a pair's numba function: it runs both on the same arrays and compares all of them to the bit."""
    name, given = name_of(kernel), inspect.getclosurevars(kernel).nonlocals
    on_cpu = given["on_cpu"]

    def run(n_items, *args):
        if n_items * given["per_item"] > MOST_THREADS:
            on_cpu(n_items, *args)
            return
        other = copies(args)
        on_cpu(n_items, *args)
        launch(kernel, n_items, *other)
        found = differences(kernel, args, other)
        assert not found, f"{name}: the CUDA kernel is not its twin: {'; '.join(found)}"
        seen[name] = seen.get(name, 0) + 1

    return run


seen = {}  # launches compared of each kernel


def take_part() -> None:
    """Let every launch of this process on the CPU run the CUDA kernel, too, and compare."""
    for kernel in all_kernels().values():
        cells = dict(zip(kernel.__code__.co_freevars, kernel.__closure__, strict=True))
        cells["on_cpu"].cell_contents = compared(kernel)
    sized = _moments.tiles  # the CPU takes all columns at once, a CUDA block those that its shared memory holds
    for module in (_moments, _hvg_flavors, _regress):
        module.tiles = lambda n_panels, n_columns, _xp, n_sums=1: sized(n_panels, n_columns, None, n_sums)
