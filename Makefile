# gluondense: `make help` lists what there is. Everything runs in the virtual environment VENV.

VENV ?= .venv
EXTRA ?= cpu
DATA_DIR ?=
RUN ?= runs/demo
PYTHON ?=
PYTEST_ARGS ?=
INPUTS ?= 1500
SEED ?= 1

BIN := $(VENV)/bin
MXNET := $(if $(filter cu112,$(EXTRA)),mxnet-cu112,mxnet)==1.9.1
PEERS := torchvision==0.28.0 timm==1.0.31 gluoncv2==0.0.64
# Bytecode is compiled on first use: half of the time that installing takes.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# A process per core, each with one thread: the tests' networks are too small for more, and threads that
# wait for each other in several processes at once take ten times as long.
PYTEST_WORKERS ?= auto
PARALLEL := OMP_NUM_THREADS=1
# After a crash of a process, pytest-xdist would start another one and may wait for its end forever.
CRASHES := --max-worker-restart=0
# Tests with a target below.
PLAIN := not cu112 and not demo and not faults and not gpu and not native and not package and not parity and not pythons and not serve

.PHONY: help install demo test lint test-fast test-slow test-cu112 test-gpu test-native test-parity test-pythons test-serve test-demo test-faults test-package docs-check docs clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo
	@echo "DATA_DIR=…  folder with Fashion-MNIST's four files      EXTRA=cu112  mxnet-cu112 instead of mxnet"
	@echo "PYTHON=…    interpreter to use, else the best installed   VENV=…      where it is installed"

install: $(VENV)/.installed ## virtual environment with gluondense and MXNet

$(VENV)/.installed: pyproject.toml
	@python="$(PYTHON)"; [ -n "$$python" ] || python=$$(sh scripts/dev/find_python.sh) || exit 1; \
	echo "Installing into $(VENV) with $$python, about a minute ..."; \
	"$$python" -m venv "$(VENV)"
	$(PIP) --editable ".[$(EXTRA)]"
	$(PIP) --no-deps $(MXNET) # again for Python 3.13, where no release fits its bound on NumPy
	-@$(BIN)/python -m gluondense.native # optional: only `native` targets need the compiler
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) --editable ".[$(EXTRA),test,onnx]"
	@touch $@

demo: $(VENV)/.installed ## train a small network, report, export, predict; under 5 minutes
	@rm -rf "$(RUN)"
	$(BIN)/gluondense train fashion-mnist --recipe demo --out "$(RUN)" --fallback-digits \
		$(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(BIN)/gluondense export "$(RUN)"
	$(BIN)/gluondense save-samples "$(RUN)" --count 3
	$(BIN)/gluondense predict "$(RUN)" "$(RUN)"/samples/*.png
	@echo "The report: $(RUN)/report.html"

test: lint test-fast ## everything a change must pass

lint: $(VENV)/.installed-test ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-fast: $(VENV)/.installed-test ## tests but the slow ones, and the examples of the docs
	$(PARALLEL) $(PYTEST) -n $(PYTEST_WORKERS) --dist loadfile $(CRASHES) -m "not slow and $(PLAIN)" \
		--doctest-modules --doctest-glob='*.md' --ignore=docs/examples gluondense tests README.md docs $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-test ## the slow tests
	$(PYTEST) -m "slow and $(PLAIN)" $(PYTEST_ARGS)

test-native: $(VENV)/.installed-test ## the native operator under sanitizers, with INPUTS=1500 damaged programs
	$(PYTEST) -m native tests/native --fuzz-inputs=$(INPUTS) --fuzz-seed=$(SEED) $(PYTEST_ARGS)

$(VENV)/.installed-parity: $(VENV)/.installed-test
	$(PIP) --editable ".[$(EXTRA),test,onnx,parity]"
	$(PIP) --no-deps $(PEERS) # their metadata ask for other builds of torch and MXNet
	@touch $@

test-parity: $(VENV)/.installed-parity ## against torchvision, timm and gluoncv2; writes docs/parity.md
	$(PYTEST) -m parity --parity-table=docs/parity.md $(PYTEST_ARGS)

test-pythons: $(VENV)/.installed-test ## every installed Python 3.9 to 3.13 with its oldest and newest NumPy
	$(PYTEST) -m pythons $(PYTEST_ARGS)

$(VENV)/.installed-serve: $(VENV)/.installed-test
	$(PIP) --editable ".[$(EXTRA),test,serve,bentoml]"
	@touch $@

test-serve: $(VENV)/.installed-serve ## exports in multi-model-server, which needs Java, and BentoML
	$(PYTEST) -m serve $(PYTEST_ARGS)

$(VENV)/.installed-demo: $(VENV)/.installed-test
	$(PIP) --editable ".[$(EXTRA),test,demo]" playwright
	@touch $@

test-demo: $(VENV)/.installed-demo ## the page of `gluondense demo` in Chromium
	$(PYTEST) -m demo $(PYTEST_ARGS)

test-cu112: $(VENV)/.installed-test ## mxnet-cu112, 500 MB, with stubs of NVIDIA's libraries
	$(PYTEST) -m cu112 tests/environment/test_cu112.py $(PYTEST_ARGS)

test-gpu: $(VENV)/.installed-test ## on GPUs, skipped without; PYTEST_ARGS=--gpu-tests-on-cpu for the CPU
	$(PYTEST) -m gpu $(PYTEST_ARGS)

test-faults: $(VENV)/.installed-test ## kills, signals, failing writes, clock jumps, damaged files; PYTEST_ARGS="--minutes 60" for more
	$(PYTEST) -m faults $(PYTEST_ARGS)

test-package: $(VENV)/.installed-test ## the wheel and the sdist in an empty environment, by the command only
	$(PYTEST) -m package $(PYTEST_ARGS)

docs-check: $(VENV)/.installed-serve ## run the examples of the docs, which need Java; show what is stale in the generated pages
	@mkdir -p build
	cp docs/models.md build
	$(BIN)/python scripts/dev/models_page.py build/models.md
	diff -u docs/models.md build/models.md
	cp docs/explain.md build
	$(BIN)/python scripts/dev/explain_page.py build/explain.md
	diff -u docs/explain.md build/explain.md
	cp docs/benchmarks.md build
	$(BIN)/python scripts/dev/benchmark_tables.py build/benchmarks.md
	diff -u docs/benchmarks.md build/benchmarks.md
	$(BIN)/python scripts/dev/docs_check.py

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) --editable ".[$(EXTRA),docs]"
	@touch $@

docs: $(VENV)/.installed-docs ## the docs as web pages, in build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## remove everything made by make and the tools, except runs/
	rm -rf "$(VENV)" build dist *.egg-info .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
