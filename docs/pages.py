"""Pages of the site that are made from the code: parameters, API, messages, measured figures.

Called by conf.py before every build, so that no page can fall behind what it describes.
"""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

PACKAGES = {
    "pp": "Preprocessing",
    "tl": "Tools",
    "dc": "Activity",
    "gr": "Spatial statistics",
    "get": "Views of results, moves between host and device",
    "io": "Files",
    "metrics": "Figures of quality",
}
STAGES = ["INGEST", "QC", "MERGE", "PREPROCESS", "INTEGRATE", "NEIGHBORS", "EMBED", "CLUSTER", "MARKERS", "ACTIVITY", "SPATIAL"]
STAGES += ["CONCORDANCE", "ASSEMBLE", "REPORT", "SPATIALDATA"]
ERRORS = {"InvalidInput": 65, "BackendUnavailable": 69, "MemoryExhausted": 42}
BOUNDS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}", "pattern": "`{}`"}


def write(root: Path, folder: Path) -> None:
    """Write all pages; a file whose text stays the same is not touched, so that builds are incremental."""
    made = {"parameters.md": parameters(root), "messages.inc.md": messages(root), "measured.inc.md": measured(root)}
    made |= {f"{name.lower()}.md": of_root(root, f"{name}.md") for name in ("CHANGELOG", "CONTRIBUTING")}
    made |= {f"api_{name}.md": api(name, title) for name, title in PACKAGES.items()}
    folder.mkdir(exist_ok=True)
    for name, text in made.items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def of_root(root: Path, name: str) -> str:
    """A file of the project's folder, with its links as they are from the folder of the pages."""
    return re.sub(r"\]\((?!\w+:|#)([^)]+)\)", _moved_link, (root / name).read_text())


def _moved_link(found) -> str:
    target = found[1].removeprefix("docs/")
    here = target.lower() if target in ("CHANGELOG.md", "CONTRIBUTING.md") else None
    return f"]({here or ('../' if target != found[1] else '../../') + target})"


def cell(text) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: list[str], rows) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(cell, row)) + " |" for row in rows), ""]


def parameters(root: Path) -> str:
    """Every parameter of the workflow, from nextflow_schema.json."""
    text = [
        "# Parameters",
        "",
        "Made from `nextflow_schema.json`, by which a run checks its parameters before anything starts. Give one as `--name value`, or",
        "many in a file (`-params-file params.yml`). `nextflow run . --help` prints the same.",
        "",
    ]
    for group in json.loads((root / "nextflow_schema.json").read_text())["$defs"].values():
        rows = [
            (f"`--{name}`" + (" (required)" if name in group.get("required", ()) else ""), _values(entry), _default(entry), _said(entry))
            for name, entry in group["properties"].items()
        ]
        text += [f"## {group['title']}", "", *table(["parameter", "values", "default", "what it does"], rows)]
    return "\n".join(text)


def _values(entry: dict) -> str:
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    return ", ".join([entry["type"], *(form.format(entry[key]) for key, form in BOUNDS.items() if key in entry)])


def _default(entry: dict) -> str:
    default = entry.get("default", "")
    return f"`{json.dumps(default) if isinstance(default, bool) else default}`" if default != "" else "none"


def _said(entry: dict) -> str:
    return prose(" ".join(filter(None, [entry["description"], entry.get("help_text")])))


def prose(text: str) -> str:
    """Text in which only code between backticks is markup; all else stands as it is typed."""
    parts = re.split(r"(`+[^`]+`+)", text)
    parts[::2] = [re.sub(r"([<*_])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def public_names(package: str) -> list[str]:
    """What a package of rsc_core offers."""
    module = importlib.import_module(f"rsc_core.{package}")
    found = getattr(module, "__all__", None)
    if found is None:
        found = [name for name, value in vars(module).items() if inspect.isfunction(value) and value.__module__ == module.__name__]
    return sorted(name for name in found if not name.startswith("_"))


def api(package: str, title: str) -> str:
    """The docstrings of one package."""
    module = importlib.import_module(f"rsc_core.{package}")
    objects = {name: getattr(module, name) for name in public_names(package)}
    firsts = {name: prose(inspect.getdoc(value).splitlines()[0].replace("\\|", "|")) for name, value in objects.items()}
    kinds = {name: "class" if inspect.isclass(value) else "function" for name, value in objects.items()}
    rows = [(f"{{py:{'class' if kinds[name] == 'class' else 'func'}}}`~rsc_core.{package}.{name}`", firsts[name]) for name in objects]
    text = [f"# `rsc_core.{package}`: {title[0].lower() + title[1:]}", "", inspect.getdoc(module).splitlines()[0], ""]
    text += table(["name", "what it does"], rows)
    text += ["```{eval-rst}", f".. currentmodule:: rsc_core.{package}", ""]
    for name, kind in kinds.items():
        text += [f".. auto{kind}:: rsc_core.{package}.{name}", *(["   :members:"] if kind == "class" else []), ""]
    return "\n".join([*text, "```", ""])


def messages(root: Path) -> str:
    """Every error of the code with cause and remedy; … stands for what the message fills in."""
    found: dict[str, set] = {}
    for file in sorted((root / "python" / "rsc_core").rglob("*.py")):
        tree = ast.parse(file.read_text())
        texts = _texts(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and len(node.args) == 2:
                cause, remedy = (_message(argument, texts) for argument in node.args)
                if cause.strip("… ."):
                    found.setdefault(_where(file, root), set()).add((cause, remedy, ERRORS[node.func.id]))
    order = [*STAGES, *sorted(found.keys() - set(STAGES))]
    text = []
    for where in filter(found.__contains__, order):
        text += [f"### {where}", "", *table(["message", "remedy", "exit code"], sorted(found[where]))]
    return "\n".join(text)


def _texts(tree) -> dict:
    """Texts that a name of the file stands for, in the order of the lines."""
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and isinstance(node.value, kinds)]
    texts: dict[str, list] = {}
    for node in sorted(nodes, key=lambda node: node.lineno):
        for target in node.targets:
            if isinstance(target, ast.Name):
                texts.setdefault(target.id, []).append(node)
    return texts


def _where(file: Path, root: Path) -> str:
    first = file.relative_to(root / "python" / "rsc_core").parts[0]
    stage = file.stem.partition("_")[0].upper()
    if first == "stages" and stage in STAGES:
        return stage
    elsewhere = {"backend.py": "Where the work runs", "cli.py": "Where the work runs"}
    return elsewhere.get(first, PACKAGES.get(first, "More than one stage"))


def _message(node, texts) -> str:
    """Text of a message in Markdown."""
    if isinstance(node, ast.Name):
        before = [found for found in texts.get(node.id, ()) if found.lineno <= node.lineno]
        return _message(before[-1].value, {}) if before else "…"
    if isinstance(node, ast.BinOp):
        return _message(node.left, texts) + _message(node.right, texts)
    if isinstance(node, ast.Constant):
        text = str(node.value)
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    else:
        return "…"
    for mark in "\\`*_<[":
        text = text.replace(mark, "\\" + mark)
    return text


LONG = ("rows", "versions", "note", "runs", "kernels", "not_checked")  # stand in the file alone


def measured(root: Path) -> str:
    """What lies in benchmarks/results, without the rows of single tasks."""
    text = []
    for file in sorted((root / "benchmarks" / "results").glob("*.json")):
        found = json.loads(file.read_text())
        found = {"rows": found} if isinstance(found, list) else found
        rows = [(key.replace("_", " "), _plain(value)) for key, value in found.items() if key not in LONG]
        text += [f"## `{file.name}`", "", *table(["", ""], [*rows, *_task_totals(found.get("rows", []))])]
        if file.name.startswith("startup_"):
            text += ["", *table(STARTS, map(_start, found["rows"]))]
    return "\n".join(text)


STARTS = ["stage", "--help", "imports", "start of the work", "run, empty kernel caches", "run, filled", "imports of 100 ms and more, in ms"]


def _start(row) -> list:
    """A stage's seconds, in brackets those of CPU."""
    measured = [row[key] for key in ("help", "import", "run_cold", "run_warm")]
    help_, imports, cold, warm = (f"{took['seconds']:.2f} ({took['cpu_seconds']:.2f})" for took in measured)
    packages = (f"{name} {seconds * 1000:.0f}" for name, seconds in row["import_seconds"].items() if seconds >= 0.1)
    return [row["stage"].upper(), help_, imports, f"{row['start']:.2f}", cold, warm, ", ".join(packages)]


def _plain(value) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key.replace('_', ' ')}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).replace("_", "\\_")


def _task_totals(rows) -> list[tuple]:
    return [("rows", f"{len(rows)}, in the file")] if rows else []
