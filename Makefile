PYTHON ?= python3
PIP_INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test clean

help:
	@echo "make demo    install into .venv, run the demonstration, write mgce_demo.png"
	@echo "make test    install into .venv, run the linter and the tests"
	@echo "make clean   remove .venv, caches and build products"
	@echo "PYTHON=...   the interpreter that makes .venv, $(PYTHON) by default"

demo: .venv/demo.stamp
	.venv/bin/python -m mgce_sklearn

test: .venv/test.stamp
	.venv/bin/ruff check .
	.venv/bin/python -m pytest

.venv/bin/python:
	$(PYTHON) -m venv .venv

# One stamp per extra: pip runs when what it reads has changed, and needs no network else.
.venv/%.stamp: setup.cfg pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
