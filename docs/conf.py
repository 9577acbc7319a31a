"""Settings of the documentation site; `make docs` builds it with warnings as errors."""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "python")]

import diagram  # noqa: E402  (needs the line above)
import pages  # noqa: E402

import rsc_core  # noqa: E402

project = "rsc-flow"
author = "the authors of rsc-flow"
release = version = rsc_core.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "generated/*.inc.md"]
html_theme = "furo"
html_title = f"rsc-flow {release}"
html_show_copyright = False
nitpicky = True
# What a docstring says to readers of the code about a part that has no page.
nitpick_ignore_regex = [("py:.*", r"rsc_core\.\w+\._.*"), ("py:class", "NhoodEnrichmentResult"), ("py:func", "smallest_count_dtype")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
copybutton_exclude = ".linenos, .gp, .go"

# The tutorials run at every build, on the CPU; an error in one fails the build.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # waiting for each other costs threads more than this data does
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent / "python"), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"

# make links: a site that is busy for a moment is no broken link.
linkcheck_timeout = 20
linkcheck_retries = 3

autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False

SECTIONS = ("Attributes", "Notes", "Parameters", "Raises", "Returns", "See Also", "Warns", "Yields")


def _as_prose(_app, _what, _name, _obj, _options, lines):
    """Sections of a docstring as headings: their entries are definition lists already, and prose stays prose.

    Bars and stars are what they look like: absolute values and products.
    """
    for number in range(len(lines) - 1):
        if lines[number].strip() in SECTIONS and set(lines[number + 1].strip()) == {"-"}:
            lines[number : number + 2] = [f".. rubric:: {lines[number].strip()}", ""]
    lines[:] = [
        "".join(part if part.startswith("``") else re.sub(r"(?<!\\)([|*])", r"\\\1", part) for part in re.split(r"(``.*?``)", line))
        for line in lines
    ]


def setup(app):
    pages.write(DOCS.parent, DOCS / "generated")
    diagram.write(DOCS.parent / "README.md", DOCS / "generated" / "stages.svg")
    app.connect("autodoc-process-docstring", _as_prose)
