# `make` alone says what there is. Nothing but Python 3.11 or later and make has to be there before.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not ((3,11) <= sys.version_info < (3,14)))' \
	2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
WORKERS ?= 2
SECONDS_EACH := 600
GPU ?= any
FOR_GPU := .[gpu,serve,postgres]
# A build for CPUs: where the plain index has none, TORCH_INDEX="--index-url …" names one that does.
TORCH := torch==2.13.0
TORCH_INDEX ?=
VLLM_PYTEST = .venv-vllm/bin/pytest tests/vllm -m vllm --timeout 1200 --durations 15
CORE := $(addprefix tests/,core conformance faults golden hosts mcp memory postgres_store programs)
PYTEST_ALL = pytest -n $(WORKERS) --dist loadgroup --timeout $(SECONDS_EACH)

export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never
export RAY_USAGE_STATS_ENABLED := 0
unexport PYTHONDONTWRITEBYTECODE

# Run a silent command, with a dot a second.
ticking = (while sleep 1; do printf .; done) & dots=$$!; $(1); status=$$?; kill $$dots; echo; exit $$status

.DEFAULT_GOAL := help
.PHONY: help install demo test test-rest test-slow vllm gpu coverage mutants check lint types imports docs format bench bench-core golden crash programs build requirements clean

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: .venv/dev.stamp .venv/weights.stamp  ## make .venv with everything, and fetch the embedded model

demo: .venv/run.stamp .venv/weights.stamp  ## three acts on Ray: an answer, a killed host, a question that needs the first
	@$(BIN)/crew demo

test: coverage test-rest  ## the default tests, each once, in random order

test-rest: install  ## those outside the core's folders, which `make coverage` runs
	$(BIN)/$(PYTEST_ALL) -m 'not slow' $(addprefix --ignore=,$(CORE))

test-slow: install  ## the second stage: every crash moment, 10,000 points of programs, Ray Serve, the wheel
	$(BIN)/$(PYTEST_ALL) -m slow

vllm: .venv-vllm/weights.stamp  ## the crew on the real vLLM, computed on a CPU (4 GB in .venv-vllm, 7 minutes)
	$(VLLM_PYTEST)

gpu: .venv-gpu/weights.stamp  ## the same on a GPU, with ray[llm] (9 GB in .venv-gpu; GPU=L4 by Ray's name)
	CREW_TEST_GPU=$(GPU) $(subst .venv-vllm,.venv-gpu,$(VLLM_PYTEST))

coverage: install  ## the core's tests: nearly every line and branch of it, or it fails
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST_ALL) -m 'not slow' $(CORE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutants: .venv/mutants.stamp  ## change the pure modules a little, thousands of times: does a test notice?
	$(BIN)/mutmut run --max-children $(WORKERS)
	$(BIN)/mutmut results

check: lint types imports  ## what CI asks for besides tests

lint: .venv/dev.stamp  ## style: ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/dev.stamp  ## types: pyrefly, strict
	$(BIN)/pyrefly check

imports: .venv/dev.stamp  ## the direction of imports, floor by floor
	$(BIN)/lint-imports

docs: install  ## run the code of README, docs and notebooks
	$(BIN)/pytest tests/docs --timeout $(SECONDS_EACH)

format: .venv/dev.stamp  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

bench: .venv/run.stamp .venv-bench/stamp  ## speed, as ratios against peers (BENCH="steps --rounds 5", BENCH=--full)
	$(BIN)/python benchmarks/table.py --peer-python .venv-bench/bin/python $(BENCH)

bench-core: .venv/run.stamp  ## the core's speed beside another checkout's (BASE=../base, 2 minutes)
	$(BIN)/python benchmarks/core.py --base $(BASE) $(BENCH)

golden: .venv/run.stamp .venv/weights.stamp  ## 20 questions over docs/, beside one direct call
	$(BIN)/python benchmarks/golden.py

crash: install  ## kill -9 at every position of a journal, on both stores, as a table
	$(BIN)/python -m tests.crash.matrix

programs: install  ## random programs stopped after every event, on all stores: 50,000 points, as a table
	$(BIN)/python -m tests.programs --workers $(WORKERS)

build: .venv/dev.stamp  ## the wheel and the source archive, in dist/
	$(UV) build --quiet

requirements: $(UV)  ## compile the pinned requirement files anew
	@for set in "run:pyproject.toml --extra embedded --extra mcp --extra ray --extra serve" \
	            "dev:pyproject.toml --extra embedded --extra mcp --extra ray --extra serve --extra postgres --extra telemetry --group dev -c requirements/run.txt" \
	            "mutants:pyproject.toml --group mutants -c requirements/dev.txt" \
	            "bench:--group bench" \
	            "vllm:pyproject.toml --extra embedded --extra serve --extra postgres --group vllm --override requirements/vllm-without.txt"; do \
	  name=$${set%%:*}; $(UV) pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
	    $${set#*:} -o requirements/$$name.txt && \
	  sed -i '1i # Pinned with hashes; made by `make requirements` from pyproject.toml.' requirements/$$name.txt; \
	done

clean:  ## remove what was made here
	rm -rf .venv .venv-bench .venv-vllm .venv-gpu dist build artifacts .pytest_cache .ruff_cache .hypothesis .import_linter_cache mutants .coverage*

$(UV):
	@test -n "$(PYTHON)" || { echo "crew needs Python 3.11, 3.12 or 3.13; none was found. Install one, or: make PYTHON=/path/to/python"; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(call ticking, $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION))

.venv/run.stamp: requirements/run.txt pyproject.toml | $(UV)
	@echo "installing what runs (about 100 MB)"
	@$(call ticking, test -f .venv/dev.stamp || \
	  $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/run.txt)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

.venv/dev.stamp: requirements/dev.txt pyproject.toml | $(UV)
	@echo "installing what runs, tests and checks"
	@$(call ticking, $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt)
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@ .venv/run.stamp

.venv/weights.stamp: | .venv/run.stamp
	@$(BIN)/crew models pull >/dev/null
	@touch $@

.venv/mutants.stamp: requirements/mutants.txt | install
	@$(call ticking, \
	  $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/mutants.txt)
	@touch $@

.venv-bench/stamp: requirements/bench.txt | $(UV)
	@$(BIN)/python -m venv .venv-bench
	@$(call ticking, \
	  $(UV) pip install --quiet --python .venv-bench/bin/python --require-hashes -r requirements/bench.txt)
	@touch $@

# torch by pip alone: it takes a build for CPUs from the disk or index that it is told of, and
# --no-deps keeps CUDA's libraries out whatever it finds.
.venv-vllm/stamp: requirements/vllm.txt pyproject.toml | $(UV)
	@echo "installing vLLM for CPUs (about 4 GB)"
	@$(BIN)/python -m venv .venv-vllm
	@$(call ticking, .venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check \
	    --no-deps $(TORCH) $(TORCH_INDEX))
	@grep -q 'cuda.* = None' .venv-vllm/lib/python*/site-packages/torch/version.py || \
	  { rm -rf .venv-vllm; \
	    echo "pip found a $(TORCH) for CUDA; name an index that has one for CPUs:" \
	         "make vllm TORCH_INDEX='--index-url …'"; exit 1; }
	@$(call ticking, $(UV) pip install --quiet --python .venv-vllm/bin/python --no-deps \
	    --require-hashes -r requirements/vllm.txt)
	@$(UV) pip install --quiet --python .venv-vllm/bin/python --no-deps -e .
	@touch $@

.venv-gpu/stamp: pyproject.toml | $(UV)
	@$(BIN)/python -m venv .venv-gpu
	@$(call ticking, $(UV) pip install --quiet --python .venv-gpu/bin/python \
	  -e "$(FOR_GPU)" accelerate gguf pytest pytest-asyncio pytest-timeout)
	@touch $@

.venv-%/weights.stamp: .venv-%/stamp .venv/weights.stamp tests/vllm/weights.py
	@echo "converting the embedded model's weights"
	@$(call ticking, .venv-$*/bin/python -m tests.vllm.weights .venv-$*/smollm2 2>/dev/null)
	@touch $@
