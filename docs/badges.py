"""Badges of README as files, from what the project's files say; no service is asked.

``python docs/badges.py`` writes ``docs/badges/*.svg``; a test holds them to the files that they speak of.
"""

import html
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LETTER, HEIGHT = 6.7, 20
COLOUR = "#0b57a4"


def claims(root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Of each badge: what it speaks of, and what the files say."""
    project = (root / "python" / "pyproject.toml").read_text()
    manifest = (root / "nextflow.config").read_text()
    said = {
        "version": ("rsc-flow", re.search(r"^    version +=\s+'(.*)'", manifest, re.MULTILINE)[1]),
        "license": ("license", re.search(r'^license = "(.*)"', project, re.MULTILINE)[1]),
        "python": ("python", re.search(r'^requires-python = ">=(.*)"', project, re.MULTILINE)[1] + "+"),
        "nextflow": ("nextflow", re.search(r"nextflowVersion = '>=(\d+\.\d+)", manifest)[1] + "+"),
    }
    if "Apache License" not in (root / "LICENSE").read_text():
        raise ValueError("LICENSE is not what python/pyproject.toml says")
    return said


def svg(left: str, right: str) -> str:
    """A badge of two words."""
    one, two = (round(len(text) * LETTER + 12) for text in (left, right))
    name = html.escape(f"{left}: {right}")
    words = [(one / 2, left), (one + two / 2, right)]
    texts = "".join(f'<text x="{x:g}" y="14">{html.escape(word)}</text>' for x, word in words)
    end = f"M{one} 0h{two - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3h-{two - 3}z"
    font = 'fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"'
    size = f'width="{one + two}" height="{HEIGHT}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{name}"><title>{name}</title>'
        f'<rect {size} rx="3" fill="#555"/><path d="{end}" fill="{COLOUR}"/><g {font}>{texts}</g></svg>\n'
    )


def badges(root: Path = ROOT) -> dict[str, str]:
    """The text of each file."""
    return {f"{name}.svg": svg(*words) for name, words in claims(root).items()}


if __name__ == "__main__":
    (ROOT / "docs" / "badges").mkdir(exist_ok=True)
    for file, text in badges().items():
        (ROOT / "docs" / "badges" / file).write_text(text)
