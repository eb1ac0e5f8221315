# Names for commands; CONTRIBUTING.md says which to run when.
BACKEND ?= torch
PYTEST = KERAS_BACKEND=$(BACKEND) python -m pytest -n 2
CORE = $(addprefix tests/test_,contract.py dispatch.py encoder.py config.py)

.PHONY: check docs test test-all slow

check:
	ruff check .
	ruff format --check .
	mypy
	$(PYTEST) $(CORE)

# The pages and those of the API, in site/; `pip install -e '.[docs]'` brings MkDocs.
docs:
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

test:
	$(PYTEST)

test-all:
	python -m pip install -e '.[tensorflow,jax,torch,test]' torch==2.13.0 && KERAS_BACKEND=tensorflow python -m pytest -n 2 && KERAS_BACKEND=jax python -m pytest -n 2 && KERAS_BACKEND=torch python -m pytest -n 2

slow:
	$(PYTEST) -m slow
