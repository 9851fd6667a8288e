# GNU Make 3.81 or newer. Every path is relative, so that a checkout may lie in a folder with spaces in its name.
PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip install -qq --disable-pip-version-check
NEEDS   := settings.ini setup.py pyproject.toml
# What nbdev and tools/make_readme.py write from the notebooks, and the notebooks themselves.
MADE    := nbs semdedup README.md index_files

.PHONY: help report test notebooks check docs lint coverage lowest bench clean
.DELETE_ON_ERROR:

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

report: $(VENV)/.installed ## set up, and make the report on the packaged sample: reports/fmnist-mini/index.html
	@$(BIN)/semdedup report --dataset fmnist-mini --epochs 8 --out reports/fmnist-mini

test: $(VENV)/.dev ## run the notebooks and tests/ (WORKERS=2 processes at a time)
	@echo "Running the notebooks as tests (some minutes) …"; status=0; \
	$(BIN)/nbdev_test --n_workers $(WORKERS) || status=1; \
	$(BIN)/python -m pytest -rs -n $(WORKERS) --dist loadfile || status=1; \
	[ $$status = 0 ] || echo "Something above failed."; exit $$status

# Cleaning comes first: it gives every cell the id that the exported code refers to. Export comes before the refresh,
# because notebooks import the package.
notebooks: $(VENV)/.dev ## after editing notebooks: export, fresh outputs (NB="nbs/a.ipynb …" for some only), README
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export
	@$(BIN)/python tools/refresh_notebooks.py $(NB)
	@$(BIN)/python tools/make_readme.py

# `git diff` passes over files that are new, `git status` does not.
check: $(VENV)/.dev ## do the notebooks, the package and the README agree, and is it committed?
	@$(BIN)/nbdev_clean
	@$(BIN)/nbdev_export
	@$(BIN)/python tools/make_readme.py
	@changed=$$(git status --porcelain -- $(MADE)) || exit 1; \
	if [ -n "$$changed" ]; then \
	  git --no-pager diff -- semdedup README.md; echo "$$changed"; \
	  echo "Notebooks, package and README do not agree with what is committed: run 'make notebooks' and commit the files above."; exit 1; \
	else echo "Notebooks, package and README agree."; fi

docs: $(VENV)/.dev ## build the site from the notebooks, offline: _docs/index.html; a broken link is an error
	@$(BIN)/python tools/make_docs.py

lint: $(VENV)/.dev ## ruff, codespell and mypy
	@$(BIN)/ruff check semdedup tests tools benchmarks setup.py
	@git ls-files -z '*.ipynb' '*.md' '*.py' '*.yml' '*.toml' '*.ini' '*.cff' | xargs -0 $(BIN)/codespell
	@$(BIN)/mypy

coverage: $(VENV)/.dev ## how much of the package the notebooks and tests/ run, by line and branch: htmlcov/index.html; below 95 % is an error
	@rm -f .coverage .coverage.*; export COVERAGE_FILE="$$PWD/.coverage"; status=0; \
	for notebook in nbs/[01]*.ipynb; do $(BIN)/coverage run tools/cover_notebooks.py $$notebook || status=1; done; \
	$(BIN)/coverage run -m pytest || status=1; \
	$(BIN)/coverage combine -q; $(BIN)/coverage html -q; $(BIN)/coverage report || status=1; exit $$status

# uv takes the lowest version of each direct requirement; of what those require in turn, whatever fits.
lowest: ## the quick tests with the lowest versions that settings.ini allows, in .venv-lowest
	@"$(PYTHON)" -m venv --clear .venv-lowest
	@.venv-lowest/bin/python -m pip install -qq --disable-pip-version-check uv
	@.venv-lowest/bin/uv pip install -q --python .venv-lowest --resolution lowest-direct -e '.[dask,hf,timm]' 'pytest>=8' 'hypothesis>=6.100'
	@.venv-lowest/bin/python -m pytest -rs tests/test_engine.py tests/test_layers.py tests/test_photos.py tests/test_own.py tests/test_fuzz.py tests/test_dask.py tests/test_encoders.py tests/test_plots.py tests/test_page.py tests/test_grid.py

bench: $(VENV)/.installed ## run benchmarks/*.py
	@for script in benchmarks/*.py; do $(BIN)/python "$$script" || exit 1; done

clean: ## remove what builds and tests leave behind (not .venv, not results)
	@rm -rf build dist ./*.egg-info _proc _docs .pytest_cache .ruff_cache .mypy_cache .coverage .coverage.* htmlcov .venv-lowest
	@find nbs semdedup tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

# A folder .venv that is there already is used as it is, if pip answers in it.
$(VENV)/.made:
	@command -v "$(PYTHON)" > /dev/null || { \
	  echo "There is no command $(PYTHON). Install Python 3, or name it: make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@python="$(PYTHON)"; [ ! -x $(BIN)/python ] || python=$(BIN)/python; \
	least=$$(sed -n 's/^min_python *= *//p' settings.ini); \
	"$$python" -c 'import sys; sys.exit(list(sys.version_info[:2]) < [int(v) for v in sys.argv[1].split(".")])' "$$least" || { \
	  echo "semdedup needs Python $$least or newer, and $$python is $$("$$python" --version 2>&1)." \
	  "Name another: make PYTHON=python$$least …" >&2; exit 1; }
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || { \
	  "$(PYTHON)" -c 'import venv, ensurepip' 2> /dev/null || { \
	    echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	  "$(PYTHON)" -m venv $(VENV); }
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(NEEDS)
	@echo "Installing semdedup and what it needs into $(VENV) (once; a few minutes) …"
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(NEEDS)
	@echo "Installing semdedup, what it needs and what its tests need into $(VENV) (once; a few minutes) …"
	@$(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@
