"""Whole files or none, and what identifies their content."""

from __future__ import annotations

import contextlib
import hashlib
import os
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
    finally:
        temporary.unlink(missing_ok=True)


def digest_of_names(names) -> str:
    """SHA-256 of a list of names in their order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def digest_of_file(path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
