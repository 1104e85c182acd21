# make demo | test | wheel | sdist | lint | stubs | readme | machine_code | asan | tsan | format | clean. Every target sets itself up in a
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
.PHONY: demo test wheel sdist lint stubs readme machine_code asan tsan format clean install

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

xla_headers = $(addprefix jaxlib/include/xla/ffi/api/,api.h c_api.h ffi.h)  # of a wheel of 85 MB, all that is needed
sdist: $(VENV)/.wheel
	$(say) "building a source distribution that carries the headers of CUTLASS, DLPack and XLA"
	@rm -rf dist/*.tar.gz build/xla_ffi
	@$(pip) download --no-deps --only-binary :all: --require-hashes --python-version 3.12 --platform manylinux_2_28_x86_64 \
	  --dest third_party --requirement third_party/cutlass.txt --requirement third_party/dlpack.txt
	@$(pip) download --no-deps --only-binary :all: --require-hashes --python-version 3.12 --platform manylinux_2_27_x86_64 \
	  --dest build/xla_ffi --requirement third_party/xla_ffi.txt
	@cd build/xla_ffi && $(bin)/cmake -E tar xf jaxlib-*.whl $(xla_headers) \
	  && $(bin)/cmake -E tar cf $(CURDIR)/third_party/xla_ffi.zip --format=zip $(xla_headers)
	@$(bin)/python -m build --sdist --no-isolation --outdir dist . > build/sdist.log 2>&1 || { cat build/sdist.log; exit 1; }
	@$(bin)/python -m twine check --strict dist/*.tar.gz
	@ls -lh dist/*.tar.gz

native_sources = $(shell find cpp tests examples -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh')
lint: $(VENV)/.lint
	$(say) "checking format, style and types"
	@said=$$($(bin)/clang-format --dry-run --Werror $(native_sources) 2>&1) \
	  || { grep -oE '^[^ :]+:[0-9]+' <<< "$$said" | uniq; echo "cutplan: not as clang-format has it: make format"; exit 1; }
	@$(bin)/ruff format --check .
	@$(bin)/ruff check .
	@$(bin)/mypy
	@$(bin)/python -m benchmarks.readme --check results speed plots llama

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

# Host code under sanitizers. With CMake and not with pip: what is built here is for no user.
sanitized = build_dir=build/$@; mkdir -p $$build_dir; { $(bin)/cmake -S . -B $$build_dir -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DCUTPLAN_SKUS=none -DCUTPLAN_TESTS=ON -DCUTPLAN_SANITIZE=$(1) -DPython_EXECUTABLE=$(bin)/python $(2) \
    && $(bin)/cmake --build $$build_dir --parallel; } > $$build_dir.log 2>&1 \
  || { tail -n 60 $$build_dir.log; echo "cutplan: failed; all of it is in $$build_dir.log"; exit 1; }; \
  $(bin)/ctest --test-dir $$build_dir --output-on-failure

# Threads that select, run, tune and read the tuning cache at once.
tsan: $(VENV)/.build
	$(say) "building for the thread sanitizer and running the tests in C++ (progress: build/$@.log)"
	@$(call sanitized,thread)

# Addresses and undefined behaviour: the tests in C++, and those in Python that reach the bindings and the host backend with
# problems that are small. Left out: grouped products of many sizes, which take minutes, and how fast an import is.
asan_tests = tests/bindings tests/core tests/gemm/test_errors.py tests/gemm/test_host.py tests/gemm/test_backward.py \
  tests/gemm/test_grouped.py tests/gemm/test_properties.py tests/fmha/test_errors.py tests/fmha/test_host.py \
  tests/fmha/test_dropout.py tests/fmha/test_edges.py tests/fmha/test_properties.py tests/weights \
  --deselect tests/gemm/test_grouped.py::test_epilogues --deselect tests/gemm/test_grouped.py::test_groups \
  --deselect tests/gemm/test_grouped.py::test_integers \
  --deselect tests/bindings/test_api.py::test_import_is_light
# The interpreter is not built with it: the sanitizer's runtime has to be loaded first, and the C++ library whose exceptions
# it watches. Python itself frees little of what it has at its end, so leaks are not looked for.
preloaded = LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)"
asan: $(VENV)/.test
	$(say) "building for the address and undefined-behaviour sanitizers and running tests (progress: build/$@.log)"
	@$(call sanitized,address$(comma)undefined,-DCUTPLAN_PYTHON=ON)
	@rm -rf build/asan/python
	@$(bin)/cmake --install build/asan --component cutplan --prefix $(CURDIR)/build/asan/python/cutplan > /dev/null
	@cp -r python/cutplan/. build/asan/python/cutplan
	@PYTHONPATH=$(CURDIR)/build/asan/python ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 $(preloaded) \
	  $(bin)/python -m pytest -q $(asan_tests) $(PYTEST_FLAGS)

clean:
	rm -rf build dist $(VENV) third_party/*.whl third_party/*.zip

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
