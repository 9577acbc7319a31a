# make demo: set everything up and run the workflow on real data.   make test: what must pass.   make docs: the documentation site.
NEXTFLOW := tools/nextflow
export PYTHON

.PHONY: setup demo docs links lint test test_slow clean

setup: .venv/complete

.venv/complete: requirements/dev.lock python/pyproject.toml
	tools/setup

demo: setup
	$(NEXTFLOW) run . -profile test --outdir results/pancreas -resume
	$(NEXTFLOW) run . -profile test_spatial --outdir results/prostate -resume
	@printf '\nPancreas: results/pancreas/report.html  results/pancreas/adata.h5ad  results/pancreas/tables/\n'
	@printf 'Prostate: results/prostate/report.html  results/prostate/adata.h5ad  results/prostate/tables/\n'

# The site, docs/_build/html: tutorials run, warnings are errors.
docs: setup
	.venv/bin/sphinx-build -W --keep-going -q docs docs/_build/html
	@printf 'docs/_build/html/index.html\n'

# Links to other sites: needs the network, and is no part of the tests.
links: setup
	.venv/bin/sphinx-build -b linkcheck -D nb_execution_mode=off -q docs docs/_build/links

lint: setup
	.venv/bin/ruff check .
	.venv/bin/shellcheck tools/nextflow tools/setup .ci/run assets/own_gpu.sh tests/slurm/*.sh tests/containers.sh
	.venv/bin/hadolint containers/*.Dockerfile
	$(NEXTFLOW) lint main.nf modules nextflow.config conf

# The second line: kills of tasks and whole runs, which take minutes.
test: setup lint
	.venv/bin/pytest -n 2 --dist loadfile -m "not slow"
	.venv/bin/pytest -n 2 -m slow tests/test_faults.py

# All of the slow tests; those of SLURM's faults want root and Debian's packages.
test_slow: setup
	.venv/bin/pytest -n 2 --dist loadfile -m slow

clean:
	rm -rf docs/_build docs/generated work results .nextflow .nextflow.log* .pytest_cache .ruff_cache
