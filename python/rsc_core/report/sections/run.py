"""What the run was: summary, time and memory, parameters and provenance."""

from __future__ import annotations

import json
import re

import pandas as pd

from rsc_core.report import figures, samples
from rsc_core.report.page import Part, Section, as_table

STAGES = (
    "ingest", "qc", "merge", "preprocess", "integrate", "neighbors", "embed", "cluster", "markers", "activity", "spatial", "concordance",
    "assemble",
)  # fmt: skip


def in_order(runs) -> list[dict]:
    """Run records in the order of the stages."""
    place = {stage: i for i, stage in enumerate(STAGES)}
    return sorted(runs, key=lambda run: (place.get(stage_of(run), len(place)), run["stage"]))


def stage_of(run) -> str:
    """The stage of a record, without its sample or network."""
    return re.split("[:.]", run["stage"])[0]


def summary(adata, qcs, runs, left_out: list[tuple[str, str]]) -> Section:
    """Cells in and out, and every warning of the run."""
    compute = next((run for run in runs if run["stage"] == "preprocess"), None)
    where = f" The work ran on backend {compute['backend']} ({compute['device']})." if compute else ""
    took, busy = wall_time(runs)
    wall = f" From the first task's start to the last one's end it took {took:.0f} s, with a task at work in {busy:.0f} s." if took else ""
    clusters = f" in {adata.obs['leiden'].nunique()} clusters" if "leiden" in adata.obs else ""
    how = f"The result has {adata.n_obs:,} cells{clusters} and {adata.n_vars:,} genes.{where}{wall} Read the warnings first."
    table = as_table(samples.summary(adata.obs, qcs).reset_index())
    parts = [Part("Cells of each sample", table=table, note="Medians are those of the kept cells.")]
    if left_out:
        parts.append(Part("Not in this report", table=as_table(pd.DataFrame(left_out, columns=["part", "why"]))))
    warnings = [f"{run['stage']}: {text}" for run in runs for text in run["warnings"]]
    return Section("summary", "Summary", how, parts, warnings)


def wall_time(runs) -> tuple[float, float]:
    """Seconds from the first task's start to the last one's end, and those in which a task ran; apart by waits, and by -resume."""
    busy, reached = 0.0, -float("inf")
    spans = sorted((run["started"], run["started"] + run["process_seconds"]) for run in runs if "started" in run)
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return (reached - spans[0][0] if spans else 0.0), busy


def resources_used(runs) -> Section:
    """When each task ran, its seconds and its memory; ``runs`` in the order to show."""
    rows = [
        {
            "task": run["stage"],
            "backend": run["backend"],
            "started": run.get("started"),
            "start-up (s)": max(0.0, run["process_seconds"] - run["seconds"]),
            "work (s)": run["seconds"],
            "peak memory (MB)": run["peak_host_bytes"] / 1e6,
            "device memory (MB)": run["peak_device_bytes"] / 1e6,
        }
        for run in runs
    ]
    table = pd.DataFrame(rows)
    parts, how = [], "No task left a record."
    if len(table):
        times = table.rename(columns={"start-up (s)": "start-up", "work (s)": "work"})
        # Some tasks may be results of an earlier run, kept by -resume: without a start, all begin at 0.
        times["start"] = (times["started"] - times["started"].min()).astype(float).fillna(0)
        shown = table.drop(columns="started")
        parts.append(
            Part("Tasks over time", figures.gantt(times), as_table(shown), "Tasks that -resume took from an earlier run began then.")
        )
        steps = [{"task": run["stage"], "step": s["step"], "seconds": s["seconds"]} for run in runs for s in run.get("steps", [])]
        if steps:
            parts.append(Part("Steps", table=as_table(pd.DataFrame(steps))))
        total = table[["start-up (s)", "work (s)"]].to_numpy().sum()
        how = (
            f"All tasks took {total:.0f} s together; start-up is the time before a task's work began: Python and its imports. "
            "ASSEMBLE runs while this page is made, and is in pipeline_info/ only."
        )
    return Section("resources", "Time and memory", how, parts)


def provenance(adata, parameters: dict, runs) -> Section:
    """Parameters, versions, and the digests that chain the results to the counts."""
    settings = pd.DataFrame({"parameter": list(parameters), "value": ["" if v is None else str(v) for v in parameters.values()]}, dtype=str)
    versions = {}
    for run in runs:
        for package, version in run["versions"].items():
            versions.setdefault((package, version), []).append(run["stage"])
    used = [(*key, "all tasks" if len(stages) == len(runs) else ", ".join(sorted(set(stages)))) for key, stages in sorted(versions.items())]
    records = {stage: json.loads(record) for stage, record in adata.uns.get("rsc_core", {}).items()}
    chain = [(r.get("stage", stage), parent, digest) for stage, r in records.items() for parent, digest in r.get("parents", {}).items()]
    parts = [
        Part("Parameters", table=as_table(settings)),
        Part("Versions", table=as_table(pd.DataFrame(used, columns=["package", "version", "tasks"]))),
        Part("Made from", table=as_table(pd.DataFrame(chain, columns=["stage", "file", "SHA-256"]))),
    ]
    how = (
        "The same files, parameters, versions and seed give the same results. A digest names the content of a file that a stage read: "
        "two runs with the same digests read the same."
    )
    return Section("provenance", "Parameters and provenance", how, parts)
