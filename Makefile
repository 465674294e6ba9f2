# The two commands of a new machine:  make tour   and   make test.  Each sets everything up first.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UV     := $(shell command -v uv 2>/dev/null)

# Without byte code every Python process starts three times slower, so a global switch against it does not hold here.
unexport PYTHONDONTWRITEBYTECODE
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif

ifneq ($(UV),)
MAKE_VENV = $(UV) venv --quiet --clear --seed --python "$(PYTHON)" "$(VENV)"
INSTALL   = $(UV) pip install --quiet --python "$(BIN)/python" --constraint constraints.txt
else
MAKE_VENV = $(PYTHON) -m venv --clear "$(VENV)"
INSTALL   = "$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
endif

.PHONY: help setup tour test lint format bench docs fuzz fuzz-slice mutate clean
.DEFAULT_GOAL := help

help:
	@echo "make tour    the main job of all three packages on real data; writes build/tour/index.html"
	@echo "make test    all tests"
	@echo "make lint    ruff and the type checker"
	@echo "make bench   asv benchmarks of this commit and their report, build/bench/index.html (QUICK=1: some minutes)"
	@echo "make fuzz    laws with 2000 examples each, damaged streams and containers, ten thousand recurrences"
	@echo "make mutate  small mutations of the sources, and whether the tests notice"
	@echo "make docs    the manual, build/docs/index.html"
	@echo "make clean   forget the environment and everything built"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Triskele needs Python 3.11 or newer; say which one with  make PYTHON=python3.12 ..."; exit 1; }
	$(MAKE_VENV)
	$(INSTALL) --editable ".[test,tour,dask]"
	@touch $@

tour: $(STAMP)
	"$(BIN)/python" examples/tour

test: $(STAMP)
	"$(BIN)/python" -m pytest $(TESTS)

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/basedpyright" --pythonpath "$(BIN)/python"

format: $(STAMP)
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .

bench: $(STAMP)
	$(INSTALL) --editable ".[test,tour,dask,bench]"
ifdef QUICK
	"$(BIN)/python" -m benchmarks --quick
else
	"$(BIN)/asv" machine --yes
	"$(BIN)/asv" run --python=same --set-commit-hash "$$(git rev-parse HEAD)"
	"$(BIN)/python" -m benchmarks
endif

fuzz: $(STAMP)
	HYPOTHESIS_PROFILE=nightly "$(BIN)/python" -m pytest -m hypothesis $(TESTS)
	"$(BIN)/python" tests/density/fuzz_rans.py --executions 2000000
	"$(BIN)/python" tests/density/fuzz_container.py --executions 50000000 --processes 0
	"$(BIN)/python" tests/seqsolve/fuzz_solve.py --cases 10000

# what CI runs of it; the rest of its slice is inside the tests
fuzz-slice: $(STAMP)
	"$(BIN)/python" tests/density/fuzz_container.py --executions 2000000 --processes 0

mutate: $(STAMP)
	"$(BIN)/python" tests/mutants.py lowrank/selection/lu.py --tests tests/lowrank/test_selection_pivoting.py
	"$(BIN)/python" tests/mutants.py lowrank/certificate.py --tests tests/lowrank/test_certificate.py
	"$(BIN)/python" tests/mutants.py lowrank/coefficients.py --tests tests/lowrank/test_coefficients.py
	"$(BIN)/python" tests/mutants.py lowrank/selection/osinsky.py --tests tests/lowrank/test_osinsky.py
	"$(BIN)/python" tests/mutants.py lowrank/tolerance.py --tests tests/lowrank/test_tolerance.py --limit 40

docs: $(STAMP)
	$(INSTALL) --editable ".[test,tour,dask,docs]"
	NO_MKDOCS_2_WARNING=1 "$(BIN)/mkdocs" build --quiet --strict -f docs/mkdocs.yml
	@echo "the manual: build/docs/index.html"

clean:
	rm -rf "$(VENV)" build dist .asv
