# Two commands do all on a fresh machine: `make reproduce` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
# Tables, figures and checks need pandas and matplotlib only: without the environment, the caller's Python serves.
LIGHT := $(if $(wildcard $(RUN)),$(RUN),$(PYTHON))
# What is measured again goes here; results/ holds what is committed.
REPRODUCED := runs/reproduced
OPENGL := libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri
.DEFAULT_GOAL := help
.PHONY: help setup setup-robot test test-slow test-all lint format reproduce reproduce-all figures check validate paper bench bench-gpu corpora

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed $(VENV)/.robot  ## virtual environment with the locked versions, robosuite included

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed; make setup PYTHON=python3.11" >&2; exit 2; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements.lock
	$(RUN) -m pip install -q --no-deps -e .
	touch $@

# Only the rendering of robot data wants robosuite and OpenGL: without them all else works, so set-up goes on.
$(VENV)/.robot: requirements-robot.txt $(VENV)/.installed
	@$(MAKE) --no-print-directory setup-robot || echo "note: no robosuite here, so robot data can't be rendered;" \
		"\`make setup-robot\` shows why; all else works" >&2

setup-robot: $(VENV)/.installed  ## robosuite, for robot data (python -m uwm.data.robot), and OpenGL where root may install it
	$(RUN) -m pip install -q --no-deps -r requirements-robot.txt
	@if PATH="$$PATH:/sbin" ldconfig -p 2>/dev/null | grep -qE 'libEGL.so.1|libOSMesa.so'; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends $(OPENGL) >/dev/null; \
	else echo "note: no OpenGL for rendering; as root: apt-get install $(OPENGL)" >&2; fi
	touch $(VENV)/.robot

# One process more than there are cores, since one waits for Slurm most of the time; long files first (conftest.py),
# so that the last ones are short.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

test: setup  ## set-up and the tests, but for the slow ones
	$(PYTEST) -m "not slow"

test-slow: setup  ## the slow ones: pages, clusters and trainings from end to end
	$(PYTEST) -m slow

test-all: test test-slow  ## both

lint: setup  ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Else glibc gives large blocks back when freed and maps them anew at each step.
reproduce reproduce-all: export MALLOC_MMAP_THRESHOLD_ := 1073741824
reproduce reproduce-all: export MALLOC_TRIM_THRESHOLD_ := 2147483648

reproduce: setup  ## set-up and the main job: the main cells of Table 1, Figures 4 and 5 at scale mini, compared with results/
	$(RUN) experiments/table1.py --scale mini --out $(REPRODUCED)/mini/table1
	$(RUN) experiments/figure4.py --scale mini --only w_pre,w_ft/*/s0,w_tfs/*/s0 --out $(REPRODUCED)/mini/figure4
	$(RUN) experiments/figure5.py --scale mini --only copy,r_la/*/s0,r_gt/*/s0 --out $(REPRODUCED)/mini/figure5
	$(RUN) -m paper.figures --results $(REPRODUCED) --out $(REPRODUCED)/out
	$(RUN) -m paper.compare $(REPRODUCED)

reproduce-all: setup  ## the same from scratch: trains the MAE and the world model first (hours)
	$(RUN) experiments/table1.py --scale mini --recompute
	$(RUN) experiments/figure4.py --scale mini
	$(RUN) experiments/figure5.py --scale mini
	$(MAKE) --no-print-directory figures check

figures:  ## tables and figures of the paper from results/, without torch
	$(LIGHT) -m paper.quoted
	$(LIGHT) -m paper.figures --readme README.md experiments/README.md slurm/README.md uwm/data/README.md
	$(LIGHT) -m paper.examples

check:  ## measured against reported numbers and claims; records against the recipes
	$(LIGHT) -m paper.check

validate:  ## every record against results/schema.json
	$(LIGHT) -m uwm.runs.record validate results

paper: figures  ## the report as PDF and the HTML page
	$(LIGHT) -m paper.build

bench: setup-robot  ## speed, as ratios measured side by side
	OMP_NUM_THREADS=1 $(RUN) tests/bench/models.py
	OMP_NUM_THREADS=1 $(RUN) tests/bench/data.py
	OMP_NUM_THREADS=1 $(RUN) tests/bench/robot.py
	$(RUN) -m pytest -q tests/slurm/bench_cells.py tests/slurm/bench_login.py

bench-gpu: setup  ## a training step of scale paper on this machine's GPUs: time, MFU, NCCL; records in runs/bench
	$(RUN) -m uwm.bench --scale paper
	$(RUN) -m torch.distributed.run --standalone --nproc-per-node=gpu -m uwm.bench --scale paper

corpora: setup-robot  ## render the simulated corpora again from their seeds, beside the ones here (an hour)
	$(RUN) -m uwm.data.simulation --out runs/corpora
	$(RUN) -m uwm.data.robot corpus --out runs/corpora
