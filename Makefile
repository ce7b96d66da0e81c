# Thin: every target is a line or two. `make demo` and `make test` need python3 >= 3.11 and nothing else.
PYTHON ?= python3
BIN := .venv/bin
export JUPYTER_PLATFORM_DIRS := 1

.PHONY: demo test prove rehearse bench bench-explain bench-capture bench-archive lab lock clean

demo: $(BIN)/.ready
	$(BIN)/python -m atlas_ops demo

test: $(BIN)/.ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile

# make prove RATE=0: clients without rest, which takes hours on two cores
prove: $(BIN)/.ready
	$(BIN)/python -m pytest tests/proof -s --swaps 200 --kills 200 --seconds 20 --rate $(or $(RATE),150)

# rehearse ARGS="--messages 1000000 --rate 500"
rehearse: $(BIN)/.ready
	$(BIN)/python -m atlas_ops rehearse $(ARGS)

bench: $(BIN)/.ready
	$(BIN)/python benchmarks/copy_ways.py

bench-explain: $(BIN)/.ready
	$(BIN)/python benchmarks/explain_pgbench.py

bench-capture: $(BIN)/.ready
	$(BIN)/python benchmarks/capture_cost.py

bench-archive: $(BIN)/.ready
	$(BIN)/python benchmarks/archive_speed.py

lab: $(BIN)/.ready
	$(BIN)/python -m atlas_ops lab

$(BIN)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("python3 >= 3.11 is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The newest versions that pyproject.toml allows; the comments at the top stay.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check --upgrade setuptools '.[notebooks,demo,s3,test]'
	grep '^#' requirements.lock > build/requirements.lock
	build/lock/bin/python -m pip freeze --all --exclude pip --exclude atlas_ops >> build/requirements.lock
	mv build/requirements.lock requirements.lock

clean:
	rm -rf .venv records build *.egg-info
