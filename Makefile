# `make demo` and `make test` need Python >= 3.11 and make, nothing else: they set up .venv themselves, once.

# What another project may have left in the environment and would send us to its own Python or packages.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
unexport UV_SYSTEM_PYTHON UV_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE

BIN := .venv/bin
INSTALLED := .venv/.installed
TYPED := __init__.py models platform serve benchmarks
WITHOUT_CLUSTER := env -u RAY_ADDRESS
BY_HAND := page_gallery page_screenshots scoring_soak scoring_cluster load load_report serving_soak serving_scale \
	serving_peers peer_litserve peer_bentoml
BENCHMARKS = $(filter-out $(BY_HAND:%=benchmarks/%.py),$(wildcard benchmarks/*.py))

# The first that runs, is new enough and can make a virtual environment; `make PYTHON=... test` takes another.
PYTHON = $(shell for python in python3.13 python3.12 python3.11 python3.14 python3; do \
	$$python -E -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)

.PHONY: help install demo check test bench gallery chaos proto format constraints clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED) ## the project and its tools in .venv

demo: $(INSTALLED) ## the whole way on simulated ECGs; ends with a report to look at
	$(BIN)/vizecg demo demo-out

check: $(INSTALLED) ## style and types
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyrefly check --progress-bar no --relative-to "$(CURDIR)/.venv/src/vizecg" --python-interpreter-path $(BIN)/python

test: check ## check, then the tests; what is skipped says why
	$(WITHOUT_CLUSTER) $(BIN)/pytest -m "not chaos"

chaos: $(INSTALLED) ## tests that kill workers, nodes and drivers, and those that take minutes
	$(WITHOUT_CLUSTER) $(BIN)/pytest -m chaos

bench: $(INSTALLED) ## every performance claim, measured here
	@set -e; for benchmark in $(BENCHMARKS); do echo "$$benchmark"; $(WITHOUT_CLUSTER) $(BIN)/python "$$benchmark"; done

gallery: $(INSTALLED) ## the pictures of docs/pages.md, made anew
	$(BIN)/python benchmarks/page_gallery.py docs/pages

proto: $(INSTALLED) ## the code of serve/grpc from its .proto
	$(BIN)/uv run --no-project --with grpcio-tools==1.74.0 python -m grpc_tools.protoc \
	-I vizecg/serve/grpc=serve/grpc --python_out=.venv/src --pyi_out=.venv/src --grpc_python_out=.venv/src \
	vizecg/serve/grpc/vizecg.proto
	sed -i 's/^from vizecg\.serve\.grpc import/from . import/' serve/grpc/vizecg_pb2_grpc.py
	sed -i '1i # Made from vizecg.proto by `make proto`, with grpcio-tools 1.74.0.' serve/grpc/vizecg_pb2*.py*

format: $(INSTALLED) ## put imports and lines in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: $(INSTALLED) ## newest versions into constraints.txt, without the CUDA libraries that torch picks for a platform
	$(BIN)/uv pip compile pyproject.toml --extra dev --python-version 3.11 --quiet --no-header --no-annotate >.venv/newest
	grep -vE '^(nvidia|cuda)-' .venv/newest >constraints.txt

clean: ## remove what the other targets made, except .venv
	rm -rf build dist *.egg-info demo-out .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "VizECG needs Python 3.11 or newer with its venv module;" \
	"install it (on Debian and Ubuntu: apt install python3 python3-venv) or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@mkdir -p .venv/src/vizecg && ln -sfn $(addprefix ../../../,$(TYPED)) .venv/src/vizecg/
	@touch $@
