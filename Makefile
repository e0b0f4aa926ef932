# Start with `make demo` or `make test`. Both need make, Python 3.11 or 3.12, and Java 17 or 21. They
# download everything else: to .venv and .cache here, and Delta's jar to ~/.ivy2.5.2.

.DEFAULT_GOAL := help
.PHONY: help setup java demo test test-long consumers test-consumers check format lint types unit coverage bench bench-search bench-scale bench-proxy bench-gpu lock clean

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.9
STAMP := $(VENV)/.set-up
CODE := lib jobs tests demo benchmarks notebooks setup.py
# The pure core: code that computes results. Other code connects it to Spark, MLflow, models and users.
CORE := lib/climb/*.py,lib/climb/config/*,lib/climb/dataset/*,lib/climb/domains/*,lib/climb/estimate/*,lib/climb/files/*,lib/climb/ingest/*,lib/climb/mixture/*,lib/climb/predictor/*,lib/climb/quality/*,lib/climb/runs/*,lib/climb/search/*,lib/climb/tracking/values.py,lib/climb/cli/preflight.py,lib/climb/cli/finished/*
EDGE := lib/climb/progress.py

# uv does not read pip's settings, so it gets the index URL of a mirror here.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

setup: java $(STAMP) ## Install everything into .venv; does nothing if nothing has changed.

$(STAMP): requirements.txt pyproject.toml setup.py conf/spark/local.conf Makefile
	@python=; for p in $(PYTHON) python3.11 python3.12 python3; do \
	  if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; \
	  then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "setup: Python 3.11 or 3.12 not found. Debian or Ubuntu: apt-get install -y" \
	    "python3.11 python3.11-venv; macOS: brew install python@3.11; conda: conda create -n climb" \
	    "python=3.11. Elsewhere: make PYTHON=/path/to/python3.11 setup"; exit 1; fi; \
	test -x $(BIN)/python || $$python -m venv $(VENV)
	@test "$$($(UV) --version 2>/dev/null | cut -d' ' -f2)" = $(UV_VERSION) \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "setup: installing requirements.txt into $(VENV) (about 8 GB, mostly torch)"
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync --quiet requirements.txt
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps --editable .
	@spark=$$($(BIN)/python -c 'import pyspark, pathlib; print(pathlib.Path(pyspark.__file__).parent)'); \
	mkdir -p "$$spark/conf" && cp conf/spark/local.conf "$$spark/conf/spark-defaults.conf"; \
	rm -f $(BIN)/spark-submit; \
	printf '%s\n' '#!/bin/sh' \
	  '# PySpark'"'"'s own script uses the first python3 on the PATH to find Spark.' \
	  "export SPARK_HOME='$$spark' PYSPARK_PYTHON=\"\$${PYSPARK_PYTHON:-$$(cd $(BIN) && pwd)/python}\"" \
	  'exec "$$SPARK_HOME/bin/spark-submit" "$$@"' > $(BIN)/spark-submit; \
	chmod +x $(BIN)/spark-submit
	@echo "setup: downloading Delta's jar, which Spark needs at every start"
	@$(BIN)/python -c 'from climb.config import load; from climb.spark.session import start_session; \
	  start_session(load().spark).stop()'
	@touch $@
	@echo "setup: done; . $(BIN)/activate puts climb and spark-submit on the PATH"

java:
	@python=; for p in $(BIN)/python $(PYTHON) python3.11 python3.12 python3; do \
	  if $$p -c 0 2>/dev/null; then python=$$p; break; fi; done; \
	check() { PYTHONPATH=lib $$python -m climb.cli.doctor; }; \
	test -n "$$python" || exit 0; \
	if output=$$(check); then exit 0; fi; echo "$$output"; \
	if [ -f /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "setup: installing Java with apt-get (this is Debian, and you are root)"; \
	  apt-get update -q && apt-get install -q -y openjdk-17-jre-headless && check; \
	else exit 1; fi

demo: setup ## Run all jobs on 10,000 real documents, and write the mixture and the report.
	@$(BIN)/python demo/fetch.py
	@$(BIN)/climb run --conf conf/demo.yaml

test: setup format lint types ## Check format, lint and types, and run the tests.
	@# Two processes, each with one test file at a time. The end-to-end tests, which are long, come first.
	@$(BIN)/python -m pytest tests -m 'not slow' --ignore tests/consumers \
	  -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test-long: setup coverage ## Run the slow tests (more than an hour); do this before an issue is closed.
	@# A test compares every item with lm-eval.
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps -r requirements/bench.txt
	@$(BIN)/python -m pytest tests -m slow --ignore tests/consumers \
	  -n 2 --dist loadfile --no-loadscope-reorder -vv --durations=10

consumers: setup ## Install the trainers that read exports, each into its own environment (12 GB).
	@for file in requirements/consumers/*.txt; do \
	  folder=.consumers/$$(basename $$file .txt); \
	  cmp -s $$file $$folder/requirements.txt && continue; \
	  echo "consumers: $$file into $$folder"; \
	  $(UV) venv --quiet --clear --python $(BIN)/python $$folder \
	    && $(UV) pip install --quiet --no-config --python $$folder/bin/python --prerelease if-necessary-or-explicit \
	      -r $$file && cp $$file $$folder/requirements.txt || exit 1; \
	done

test-consumers: consumers ## Let every trainer's own loader read our exports.
	@$(BIN)/python -m pytest tests/consumers --durations=10

coverage: setup ## Run the unit tests with coverage, and check the coverage of the pure core.
	@rm -f .coverage
	@$(BIN)/python -m pytest tests/unit -m 'not slow' -n 2 --cov --cov-report=
	@echo "coverage of the pure core (at least 95 %, lines and branches):"
	@$(BIN)/coverage report --include='$(CORE)' --omit='$(EDGE)' --fail-under=95

check: setup format lint types unit ## The fast checks: format, lint, types, unit tests.

format:
	@$(BIN)/ruff format --check $(wildcard $(CODE))

lint:
	@$(BIN)/ruff check $(wildcard $(CODE))

types:
	@$(BIN)/mypy

unit:
	@$(BIN)/python -m pytest tests/unit -m 'not slow'

bench: setup ## Compare with other methods; writes benchmarks/RESULTS.md.
	@VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --no-deps -r requirements/bench.txt
	@$(BIN)/python benchmarks/bench.py

bench-search: setup ## Run only the benchmarks of the search: accuracy, regret, reuse, speed (an hour).
	@$(BIN)/python benchmarks/bench.py search

bench-scale: setup ## Measure growth at three sizes, and write the rates of `climb estimate` (ten minutes).
	@$(BIN)/python benchmarks/bench.py scale; status=$$?; \
	$(BIN)/python benchmarks/scale.py --publish && exit $$status

bench-proxy: setup ## Measure proxies on CPUs: speed, time around trials, how they rank mixtures (hours).
	@$(BIN)/python benchmarks/bench.py proxy

bench-gpu: ## Measure on the GPU of this machine; needs torch, no Spark. DOCUMENTS=FILE.parquet: the texts.
	@for script in benchmarks/gpu_*.py; do \
	  name=$$(basename $$script .py); \
	  case $$name in gpu_embedding) test -n "$(DOCUMENTS)" \
	      || { echo "bench: gpu_embedding skipped: set DOCUMENTS=FILE.parquet"; continue; }; \
	    options="--documents $(DOCUMENTS)";; *) options=;; esac; \
	  echo "bench: $$name"; \
	  $(or $(PYTHON),$(wildcard $(BIN)/python),python3) $$script $$options \
	    --output $(or $(OUTPUT),.)/$$name.json || failed=1; \
	done; exit $${failed:-0}

# Packages that a cluster needs in addition to those of its runtime, which keep their versions.
pin_for_cluster = $(UV) pip compile -q --no-config pyproject.toml $(2) --python-version 3.12 \
	  --python-platform x86_64-manylinux_2_28 --no-header --no-annotate \
	  --constraint requirements/runtime-$(1).txt -o requirements/$(1).txt \
	  $$(sed -n 's/^\([a-z][^=]*\)==.*/--no-emit-package \1/p' requirements/runtime-$(1).txt)

lock: setup ## Compile requirements.txt and requirements/*.txt, the pinned versions, from pyproject.toml.
	@$(UV) pip compile -q pyproject.toml $(addprefix --extra ,local embed proxy fasttext rapids cpu demo dev) \
	  --python-version 3.11 --universal --generate-hashes --no-header -o requirements.txt
	@# lm-eval requires the package datasets, whose bound of fsspec is below our version, and packages
	@# that requirements.txt pins for Windows alone.
	@sed -n 's/^\(fsspec==[^ ;]*\).*/\1/p' requirements.txt \
	  | $(UV) pip compile -q pyproject.toml --extra bench --constraint requirements.txt --universal \
	  --override - --python-version 3.11 --no-header --no-annotate -o requirements/bench.txt \
	  $$(sed -n "/'win32'/!s/^\([a-z][^=]*\)==.*/--no-emit-package \1/p" requirements.txt)
	@$(call pin_for_cluster,cpu)
	@$(call pin_for_cluster,gpu,--extra embed --extra proxy)

clean: ## Remove the output of the demo; keeps .venv and downloads.
	rm -rf climb-demo .cache/demo .coverage
