"""Checks of inputs that stages share."""

from __future__ import annotations

from rsc_core.errors import InvalidInput


def check_same_cells(cells, others, path) -> None:
    """Raise InvalidInput unless two inputs name the same cells in the same order."""
    if len(cells) != len(others) or (cells != others).any():
        raise InvalidInput(
            f"{path}: its {len(others)} cells are not the {len(cells)} cells of the other input.",
            "Use the files of one run, or run its stage again.",
        )
