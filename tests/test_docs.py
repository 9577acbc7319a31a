"""The documentation: it builds without a warning, its links lead somewhere, and the names that it mentions exist."""

import html.parser
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MIGRATE = (DOCS / "migrate.md").read_text()
# Where the first names of the table of migration are.
THEIRS = {"sc": "scanpy", "sq": "squidpy", "dc": "decoupler"}
DECOUPLER_1 = {  # names of decoupler 1, which cannot be installed beside decoupler 2
    *(f"run_{name}" for name in ["aucell", "consensus", "gsea", "gsva", "mlm", "ora", "ulm", "viper", "wmean", "wsum", "zscore"]),
    *("get_pseudobulk", "rank_sources_groups", "read_gmt", "shuffle_net"),
}


def module_of_docs(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    """The module that makes pages from the code."""
    return module_of_docs("pages")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; the tutorials run."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", folder / "doctrees", DOCS, folder / "html"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    return folder / "html"


class _Page(html.parser.HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, file):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name"):
                self.anchors.add(value)


def test_every_link_of_the_site_leads_somewhere(site):
    found = {file: _Page(file) for file in site.rglob("*.html")}
    assert len(found) > 20
    broken = []
    for file, page in found.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            has_anchor = not parts.fragment or target not in found or unquote(parts.fragment) in found[target].anchors
            if not target.exists() or not has_anchor:
                broken.append(f"{file.relative_to(site)}: {link}")
    assert broken == []


@pytest.mark.skipif(not os.environ.get("RSC_FLOW_NETWORK"), reason="asks other sites: make links, or RSC_FLOW_NETWORK=1")
def test_links_to_other_sites_answer(tmp_path):
    options = ["-b", "linkcheck", "-D", "nb_execution_mode=off", "-q", "-d", tmp_path / "doctrees"]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options, DOCS, tmp_path / "links"], capture_output=True, text=True)
    assert done.returncode == 0, (tmp_path / "links" / "output.txt").read_text()


def test_the_site_needs_no_network(site):
    """Scripts, styles, pictures and fonts come from the site itself; only links that a reader follows lead elsewhere."""
    fetched = []
    for file in site.rglob("*.html"):
        text = file.read_text()
        tags = re.findall(r"<(?:script|link|img|iframe|source|video|object)\b[^>]*>", text)
        fetched += [f"{file.name}: {tag[:120]}" for tag in tags if re.search(r"""(?:src|href|data)=["'](?:https?:)?//""", tag)]
    for file in site.rglob("*.css"):
        fetched += [f"{file.name}: {found}" for found in re.findall(r"url\([\"']?(?:https?:)?//[^)]*", file.read_text())]
    assert fetched == []
    assert '<svg class="stages"' in (site / "index.html").read_text()


def test_the_flowchart_is_drawn_as_it_is_written(tmp_path):
    """Each stage has its box, no two boxes overlap, and each line begins and ends at boxes."""
    module_of_docs("diagram").write(ROOT / "README.md", tmp_path / "stages.svg")
    drawing = ElementTree.fromstring((tmp_path / "stages.svg").read_text())
    width, height = map(float, drawing.get("viewBox").split()[2:])
    boxes = {}
    rects = [rect for rect in drawing.iter("rect") if "stroke-dasharray" not in rect.get("style")]
    texts = [text for text in drawing.iter("text") if "italic" not in text.get("style")]
    for rect, text in zip(rects, texts, strict=True):
        x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
        boxes[text[0].text] = (x, y, x + w, y + h)
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1], (one, other)
    stages = {file.stem.upper() for file in (ROOT / "modules").glob("*.nf")}
    assert boxes.keys() - {"samplesheet.csv"} == stages
    ends = {(round((x + x2) / 2, 1), y) for x, _, x2, y in boxes.values()}
    for path in drawing.iter("path"):
        if path.get("marker-end"):
            start = tuple(map(float, re.match(r"M([\d.]+) ([\d.]+)", path.get("d")).groups()))
            assert any(np.allclose(start, end, atol=0.15) for end in ends)  # coordinates are written to 0.1, a middle is rounded again


def test_tutorials_show_what_they_computed(site):
    pancreas = (site / "tutorials/pancreas.html").read_text()
    spatial = (site / "tutorials/spatial.html").read_text()
    assert "n_obs × n_vars = 1937 × 20125" in pancreas
    assert pancreas.count("<img") >= 2 and spatial.count("<img") >= 4
    assert "Traceback" not in pancreas + spatial


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md"), ROOT / "containers/README.md"])
)
def test_links_of_a_text_lead_to_files(file):
    """As they are read in the repository, without the site."""
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    made = {DOCS / "generated" / "parameters.md"}
    for link in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        assert target.exists() or target in made, link
        if anchor and target.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}, link


def test_badges_say_what_is_true():
    """As the files say it now, and every badge that README shows is one of them."""
    made = module_of_docs("badges").badges()
    kept = {file.name: file.read_text() for file in (DOCS / "badges").iterdir()}
    assert kept == made, "python docs/badges.py"
    shown = re.findall(r"!\[[^\]]*\]\((?:docs/badges/)?([^)]+\.svg)\)", (ROOT / "README.md").read_text())
    assert set(shown) == set(made)


def _attribute(path: str):
    """What a dotted name is; raises where there is nothing."""
    first, *rest = path.split(".")
    found = importlib.import_module(first)
    for name in rest:
        try:
            found = getattr(found, name)
        except AttributeError:
            found = importlib.import_module(f"{found.__name__}.{name}")
    return found


def _cells(section: str) -> list[list[str]]:
    lines = MIGRATE.split(f"\n## {section}\n")[1].split("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `") or line.startswith("| none")]


def _names(cell: str) -> list[str]:
    return re.findall(r"`((?:rsc|sc|sq|dc)\.[\w.]+)`", cell)


@pytest.mark.parametrize("section", ["scanpy", "rapids-singlecell", "squidpy", "decoupler"])
def test_names_to_migrate_to_exist(section):
    place = 2 if section == "decoupler" else 1
    rows = _cells(section)
    assert len(rows) > 10
    for row in rows:
        names = _names(row[place])
        assert names or "*" in row[place] or "table above" in row[place], row
        for name in names:
            assert callable(_attribute(name.replace("rsc.", "rsc_core.", 1))), name


@pytest.mark.parametrize("section", ["scanpy", "squidpy", "decoupler"])
def test_names_to_migrate_from_exist(section):
    for row in _cells(section):
        for name in _names(row[0]):
            first, rest = name.split(".", 1)
            assert callable(_attribute(f"{THEIRS[first]}.{rest}")), name
        for name in _names(row[1]) if section == "decoupler" else ():
            assert name.split(".", 1)[1] in DECOUPLER_1, name


def test_every_public_function_is_in_the_tables_of_migration(pages):
    mentioned = set(re.findall(r"`rsc\.([\w.]+)`", MIGRATE))
    there = {f"{package}.{name}" for package in ("pp", "tl", "dc", "gr", "get") for name in pages.public_names(package)}
    assert there - mentioned == set()


def test_functions_that_the_methods_name_exist():
    text = (DOCS / "methods.md").read_text()
    for name in re.findall(r"\{py:func\}`~([\w.]+)`", text):
        assert callable(_attribute(name)), name


def test_every_parameter_is_on_its_page(pages):
    text = pages.parameters(ROOT)
    groups = json.loads((ROOT / "nextflow_schema.json").read_text())["$defs"].values()
    for name, entry in ((name, entry) for group in groups for name, entry in group["properties"].items()):
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `--{name}`"))
        assert line.count(" | ") == 3, line
        assert all(f"`{value}`" in line for value in entry.get("enum", ()))


def test_parameters_that_texts_mention_exist():
    groups = json.loads((ROOT / "nextflow_schema.json").read_text())["$defs"].values()
    known = {name for group in groups for name in group["properties"]}
    for file in (ROOT / "README.md", DOCS / "quickstart.md", DOCS / "troubleshooting.md", DOCS / "tutorials/spatial.md"):
        for name in re.findall(r"`--([a-z_]+)", file.read_text()):
            assert name in known or name == "help", f"{file.name}: --{name}"


def test_choices_of_the_readme_are_those_of_the_code():
    from rsc_core.stages.embed import EMBEDDINGS
    from rsc_core.stages.spatial import STATISTICS

    quickstart, readme = (DOCS / "quickstart.md").read_text(), (ROOT / "README.md").read_text()
    assert f"--spatial_stats {','.join(STATISTICS)}`" in quickstart
    assert set(re.search(r"`--embeddings` \| of `([a-z0-9,]+)`", readme)[1].split(",")) == set(EMBEDDINGS)
    stages = {file.stem.upper() for file in (ROOT / "modules").glob("*.nf")}
    assert stages <= set(re.findall(r"[A-Z]{2,}", readme.split("```mermaid")[1].split("```")[0]))


def test_messages_are_those_of_the_code(pages):
    """The cause of an error that a stage raises stands on the page as the code fills it in."""
    from rsc_core.dc import read_network
    from rsc_core.errors import InvalidInput

    with pytest.raises(InvalidInput) as caught:
        read_network("nothing.docx")
    pattern = next(line for line in pages.messages(ROOT).splitlines() if "not a known format of networks" in line).split(" | ")[0][2:]
    assert re.fullmatch(re.escape(pattern).replace("…", ".*"), str(caught.value.cause))


def test_measured_figures_are_those_of_the_files(pages):
    text = pages.measured(ROOT)
    for file in (ROOT / "benchmarks/results").glob("*.json"):
        part = text.split(f"## `{file.name}`\n")[1].split("\n## ")[0]
        found = json.loads(file.read_text())
        for key, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert f"| {key.replace('_', ' ')} | {value} |" in part


def test_the_numbers_of_packages_of_the_images():
    """Those of the lock lists, for the images' Python 3.12 on Linux."""
    from packaging.requirements import Requirement

    env = {"python_version": "3.12", "python_full_version": "3.12.3", "sys_platform": "linux", "platform_machine": "x86_64"}
    env |= {"platform_system": "Linux", "implementation_name": "cpython", "platform_python_implementation": "CPython", "os_name": "posix"}
    told = re.findall(r"`((?:requirements/)?\w+\.lock)` \| (\d+) packages", (ROOT / "containers" / "README.md").read_text())
    assert len(told) == 6
    for name, number in told:
        lock = ROOT / name if "/" in name else ROOT / "containers" / name
        listed = [Requirement(line.rstrip(" \\")) for line in lock.read_text().splitlines() if re.match("[A-Za-z]", line)]
        assert sum(one.marker is None or one.marker.evaluate(env) for one in listed) == int(number), name
