"""A requirement of the schema and whether it is met."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Finding:
    """One requirement: where it stands in the file, what it asks, whether it is met, what was found, and what to do."""

    where: str
    asks: str
    met: bool
    found: str = ""
    remedy: str = ""


def listed(values, most: int = 4) -> str:
    """The first values as text."""
    values = [str(value) for value in dict.fromkeys(map(str, values))]
    return ", ".join(values[:most]) + (f" and {len(values) - most:,} more" if len(values) > most else "")
