"""What a file from elsewhere must not make us do: leave its folder, run its code, or fill the memory.

Checked before a reader sees the input; costs a look at the names of HDF5's objects and of the folder's files.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import gzip
import json
import os
import resource
import signal
from pathlib import Path

import h5py
import scipy.sparse as sp

from rsc_core.errors import InvalidInput

EXPANSION = 600  # bytes from one of gzip's or HDF5's: counts have 3 to 100, a bomb 1000
HARMLESS = 1 << 28  # bytes below which nothing is a bomb
HDF5_SECONDS = 60  # of CPU for what HDF5 tells of a file; the names of five million cells take two
FAULTS = {signal.SIGXCPU, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL}
# Compressors and filters of zarr that only move bytes. "pickle" runs code of the file.
CODECS = {
    "zlib",
    "gzip",
    "zstd",
    "lz4",
    "bz2",
    "lzma",
    "blosc",
    "shuffle",
    "delta",
    "fixedscaleoffset",
    "quantize",
    "packbits",
    "categorize",
    "astype",
    "vlen-utf8",
}
CODECS |= {"vlen-bytes", "vlen-array", "json2", "adler32", "crc32", "crc32c", "bytes", "transpose", "sharding_indexed", "fletcher32"}
SOURCE = "Ask for the file as the program that made it writes it, and do not use one from a source that you do not know."


def check(path: Path) -> None:
    """Refuse links that lead out of a folder, HDF5 files that read from others, bombs, and zarr codecs that run code."""
    files = [path]
    if path.is_dir():
        home = Path(os.path.realpath(path))  # resolve() fails on a link to itself
        files = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        for entry in [Path(folder) / name for folder, folders, names in os.walk(path) for name in folders + names]:
            target = Path(os.path.realpath(entry))
            if entry.is_symlink() and not target.is_relative_to(home):
                raise InvalidInput(
                    f"{path.name}: {entry.relative_to(path)} is a link to {target}, out of the folder.",
                    "Put the file itself into the folder, or give its own path.",
                )
    for file in files:
        if file.name in (".zarray", "zarr.json", ".zmetadata"):
            _check_codecs(file, path.name)
        elif file.suffix.lower() in (".h5", ".h5ad", ".loom") or (file == path and h5py.is_hdf5(file)):
            _check_hdf5(file)


def _check_codecs(file: Path, name: str) -> None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the reader says so
    for codec in _codecs(found):
        if codec not in CODECS:
            raise InvalidInput(f"{name}: {file.parent.name} is stored with the codec {codec!r}, which is not allowed.", SOURCE)


def _codecs(value):
    """Names of compressors, filters and codecs anywhere in zarr's metadata."""
    if isinstance(value, list):
        for item in value:
            yield from _codecs(item)
    elif isinstance(value, dict):
        for key, held in value.items():
            listed = held if isinstance(held, list) else [held]
            if key in ("compressor", "filters", "codecs", "index_codecs"):
                yield from (str(codec.get("id", codec.get("name"))) for codec in listed if isinstance(codec, dict))
            if key != "attributes":
                yield from _codecs(held)


def _check_hdf5(path: Path) -> None:
    size = path.stat().st_size
    fault = _fault_of(functools.partial(_touch_all, path, size))
    if fault is not None:
        how = f"does not come to an end in {HDF5_SECONDS} s" if fault == signal.SIGXCPU else f"ends with {fault.name}"
        raise InvalidInput(f"{path.name}: HDF5's library {how} at this file: it is damaged.", "Copy or download it again, or make it anew.")
    try:
        with h5py.File(path) as file:
            _check_group(file, path.name, size, set())
    except InvalidInput:
        raise
    except Exception:  # damaged, in one of many ways: the reader says so
        return


def _fault_of(function) -> signal.Signals | None:
    """The signal that ends a function of HDF5 in a process of its own, one for too long a run; None where it returns or raises.

    HDF5 goes through some damaged files for ever, or through memory that is not its own, where nothing in the same process can stop it.
    """
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()  # that it crashes here is the answer, and no report of Python's
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (HDF5_SECONDS, HDF5_SECONDS + 1))
            function()
        finally:
            os._exit(0)  # what it raises is raised again by the reader, which says so
    status = os.waitpid(child, 0)[1]
    ended_by = signal.Signals(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
    return ended_by if ended_by in FAULTS else None


def _touch_all(path: Path, size: int) -> None:
    with h5py.File(path) as file:
        _touch(file, size, set())


def _touch(item, size: int, seen: set) -> None:
    """Read what HDF5 finds by following addresses in the file: attributes, texts of any length, where the chunks lie, groups."""
    with contextlib.suppress(Exception):
        dict(item.attrs)
    with contextlib.suppress(Exception):
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            if item.chunks is not None:
                item.id.get_num_chunks()
            if item.dtype.hasobject and item.nbytes <= max(HARMLESS, EXPANSION * size):
                item[()]
    address = h5py.h5o.get_info(item.id).addr
    if isinstance(item, h5py.Group) and address not in seen:
        seen.add(address)
        for key in item:
            with contextlib.suppress(Exception):
                if isinstance(item.get(key, getlink=True), h5py.HardLink):
                    _touch(item[key], size, seen)


def _check_group(group, name: str, size: int, seen: set) -> None:
    for key in group:
        link = group.get(key, getlink=True)
        place = f"{group.name.rstrip('/')}/{key}"
        if isinstance(link, h5py.ExternalLink):
            raise InvalidInput(f"{name}: {place} is a link to another file, {link.filename!r}.", SOURCE)
        if isinstance(link, h5py.SoftLink):
            continue  # its target is in the file, and is looked at there
        item = group[key]
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise InvalidInput(f"{name}: {place} is stored in another file.", SOURCE)
            if item.nbytes > max(HARMLESS, EXPANSION * size):
                raise InvalidInput(f"{name}: {place} claims {item.nbytes} bytes, but the file has {size}: it is damaged or a bomb.", SOURCE)
        elif isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:  # a group may hold itself
                seen.add(address)
                _check_group(item, name, size, seen)


class BoundedGzip(gzip.GzipFile):
    """A gzip file for reading that ends with InvalidInput where it grows like a bomb."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._told, self._packed, self._unpacked = path.name, path.stat().st_size, 0

    def _count(self, chunk):
        self._unpacked += len(chunk)
        if self._unpacked > max(HARMLESS, EXPANSION * self._packed):
            raise InvalidInput(f"{self._told}: {self._packed} bytes unpack to more than {self._unpacked}: it is damaged or a bomb.", SOURCE)
        return chunk

    def read(self, size=-1):
        """As of GzipFile; all of the file is read in parts, so that a bomb is noticed before it fills the memory."""
        if size is not None and size >= 0:
            return self._count(super().read(size))
        parts = iter(lambda: self.read(1 << 24), b"")
        return b"".join(parts)

    def read1(self, size=-1):
        """As of GzipFile; what text readers call."""
        return self._count(super().read1(size if size and size > 0 else 1 << 16))


def check_matrix_market(path: Path, entries: int) -> None:
    """Refuse a header that claims more entries than the file can hold: the reader takes memory for them at once.

    An entry has six bytes at least, of which gzip makes no less than a thousandth.
    """
    size, packed = path.stat().st_size, path.name.endswith(".gz")
    if entries * 6 > size * (1100 if packed else 1) + 64:
        raise InvalidInput(f"{path.name}: it claims {entries} entries, but the file has {size} bytes.", "Copy the file again, whole.")


def check_matrix(x) -> None:
    """Raise ValueError for a matrix of something else than real numbers, or whose indices lead out of it."""
    if x.dtype.kind not in "iufb":
        raise ValueError(f"its values are {x.dtype}, not numbers")
    if x.ndim != 2:
        raise ValueError(f"it has {x.ndim} dimensions, not 2")
    if sp.issparse(x) and x.format in ("csr", "csc"):
        x.check_format(full_check=True)
