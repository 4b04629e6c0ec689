# Every target works without activating anything; the first call makes .venv.
PYTHON ?= python3
# On Linux the default torch build brings several GB of CUDA; for the CPU build:
#   make repro TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

export PATH := $(CURDIR)/.venv/bin:$(PATH)
PIP := python -m pip --disable-pip-version-check install --quiet

# of make chaos
N ?= 50
SEED ?= 0

# of make seeds
SEEDS ?= 1 2 3

# of make scaling; empty: those of llmcore/run/scaling.py
SIZES ?=
TOKENS ?=
STORIES ?=
JOBS ?=

.PHONY: help repro deps verify seeds scaling chaos bench test lint check check-all format ui plots clean

help:
	@echo "make repro    build everything that is not up to date, and show the results"
	@echo "make ui       open the runs in MLflow (Ctrl-C stops it)"
	@echo "make plots    draw the plots of this workspace as a page"
	@echo "make verify   build the last commit again from nothing and compare every output"
	@echo "make seeds    build with other seeds (SEEDS='1 2 3') and write their results to reports/seeds.md"
	@echo "make scaling  train sizes (SIZES='3x32x4 3x64x4') times data (TOKENS='500000 1000000'), fit a scaling law"
	@echo "make chaos    kill the pipeline at N=50 random moments (SEED=0) and compare what it makes"
	@echo "make bench    measure speed beside other libraries, into benchmarks/results"
	@echo "make deps     renew the code dependencies in dvc.yaml"
	@echo "make test     run the tests"
	@echo "make check    format, lint, types and tests: what CI runs"
	@echo "make check-all  the same with the exhaustive tests too"
	@echo "make format   let ruff format the code"
	@echo "make clean    remove caches and half-done work; results stay"

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $$(grep '^torch==' requirements.lock)
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --editable .
	python -m llmcore.report.plots_page
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	$(PIP) --requirement requirements-dev.lock
	touch $@

repro: .venv/installed
	@python -m llmcore.dvc.repair
	dvc repro
	@python -m llmcore.report.summary

test: .venv/installed-dev
	pytest

lint: .venv/installed-dev
	ruff format --check .
	ruff check .
	mypy

check: lint
	pytest -m "not exhaustive" -n 2 --dist loadfile --no-loadscope-reorder

check-all: lint
	pytest -m "exhaustive or not exhaustive" -n 2 --dist loadfile --no-loadscope-reorder

format: .venv/installed-dev
	ruff format .
	ruff check --fix .

.venv/installed-bench: .venv/installed-dev requirements-bench.lock
	$(PIP) --no-deps --requirement requirements-bench.lock
	touch $@

bench: .venv/installed-bench
	python -m benchmarks

deps: .venv/installed
	python -m llmcore.dvc.deps

verify: .venv/installed
	llmcore verify

seeds: .venv/installed
	python -m llmcore.dvc.seeds $(SEEDS)

scaling: .venv/installed
	python -m llmcore.run.scaling $(if $(SIZES),--sizes $(SIZES)) $(if $(TOKENS),--tokens $(TOKENS)) \
	  $(if $(STORIES),--stories $(STORIES)) $(if $(JOBS),--jobs $(JOBS))

chaos: .venv/installed-dev
	python tests/chaos.py --kills $(N) --seed $(SEED)

ui: .venv/installed
	@python -m llmcore.tracking.ui

plots: .venv/installed
	@test -f .dvc/plots/offline.html || python -m llmcore.report.plots_page
	dvc plots show

clean:
	rm -rf .ckpt dvc_plots .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
