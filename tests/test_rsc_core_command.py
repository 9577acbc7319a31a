"""The command rsc-core: what it finds, what it runs, how it ends."""

import sys

import pytest
from click.testing import CliRunner

from rsc_core import backend, doctor
from rsc_core.__main__ import main, stages


def test_doctor_finds_this_machine_fit_for_the_cpu():
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert f"Python        {sys.version.split()[0]}" in result.output


def test_doctor_names_the_remedy_of_what_lacks(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", ("numpy", "no-such-library"))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 69
    assert "remedy: pip install no-such-library" in result.output


def test_doctor_on_a_machine_without_a_gpu(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda program: None)
    assert CliRunner().invoke(main, ["doctor", "--backend", "gpu"]).exit_code == 69


def test_doctor_runs_a_kernel_where_there_is_a_gpu():
    found = doctor.kernel()
    assert found.good == backend.is_available("gpu"), found


def test_run_hands_over_to_the_stage():
    assert {"ingest", "qc", "report", "concordance"} <= set(stages()) and "versions" not in stages()
    result = CliRunner().invoke(main, ["run", "qc", "--help"])
    assert result.exit_code == 0
    for heading in ("Files:", "Method:", "How it runs:"):
        assert heading in result.output
    assert CliRunner().invoke(main, ["run", "qc"]).exit_code == 2


def test_run_refuses_what_is_no_stage():
    result = CliRunner().invoke(main, ["run", "cook"])
    assert result.exit_code == 2 and "there are: activity" in result.output


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_a_spinner_only_where_someone_watches(watched, monkeypatch, capsys):
    from rsc_core.stages import _task

    monkeypatch.setattr(sys.stderr, "isatty", lambda: watched, raising=False)
    with _task._shown("stage: step"):
        pass
    said = capsys.readouterr().err
    assert "stage: step" in said
    assert ("\x1b" in said) == watched  # the codes that move a cursor
