#!/usr/bin/env python3
"""Where the time of a whole run of the workflow went, task by task, from Nextflow's trace and the tasks' own records.

usage: python benchmarks/workflow.py --trace results/pipeline_info/trace.txt --output benchmarks/results/workflow.json [--label gpu]

Wall time of a task = start-up (Nextflow's wrapper, interpreter, imports, and all that is outside its steps) + read + compute +
write, the last three from ``<output>.run.json`` in its work folder; of the start-up, ``imports`` is what passes in the process before
the stage begins, ``outside`` what passes out of the process. The run's wall time is from the first submission to the last
completion.
"""

import csv
import json
import re
from datetime import date, datetime
from pathlib import Path

import click

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
PARTS = ("read", "write")  # every other step is computing


def seconds(text: str) -> float:
    """``1m 3.5s`` of a trace, or its raw milliseconds, in seconds."""
    if re.fullmatch(r"[0-9.]+", text):
        return float(text) / 1000
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([0-9.]+)\s*(ms|[smhd])", text))


def size(text: str) -> float:
    """``476 MB`` of a trace, or raw bytes, in bytes; 0 where it is not known."""
    found = re.fullmatch(r"([0-9.]+)\s*([KMGT]?B)?", text)
    return float(found[1]) * BYTES[found[2] or "B"] if found else 0.0


def tasks(trace) -> list[dict]:
    """A row for each completed task, in the order of the trace."""
    with Path(trace).open() as lines:
        return [_task(row) for row in csv.DictReader(lines, delimiter="\t") if row["status"] in ("COMPLETED", "CACHED")]


def _task(row) -> dict:
    wall = seconds(row["realtime"])
    records = [json.loads(path.read_text()) for path in sorted(Path(row["workdir"]).glob("*.run.json")) if not path.is_symlink()]
    steps = [step for record in records for step in record.get("steps", [])]
    part = {name: sum(step["seconds"] for step in steps if step["step"] == name) for name in PARTS}
    compute = sum(step["seconds"] for step in steps if step["step"] not in PARTS)
    return {
        "task": row["name"],
        "status": row["status"],
        "wall": wall,
        "start_up": wall - compute - sum(part.values()) if steps else None,
        "imports": records[0].get("start_seconds") if records else None,
        "outside": wall - max(record.get("process_seconds", 0) for record in records) if records else None,
        **(part if steps else dict.fromkeys(PARTS)),
        "compute": compute if steps else None,
        "steps": {step["step"]: step["seconds"] for step in steps},
        "backend": next((record["backend"] for record in records if "backend" in record), None),
        "device": next((record["device"] for record in records if "device" in record), None),
        "peak_host_bytes": size(row["peak_rss"]),
        "peak_device_bytes": max((record.get("peak_device_bytes", 0) for record in records), default=0),
    }


def wall_of_run(trace) -> float | None:
    """Seconds from the first submission to the last completion; None where the trace has no such times."""
    with Path(trace).open() as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["status"] == "COMPLETED"]
    if not rows or "submit" not in rows[0] or "complete" not in rows[0]:
        return None
    return (max(_moment(row["complete"]) for row in rows) - min(_moment(row["submit"]) for row in rows)).total_seconds()


def _moment(text):
    return datetime.fromtimestamp(int(text) / 1000) if text.isdigit() else datetime.fromisoformat(text)


@click.command()
@click.option("--trace", required=True, help="trace.txt of the run; its work folders must still be there.")
@click.option("--label", default="", help="Which run it is, for example gpu, cold.")
@click.option("--output", required=True, help="JSON file; rows of other labels in it are kept.")
def main(trace, label, output):
    """Write the rows and print them as a table."""
    found, output = tasks(trace), Path(output)
    kept = json.loads(output.read_text())["runs"] if output.exists() else []
    whole = {"label": label, "date": date.today().isoformat(), "wall_seconds": wall_of_run(trace), "rows": found}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"runs": [run for run in kept if run["label"] != label] + [whole]}, indent=1) + "\n")
    print(f"| task | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}")
    for row in found:
        print(f"| {row['task']} | {' | '.join('' if row[c] is None else f'{row[c]:.2f}' for c in COLUMNS)} |")
    print(f"\nwhole run: {whole['wall_seconds']} s")


COLUMNS = ("wall", "start_up", "read", "compute", "write")

if __name__ == "__main__":
    main()
