#!/usr/bin/env python3
"""Time the steps of tools on the same stored inputs, one process a tool, and write rows as JSON.

usage: python benchmarks/run.py --tool rsc_core --tool scanpy --size 10k --steps neighbors,umap --output benchmarks/results/cpu.json

Inputs are made once in a folder (``--inputs``) and reused. Rows of an output that is there already are kept, but for those
that are measured anew. The output is written after every step, so that what is done stays when a limit ends the run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import click

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "rsc_benchmarks_numba"))

from bench.inputs import Inputs, number_of_cells  # noqa: E402
from bench.steps import STEPS  # noqa: E402
from bench.tools import BACKENDS, TOOLS  # noqa: E402

KEY = ("tool", "backend", "size", "n_genes", "step", "label")


class Table:
    """The rows of an output file."""

    def __init__(self, path, about):
        self.path, self.rows = Path(path), []
        if self.path.exists():
            self.rows = json.loads(self.path.read_text())["rows"]
        self.about = about

    def find(self, row):
        """The row with the same key, or None."""
        return next((old for old in self.rows if all(old.get(key) == row.get(key) for key in KEY)), None)

    def add(self, row):
        """Put a row in the place of one with the same key, and write the file; one that was not run replaces none."""
        if row["status"] == "not run" and self.find(row):
            return
        self.rows = [old for old in self.rows if any(old.get(key) != row.get(key) for key in KEY)] + [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.about | {"rows": self.rows}, indent=1) + "\n")
        temporary.replace(self.path)


def prepared(folder, n_cells, deadline, **options) -> dict:
    """Make the inputs in a process of its own unless they are there; what made them."""
    if not (Path(folder) / "made.json").exists():
        options |= {"folder": folder, "n_cells": n_cells}
        command = [sys.executable, "-m", "bench.inputs", json.dumps(options)]
        subprocess.run(command, check=True, env=environment(), timeout=max(1, deadline - time.monotonic()))
    return Inputs(folder).made


def watch(options, steps, limit, deadline, add):
    """Run steps in worker processes; one that hangs, dies or is out of time loses its step alone."""
    left = list(steps)
    while left:
        with tempfile.TemporaryDirectory() as folder:
            events, log = Path(folder) / "events", Path(folder) / "log"
            events.touch()
            with log.open("w") as out:
                command = [sys.executable, "-m", "bench.worker", json.dumps(options | {"steps": left, "events_path": str(events)})]
                worker = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment())
            left = follow(worker, events, log, left, limit, deadline, add)


def follow(worker, events, log, left, limit, deadline, add):
    """Read a worker's events until it ends or is ended; the steps that are left to do."""
    current, since, partial = "imports", time.monotonic(), None
    with events.open() as lines:
        while True:
            ended = worker.poll() is not None
            line = lines.readline()
            if line.endswith("\n"):
                event = json.loads(line)
                if "start" in event:
                    current, since, partial = event["start"], time.monotonic(), None
                elif "about" in event:
                    partial = event["about"]
                elif "timed" in event:
                    partial = partial | event["timed"]
                elif "row" in event:
                    add(event["row"])
                    left = [step for step in left if step != event["row"]["step"]]
                continue
            now = time.monotonic()
            if not ended and now - since < limit and now < deadline:
                time.sleep(0.02)
                continue
            worker.kill()
            code = worker.wait()
            return lost(left, current, code if ended else None, partial, log, limit, now >= deadline, add)


def lost(left, current, code, partial, log, limit, over, add):
    """Say what became of the steps of a worker that is gone; those that a new one shall do."""
    if not left:
        return []
    tail = log.read_text(errors="replace")[-1500:]
    if code is not None and current not in left:
        reason = {"status": "error", "reason": f"the process ended with {code} before the first step", "traceback": tail}
        for step in left:
            add({"step": step} | reason)
        return []
    if over and code is None:
        for step in left:
            add({"step": step, "status": "not run", "reason": "the whole run's time was over"} | (partial or {} if step == current else {}))
        return []
    if current not in left:
        current = left[0]
    status = "timeout" if code is None else "error"
    reason = f"longer than {limit} s" if code is None else f"the process ended with {code}"
    add({"step": current, "status": status, "reason": reason, "traceback": tail} | (partial or {}))
    return [step for step in left if step != current]


def environment():
    """Of a worker: it finds these packages; the BLAS kernel that suits the machine, not one that was preset."""
    found = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS_")}
    paths = [str(HERE), str(HERE.parent / "python"), found.get("PYTHONPATH", "")]
    return found | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def bound(row):
    """Seconds of the device's own rates for the bytes and operations of a step, and its share of the median."""
    probe = row.get("probe")
    if row.get("status") != "ok" or not probe:
        return {}
    seconds = max(row["bound_bytes"] / probe["bytes_per_second"], row["bound_operations"] / probe["operations_per_second"])
    return {"bound_seconds": seconds, "bound_share": seconds / row["median"] if row["median"] > 0 else None}


@click.command()
@click.option("--tool", "tools", multiple=True, type=click.Choice(sorted(TOOLS)), required=True, help="May be given several times.")
@click.option(
    "--size", "sizes", multiple=True, default=["10k"], show_default=True, help="Cells: 6000, 90k, 1.3M; may be given several times."
)
@click.option("--genes", default=25_000, show_default=True)
@click.option("--spatial-size", default=None, help="Points of the spatial steps. [default: 100k from 90k cells on, else the cells]")
@click.option("--steps", default="all", show_default=True, help=f"all that a tool has, or, comma-separated, of: {', '.join(STEPS)}.")
@click.option("--skip", default="", help="Steps to leave out.")
@click.option("--backend", "backend_name", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="Of rsc_core.")
@click.option("--prepare-backend", type=click.Choice(["cpu", "gpu"]), default=None, help="Makes the inputs. [default: --backend]")
@click.option("--missing", is_flag=True, help="Only steps that have no time in the output yet.")
@click.option("--repeats", default=5, show_default=True, help="Warm calls.")
@click.option("--budget", default=30.0, show_default=True, help="Seconds of a step after which no further warm call begins.")
@click.option("--limit", default=120.0, show_default=True, help="Seconds of a step after which its process is ended.")
@click.option("--total", default=550.0, show_default=True, help="Seconds of the whole run, inputs included.")
@click.option("--inputs", "folder", default=str(Path(tempfile.gettempdir()) / "rsc_benchmarks"), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--label", default="", help="Kept in each row, for example before or after.")
@click.option("--output", required=True, help="JSON file.")
def main(
    tools,
    sizes,
    genes,
    spatial_size,
    steps,
    skip,
    missing,
    backend_name,
    prepare_backend,
    repeats,
    budget,
    limit,
    total,
    folder,
    seed,
    label,
    output,
):
    """Prepare the inputs, run each tool at each size, write the rows."""
    deadline = time.monotonic() + total
    chosen = list(STEPS) if steps == "all" else steps.split(",")
    chosen = [step for step in chosen if step not in skip.split(",")]
    unknown = [step for step in chosen if step not in STEPS]
    if unknown:
        raise click.UsageError(f"there is no step {unknown[0]!r}; there are {', '.join(STEPS)}")
    table = Table(output, {"what": "steps of tools on the same stored inputs", "date": date.today().isoformat()})
    for size in sizes:
        n_cells = number_of_cells(size)
        n_spatial = number_of_cells(spatial_size) if spatial_size else 100_000 if n_cells >= 90_000 else n_cells
        wanted = {n_cells} | ({n_spatial} if any(STEPS[step].spatial for step in chosen) else set())
        places = {n: str(Path(folder) / f"{n}x{genes}_{seed}") for n in wanted | {n_spatial}}
        for n in wanted:
            start = time.monotonic()
            made = prepared(places[n], n, deadline, n_genes=genes, backend_name=prepare_backend or backend_name, seed=seed)
            print(f"inputs of {n} cells: {time.monotonic() - start:.1f} s, {made}", flush=True)
        for tool in tools:
            on = backend_name if backend_name in BACKENDS.get(tool, ("cpu",)) else BACKENDS.get(tool, ("cpu",))[0]
            options = {
                "tool": tool, "backend_name": on, "folder": places[n_cells], "repeats": repeats, "budget": budget,
                "spatial_folder": places[n_spatial if n_spatial in wanted else n_cells],
            }  # fmt: skip
            common = {
                "tool": tool,
                "backend": on,
                "size": size,
                "label": label,
                "n_cells": n_cells,
                "n_genes": genes,
                "prepared": made["backend"],
                "date": date.today().isoformat(),
            }

            def add(row, common=common):
                row = common | row
                row |= bound(row)
                table.add(row)
                say(row)

            own = [step for step in chosen if steps != "all" or step in TOOLS[tool](on)]
            if missing:
                own = [step for step in own if (table.find(common | {"step": step}) or {}).get("status") != "ok"]
            watch(options, own, limit, deadline, add)


def say(row):
    """One line on the screen."""
    what = f"{row['median']:.4f} s (first {row['first']:.3f})" if "median" in row else row.get("reason", "")[:160]
    quality = row.get("quality") or row.get("quality_error") or ""
    print(f"{row['size']:>6} {row['tool']:>18} {row['step']:<28} {row['status']:<8} {what}  {quality}"[:400], flush=True)


if __name__ == "__main__":
    main()
