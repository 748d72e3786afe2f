# `make demo` and `make test` set up .venv themselves; nothing but Python 3.10+ with venv, and make, is needed.
# An environment whose making failed is no environment.
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-all test-lowest fuzz lint docs clean

help:
	@echo "make demo       set up, export MobileNetV2 with its ImageNet weights, run it on photographs and a video"
	@echo "make test       set up, then run the tests, but for the slow ones"
	@echo "make test-all   set up, then run every test, as CI does"
	@echo "make test-lowest  the runtime's quick tests with the lowest versions that pyproject.toml allows"
	@echo "make fuzz       set up, then mutated inputs for all that reads files: FUZZ_SECONDS=3600 a target"
	@echo "make lint       set up, then ruff and mypy"
	@echo "make docs       set up, then build the web site of the documentation into site"
	@echo "make clean      remove .venv, demo-out, fuzz-out and site"

demo: .venv/.demo
	$(BIN)/python -m edgebone_export.demo demo-out

# Two files at a time, in the order of tests/conftest.py: the tests are written for two cores. PyTorch's threads of the
# one would wait, turning, for the cores of the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/.dev
	$(PYTEST) -m "not slow"

test-all: .venv/.dev
	$(PYTEST)

# The lowest release of each direct dependency, in an environment of its own. With vision NumPy is 2; for NumPy 1:
# make test-lowest LOWEST=cpu,openvino,video,metrics,annotate,gallery,eval \
#   LOWEST_IMPORTS="av, onnxruntime, prometheus_client, supervision, usearch"
LOWEST := cpu,video,metrics,gallery,vision
LOWEST_IMPORTS := av, onnxruntime, prometheus_client, pynvml, supervision, trackers, usearch
LOWEST_TESTS := $(addprefix tests/runtime/, core/test_bundle.py decode/test_decode.py gallery/test_gallery_index.py \
	model/test_model.py test_preprocess.py sinks/test_sinks.py sources/test_sources.py telemetry/test_telemetry.py \
	vision/test_vision.py) tests/faults/test_lines.py

test-lowest: .venv/bin/python
	rm -rf .venv-lowest
	$(BIN)/python -m venv .venv-lowest
	$(BIN)/python tests/lowest.py $(LOWEST) > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --no-compile --constraint .venv-lowest/lowest.txt \
		--editable '.[$(LOWEST)]' hypothesis onnx pytest
	# Else the tests of a package that is there and empty, as one release of trackers is, are skipped without a word.
	.venv-lowest/bin/python -c "import $(LOWEST_IMPORTS)"
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -q -m "not slow" -p no:cacheprovider $(LOWEST_TESTS)

# An hour for each target, unless told otherwise. Inputs that fail are saved in fuzz-out.
FUZZ_SECONDS ?= 3600

fuzz: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# A stamp a set of extras: installed again when the requirements change.
.venv/.demo: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[export,openvino,video,demo]'
	@touch $@

.venv/.docs: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	# Type stubs, which a test holds the builder against; TensorRT itself, which they ask for, needs a GPU.
	$(BIN)/python -m pip install --quiet --no-deps tensorrt-stubs
	@touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

clean:
	rm -rf .venv .venv-lowest demo-out fuzz-out site
