"""The command ``rsc-core``: look at this machine, or run one stage without Nextflow."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import click

from rsc_core import __version__
from rsc_core.cli import end
from rsc_core.errors import RscError

SCRIPTS = Path(__file__).parent / "scripts"  # in a checkout a link to bin/


def stages() -> list[str]:
    """Names of the stages, from their scripts."""
    return sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem != "versions")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rsc-core")
def main():
    """Single-cell and spatial transcriptomics on GPU or CPU."""


@main.command()
@click.option("--backend", type=click.Choice(["cpu", "gpu"]), default="cpu", show_default=True, help="What must work: exit code 69 if not.")
def doctor(backend):
    """Say what this machine has for rsc-flow, what is missing, and the remedy."""
    from rsc_core.doctor import examine

    findings = examine()
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        sign = click.style({True: "ok  ", False: "lack"}[finding.good], fg="green" if finding.good else "red")
        click.echo(f"{sign} {finding.what:<{width}}  {finding.found}")
        if not finding.good:
            click.echo(f"     {'':<{width}}  remedy: {finding.remedy}")
    sys.exit(69 if any(not finding.good and backend in finding.needed_by for finding in findings) else 0)


@main.group()
def check():
    """Say whether a file meets the requirements of others."""


@check.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def cellxgene(file):
    """Check an .h5ad against the CELLxGENE schema, a line for each requirement: exit code 65 if one is not met."""
    from rsc_core.cellxgene import SCHEMA, examine

    try:
        findings = examine(file)
    except RscError as error:
        end(error)
    for finding in findings:
        sign = click.style({True: "met    ", False: "missing"}[finding.met], fg="green" if finding.met else "red")
        click.echo(f"{sign} {finding.where}: {finding.asks}")
        if not finding.met:
            click.echo(f"        found:  {finding.found}\n        remedy: {finding.remedy}")
    missing = sum(not finding.met for finding in findings)
    click.echo(
        f"CELLxGENE schema {SCHEMA}: {len(findings) - missing} of {len(findings)} requirements are met. Whether terms and genes exist is "
        "for cellxgene-schema validate, in an environment of its own."
    )
    sys.exit(65 if missing else 0)


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("stage", metavar="STAGE")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def run(stage, options):
    """Run one stage with the options of its script: rsc-core run qc --help."""
    if stage not in stages():
        raise click.UsageError(f"{stage!r} is no stage; there are: {', '.join(stages())}.")
    script = SCRIPTS / f"{stage}.py"
    sys.argv = [f"rsc-core run {stage}", *options]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
