"""Whole files or none, and what identifies their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


@contextlib.contextmanager
def replaced(path):
    """A temporary path in the same folder that takes the place of ``path`` when the block ends without an error.

    A reader therefore sees the old file, or the new one whole; what an interrupted task leaves has another name.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # the new name is in the folder, which has a cache of its own
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replaced_folder(path):
    """:func:`replaced` for a folder: a path for a new one, which takes the place of what is at ``path`` in the end."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def digest_of_names(names) -> str:
    """SHA-256 of a list of names in their order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def digest_of_file(path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest_of_path(path) -> str:
    """SHA-256 of a file's bytes; of a folder, of the names and digests of its files."""
    path = Path(path)
    if not path.is_dir():
        return digest_of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256("".join(f"{file.relative_to(path)}\0{digest_of_file(file)}\n" for file in files).encode()).hexdigest()


def ahead(items):
    """The items of an iterable, the next one being made in a thread while one is in use."""
    items = iter(items)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item
