#!/usr/bin/env python3
"""Make the tables and plots of docs/benchmarks.md from the rows that run.py wrote.

usage: python benchmarks/table.py --results benchmarks/results/steps_gpu.json --output docs/benchmarks.md
"""

import itertools
import json
from pathlib import Path

import click
import numpy as np

OURS = "rsc_core"
QUALITY_DIGITS = 3


def ratios(rows, against):
    """(step, size, label) -> their median / ours; above 1: rsc_core is faster."""
    ours = {place(row): row["median"] for row in rows if row["tool"] == OURS and row["status"] == "ok"}
    theirs = {place(row): row["median"] for row in rows if row["tool"] == against and row["status"] == "ok"}
    return {key: theirs[key] / ours[key] for key in ours if key in theirs}


def place(row):
    """What two rows must share to be compared."""
    return row["step"], row["size"], row.get("label", "")


def geometric_mean(values) -> float | None:
    """None of nothing."""
    values = list(values)
    return float(np.exp(np.mean(np.log(values)))) if values else None


def exponent(seconds: dict) -> float | None:
    """Slope of log time over log cells; None below two sizes."""
    if len(seconds) < 2:
        return None
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def markdown(rows) -> str:
    """All tables."""
    text = []
    for (size, label, backend), part in _grouped(rows):
        title = f"{size} cells, rsc_core on the {backend.upper()}" + (f" ({label})" if label else "")
        text += [f"## {title}", "", _machine(part), "", *_table(part), ""]
    text += _growth(rows)
    return "\n".join(text).rstrip() + "\n"


def _grouped(rows):
    """Rows of one size, label and backend of rsc_core; beside its GPU rows stand those of all tools, beside its CPU rows no GPU's."""
    groups = {}  # the spatial steps of a size have their own number of points
    for row in rows:
        key = row["size"], row.get("label", "")
        groups[key] = min(row["n_cells"], groups.get(key, row["n_cells"]))
    for size, label in sorted(groups, key=lambda key: (groups[key], key)):
        part = [row for row in rows if row["size"] == size and row.get("label", "") == label]
        backends = sorted({row["backend"] for row in part if row["tool"] == OURS}) or [part[0]["backend"]]
        for backend in backends:
            yield (size, label, backend), [row for row in part if row["backend"] == backend or (row["tool"] != OURS and backend == "gpu")]


def _machine(rows) -> str:
    row = next((row for row in rows if "nonzeros" in row), None)
    if row is None:
        return ""
    devices = sorted({f"{row['tool']}: {row['device']}, {row['cpus']} CPU cores" for row in rows if "device" in row})
    packages = sorted({f"{name} {version}" for row in rows for name, version in row.get("versions", {}).items()})
    genes = f"{row['n_genes']:,} genes, {row['nonzeros']:,} non-zeros"
    return f"{'; '.join(devices)}. {genes}. {row['date']}. {', '.join(packages)}."


def _table(rows):
    tools = [OURS, *sorted({row["tool"] for row in rows} - {OURS})]
    steps = list(dict.fromkeys(row["step"] for row in rows))
    others = tools[1:]
    head = ["step", *(f"{tool}: s (min-max), first" for tool in tools), *(f"{tool} / {OURS}" for tool in others)]
    head += ["share of the bound", "peak GB", "quality"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    all_ratios = {tool: ratios(rows, tool) for tool in others}
    for step in steps:
        of = {row["tool"]: row for row in rows if row["step"] == step}
        found = [next((v for (name, *_), v in all_ratios[tool].items() if name == step), None) for tool in others]
        cells = [step, *(_time(of.get(tool)) for tool in tools), *("" if value is None else f"{value:.2f}" for value in found)]
        cells += [_share(of.get(OURS)), _memory(of, tools), _quality(of, tools)]
        lines.append(f"| {' | '.join(cells)} |")
    for tool in others:
        values = list(all_ratios[tool].values())
        if values:
            slower = sum(value < 0.95 for value in values)
            mean = geometric_mean(values)
            lines += ["", f"{tool} / {OURS}: geometric mean {mean:.2f} over {len(values)} steps; {slower} below 0.95."]
            if "all" in steps:
                lines[-1] += " A step that a tool puts off counts in another; all together is what compares."
    return lines


def _time(row) -> str:
    if row is None:
        return ""
    if "median" not in row:
        return row["status"]
    if row.get("quality") is None:
        return "no quality"
    spread = f"({_number(row['min'])}-{_number(row['max'])})" if row["repeats"] else "(first call only)"
    return f"{_number(row['median'])} {spread}, {_number(row['first'])}"


def _number(value) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _share(row) -> str:
    share = (row or {}).get("bound_share")
    return "" if share is None else f"{100 * share:.2g} %"


def _memory(of, tools) -> str:
    return " / ".join(f"{of[tool]['peak_memory'] / 1e9:.2f}" if tool in of and "peak_memory" in of[tool] else "-" for tool in tools)


def _quality(of, tools) -> str:
    """Each figure once, the tools' values with strokes between."""
    kinds = list(dict.fromkeys(key for tool in tools for key in (of.get(tool, {}).get("quality") or {})))
    values = {key: [(of.get(tool, {}).get("quality") or {}).get(key) for tool in tools] for key in kinds}
    return "; ".join(f"{key.replace('_', ' ')} {' / '.join(_figure(value) for value in found)}" for key, found in values.items())


def _figure(value) -> str:
    return "-" if value is None else f"{value:.{QUALITY_DIGITS}g}" if isinstance(value, float) else str(value)


def _growth(rows):
    """Exponents of every tool's steps that were timed at two sizes or more."""
    found = {}
    for row in rows:
        if row["status"] == "ok":
            found.setdefault((row["step"], f"{row['tool']} ({row['backend']})", row.get("label", "")), {})[row["n_cells"]] = row["median"]
    found = {key: value for key, value in found.items() if len(value) > 1}
    if not found:
        return []
    sizes = sorted(set(itertools.chain.from_iterable(found.values())))
    lines = ["## Growth", "", f"| step | tool | {' | '.join(f'{n:,} cells' for n in sizes)} | exponent |", "|" + "---|" * (len(sizes) + 3)]
    for (step, tool, label), seconds in found.items():
        times = " | ".join(_number(seconds[n]) if n in seconds else "" for n in sizes)
        lines.append(f"| {step} | {tool}{f', {label}' if label else ''} | {times} | {exponent(seconds):.2f} |")
    return lines


def plot(rows, path) -> None:
    """Medians of all tools by step, a panel a size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = [(key, [row for row in part if row["status"] == "ok"]) for key, part in _grouped(rows)]
    groups = [(key, part) for key, part in groups if part]
    steps = list(dict.fromkeys(row["step"] for _, part in groups for row in part))
    if not groups:
        return
    figure, axes = plt.subplots(1, len(groups), figsize=(1.5 + 4.5 * len(groups), 1 + 0.24 * len(steps)), sharey=True, squeeze=False)
    tools = [OURS, *sorted({row["tool"] for row in rows} - {OURS})]
    for axis, ((size, label, backend), part) in zip(axes[0], groups, strict=True):
        for number, tool in enumerate(tools):
            mine = [row for row in part if row["tool"] == tool]
            middle = [row["median"] for row in mine]
            error = [[m - row["min"] for m, row in zip(middle, mine, strict=True)], [row["max"] - row["median"] for row in mine]]
            axis.errorbar(middle, [steps.index(row["step"]) for row in mine], xerr=error, fmt="os^Dvx*"[number % 7], label=tool, ms=5)
        bounds = [(row["bound_seconds"], steps.index(row["step"])) for row in part if row["tool"] == OURS and "bound_seconds" in row]
        axis.plot(*zip(*bounds, strict=True), "|", color="black", label="bound of the device") if bounds else None
        axis.set(xscale="log", xlabel="seconds, warm", title=f"{size} cells, {backend}{f', {label}' if label else ''}")
        axis.grid(axis="x", alpha=0.4)
    axes[0][0].set_yticks(range(len(steps)), steps)
    axes[0][0].invert_yaxis()
    axes[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


HEAD = """# Benchmarks

Made by `benchmarks/table.py` from `benchmarks/results/`. Every tool reads the same stored input of a step, in one process a
tool, the device synchronised before and after. Times are the median of the warm calls (smallest-largest), then the first call,
which compiles. Ratios above 1: rsc_core is faster. The bound is the larger of bytes and operations of one good algorithm over
the rates of the device (a copy, a float32 matrix product, both measured in the run). Peak memory includes the input. A time
without a figure of quality is not shown; figures stand in the order of the tools.
"""
# Made from benchmarks/results when the site is built.
FOOT = """
```{include} generated/measured.inc.md
```
"""


@click.command()
@click.option("--results", "files", multiple=True, required=True, help="JSON file of run.py; may be given several times.")
@click.option("--output", required=True, help="Markdown file; the plot lies beside it as .png.")
def main(files, output):
    """Write the Markdown and the plot."""
    parts = [json.loads(Path(file).read_text()) for file in files]
    rows = [row for part in parts for row in part["rows"]]
    notes = "".join(f"\n{part['note']}\n" for part in parts if part.get("note"))
    output = Path(output)
    picture = output.with_suffix(".png")
    plot(rows, picture)
    shown = f"\n![Times by step]({picture.name})\n" if picture.exists() else ""
    output.write_text(HEAD + notes + shown + "\n" + markdown(rows) + FOOT)
    print(f"{output}: {len(rows)} rows")


if __name__ == "__main__":
    main()
