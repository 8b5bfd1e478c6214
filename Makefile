# Two commands do everything on a machine with Python >= 3.11 and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers
# A wheel index with CPU builds of torch, e.g. https://download.pytorch.org/whl/cpu; empty: pip's own.
TORCH_INDEX ?=
PIP_INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX),)
STAMP := $(VENV)/.installed

# Of `make fuzz`: random questions, their seed, how many of them slow accountants are asked, other options (--record).
CONFIGS ?= 1000
SEED ?= 0
SLOW ?= 0
FUZZ ?=
# Of `make bench`: options such as --smoke or --json FILE.
BENCH ?= $(if $(SMOKE),--smoke)

# Tests start many interpreters, and pytest rewrites every test: what was compiled once is kept, whatever the shell says.
test laws: export PYTHONDONTWRITEBYTECODE :=

.PHONY: all demo test check format clean notebooks laws reference fuzz bench peers tightness coverage
all: $(STAMP)

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt $(PIP_INDEX) -e '.[all,test]'
	touch $@

demo: $(STAMP)
	$(BIN)/python -m audit run --seed 0 --out demo

test: $(STAMP)
	$(BIN)/python -m pytest -n auto -q

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

laws: $(STAMP)
	$(BIN)/python -m pytest -n auto -q tests/contracts --all --hypothesis-profile=thorough
	$(BIN)/python -m pytest -n auto -q --all --ignore=tests/contracts

reference: $(STAMP)
	$(BIN)/python tests/reference/make.py

fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --configs $(CONFIGS) --seed $(SEED) --slow $(SLOW) $(FUZZ)

bench: $(STAMP)
	$(BIN)/python -m tests.benchmarks $(BENCH)
	$(BIN)/python -m tests.benchmarks.steps --no-peers
	$(BIN)/python -m tests.benchmarks.shadows

# The peers live apart: they need an attrs and a scikit-learn that ours have left behind.
peers: $(PEERS)/.installed
	$(PEERS)/bin/python -m tests.benchmarks $(BENCH)
	$(PEERS)/bin/python -m tests.benchmarks.noise
	$(PEERS)/bin/python -m tests.benchmarks.steps

$(PEERS)/.installed: pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(PEERS)
	grep -v '^attrs==\|^scikit-learn==' .ci/constraints.txt > $(PEERS)/constraints.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(PEERS)/constraints.txt $(PIP_INDEX) -e '.[peers]'
	rm -rf $(PEERS)/lib/python*/site-packages/tests # diffprivlib's own, which would hide ours
	touch $@

# The test bench of auditors, whole: many hours; stopped, it goes on where it was.
coverage: $(STAMP)
	$(BIN)/python -m audit coverage --simulations 10000 --size 50 --size 200 --size 1000 --size 5000 --cases 1000 --out tests/audit/coverage
	$(BIN)/python -m audit coverage --simulations 10000 --power 2000 --estimator bonferroni --estimator dkw --estimator berk_jones --estimator maximal --out tests/audit/coverage
	$(BIN)/python -m audit verdicts --reports 10000 --out tests/audit/coverage

tightness: $(STAMP)
	$(BIN)/python -m tests.reference.tightness

notebooks: $(STAMP)
	$(BIN)/python notebooks/build.py

clean:
	rm -rf $(VENV) $(PEERS) build dist *.egg-info demo
