PYTHON ?= python3
# For the oldest versions: the first of these that runs and that they have wheels for.
OLDEST_PYTHON ?= python3.10 python3.11 python3.12 $(PYTHON)
SPHINX = .venv/bin/python -m sphinx --quiet --fresh-env --fail-on-warning --keep-going
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test test-oldest docs docs-quick linkcheck release-check clean

help:
	@echo "make demo         install into .venv, run the demonstration, write mgce_demo.png"
	@echo "make test         install into .venv, run linter, type checks and tests"
	@echo "make test-oldest  install the oldest versions that setup.cfg allows into .venv-oldest,"
	@echo "                  run the tests of the core"
	@echo "make docs         install into .venv, build docs/_build/html, run every example"
	@echo "make docs-quick   build the pages alone, without the gallery's figures, and run nothing"
	@echo "make linkcheck    try the links of the documentation, which needs a network"
	@echo "make release-check"
	@echo "                  build the sdist and the wheel, check both, install the wheel into an empty"
	@echo "                  environment of each Python that setup.cfg declares, and use it"
	@echo "make clean        remove both environments, caches and build products"
	@echo "PYTHON=...        the interpreter that makes .venv, $(PYTHON) by default"
	@echo "OLDEST_PYTHON=... the one that makes .venv-oldest, the first by default that is there of"
	@echo "                  $(OLDEST_PYTHON)"

demo: .venv/plot.stamp
	.venv/bin/python -m mgce_sklearn

test: .venv/test.stamp
	.venv/bin/ruff check .
	.venv/bin/mypy mgce_sklearn
	.venv/bin/python -m pytest

# Compiled kernels are kept apart: numba would replace those of another version.
test-oldest: .venv-oldest/test-core.stamp
	NUMBA_CACHE_DIR='$(CURDIR)/.venv-oldest/kernels' .venv-oldest/bin/python -m pytest

docs: .venv/docs.stamp
	$(SPHINX) -b html docs docs/_build/html
	.venv/bin/python -m pytest tests/test_docs.py mgce_sklearn

# The blocks of pages run with the tests.
docs-quick: .venv/docs.stamp
	$(SPHINX) -b html -D sphinx_gallery_conf.plot_gallery=False docs docs/_build/quick

linkcheck: .venv/docs.stamp
	$(SPHINX) -b linkcheck -D sphinx_gallery_conf.plot_gallery=False docs docs/_build/linkcheck

# The wheel is built from the sdist, so that the sdist is complete.
release-check: .venv/release.stamp
	rm -rf build dist
	.venv/bin/python -m build --outdir dist .
	.venv/bin/python -m twine check --strict dist/*
	.venv/bin/python .ci/release.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv-oldest/bin/python:
	@for python in $(OLDEST_PYTHON); do \
	    $$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null \
	        && $$python -m venv .venv-oldest && exit; \
	done; \
	echo "The oldest versions have wheels for Python 3.10 to 3.12, and none of $(OLDEST_PYTHON)" \
	    "is one: install one of them, or name it, as in make test-oldest OLDEST_PYTHON=..."; exit 1

# One stamp per extra: pip runs when what it reads has changed, and needs no network else.
.venv/%.stamp: setup.cfg pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python $(PIP_INSTALL) --constraint constraints.txt --editable '.[$*]'
	touch $@

# What setup.cfg asks for at least is asked for exactly.
.venv-oldest/%.stamp: setup.cfg pyproject.toml | .venv-oldest/bin/python
	sed -n '/^install_requires/,/^$$/s/ *\(.*\)>=/\1==/p' setup.cfg >.venv-oldest/minima.txt
	.venv-oldest/bin/python $(PIP_INSTALL) --constraint .venv-oldest/minima.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv .venv-oldest build dist *.egg-info
	rm -rf docs/_build docs/gallery docs/generated
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
