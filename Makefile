# make demo | test | wheel | sdist | lint | stubs | readme | machine_code | format | clean. Every target sets itself up in a
# private environment and needs no more than Python 3.10, make and a C++ compiler. Useful variables:
#   CUTPLAN_SKUS=native|all|none|<list>   kernels to build (default: native; wheel: all)
#   CUTPLAN_CUDA=registry|system          CUDA compiler: the pinned one, downloaded (default), or the machine's
#   PYTHON=python3.12                     interpreter of the environment
#   VENV_FLAGS=--system-site-packages     use the frameworks that PYTHON has (the default where torch is one of them)
#   VENV=.venv                            the environment; another name makes a new one
#   PYTEST_FLAGS="-k overlap"             passed to pytest
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:  # every target changes the one environment; the builds themselves are parallel
.PHONY: demo test wheel sdist lint stubs readme machine_code format clean install

PYTHON ?= python3
VENV ?= .venv
has_torch := import importlib.util; print("--system-site-packages" if importlib.util.find_spec("torch") else "")
VENV_FLAGS ?= $(shell $(PYTHON) -c '$(has_torch)')
PYTEST_FLAGS ?=

default_skus = native
wheel readme machine_code: default_skus = all
skus = $(or $(CUTPLAN_SKUS),$(default_skus))

say := @echo "cutplan:"
bin := $(abspath $(VENV))/bin
pip := $(bin)/python -m pip --quiet --disable-pip-version-check
# One build tree per set of SKUs and compiler, kept, so that the next build is incremental.
comma := ,
semicolon := ;
build_dir = build/$(subst $(semicolon),-,$(subst $(comma),-,$(skus)))$(if $(filter system,$(CUTPLAN_CUDA)),-system)
from_tree = --no-deps --no-build-isolation --config-settings=build-dir=$(build_dir)
# Runs $(1) with its output in a log, and shows the log's end when it fails.
logged = mkdir -p build; CUTPLAN_SKUS='$(skus)' $(1) > $(build_dir).log 2>&1 \
  || { tail -n 60 $(build_dir).log; echo "cutplan: failed; all of it is in $(build_dir).log"; exit 1; }

demo: $(VENV)/.demo install
	$(say) "running the demo"
	@$(bin)/python examples/demo.py

test: $(VENV)/.test install
	@$(bin)/python .ci/get_torch.py
	$(say) "running the tests"
	@$(bin)/python -m pytest $(PYTEST_FLAGS)

install: $(VENV)/.build
	$(say) "building for SKUs '$(skus)' and installing into $(VENV) (progress: $(build_dir).log)"
	@$(call logged,$(bin)/python -m pip -v install --force-reinstall $(from_tree) .)

wheel: $(VENV)/.wheel
	$(say) "building a wheel for SKUs '$(skus)' (progress: $(build_dir).log)"
	@rm -rf dist/*.whl build/wheel
	@$(call logged,$(bin)/python -m pip -v wheel $(from_tree) --wheel-dir build/wheel .)
	$(say) "tagging it with the oldest system that it runs on, and checking it as an index does"
	@PATH="$(bin):$$PATH" $(bin)/python -m auditwheel repair --wheel-dir dist build/wheel/*.whl > build/auditwheel.log 2>&1 \
	  || { cat build/auditwheel.log; exit 1; }
	@$(bin)/python -m twine check --strict dist/*.whl
	@$(bin)/python .ci/metadata.py dist/*.whl
	$(say) "checking the wheel in a clean environment"
	@$(PYTHON) -m venv --clear build/check
	@build/check/bin/python -m pip --quiet --disable-pip-version-check install dist/*.whl numpy
	@build/check/bin/python .ci/smoke.py
	@ls -lh dist/*.whl

sdist: $(VENV)/.wheel
	$(say) "building a source distribution that carries the CUTLASS headers"
	@rm -f dist/*.tar.gz
	@$(pip) download --no-deps --require-hashes --dest third_party --requirement third_party/cutlass.txt
	@$(bin)/python -m build --sdist --no-isolation --outdir dist . > build/sdist.log 2>&1 || { cat build/sdist.log; exit 1; }
	@$(bin)/python -m twine check --strict dist/*.tar.gz
	@ls -lh dist/*.tar.gz

native_sources = $(shell find cpp tests -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh')
lint: $(VENV)/.lint
	$(say) "checking format, style and types"
	@said=$$($(bin)/clang-format --dry-run --Werror $(native_sources) 2>&1) \
	  || { grep -oE '^[^ :]+:[0-9]+' <<< "$$said" | uniq; echo "cutplan: not as clang-format has it: make format"; exit 1; }
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/mypy
	@$(bin)/python -m benchmarks.readme --check results speed plots

format: $(VENV)/.lint
	@$(bin)/clang-format -i $(native_sources)
	@$(bin)/ruff format .
	@$(bin)/ruff check --fix .

# The type stubs of the native module; continuous integration compares STUBS=<elsewhere> with the checked-in ones.
STUBS ?= python/cutplan/_core.pyi
stubs: install
	$(say) "writing $(STUBS)"
	@$(bin)/python .ci/stubs.py $(STUBS)

# Tables, figures and plots of the pages, from a build of all SKUs and from benchmarks/results.
readme: install
	@$(bin)/python -m benchmarks.readme

# The page on the machine code, from a build of all SKUs and from benchmarks/results.
machine_code: $(VENV)/.audit install
	$(say) "reading the machine code of $(build_dir) and writing docs/machine-code.md"
	@$(bin)/python .ci/machine_code.py $(build_dir)

clean:
	rm -rf build dist $(VENV) third_party/*.whl

# ---- environments: one, to which each target adds its dependency group of pyproject.toml ----

$(VENV)/.build: pyproject.toml
	$(say) "setting up $(VENV) $(if $(VENV_FLAGS),($(VENV_FLAGS)))"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "cutplan needs Python 3.10: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	@$(pip) install 'pip>=25.1'
	@$(pip) install --group build
	@mkdir -p build
	@touch $@

# A stamp says that all of it is there: a recipe that fails leaves none, and the next make tries again.
$(VENV)/.demo $(VENV)/.test $(VENV)/.lint $(VENV)/.wheel $(VENV)/.audit: $(VENV)/.%: $(VENV)/.build
	$(say) "installing what $* needs"
	@$(pip) install --group $*
	@touch $@
