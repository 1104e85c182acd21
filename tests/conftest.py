"""What every test shares: the seed, the machine's devices, and an account of what could not run on it."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import secrets
import tempfile
import zlib
from collections.abc import Iterable, Iterator

import pytest

import cutplan
from tests.environment import HAS_TORCH, has_cuda, not_run, note_not_run, why_no_cuda

if HAS_TORCH:
    import torch

# Packages that are not everywhere. A test file that imports one of them is left out where it is missing.
_OPTIONAL = {"cupy", "expecttest", "hypothesis", "jax", "ml_dtypes", "torch", "transformers"}


class _Module(pytest.Module):
    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            cause = error.__cause__
            if not isinstance(cause, ModuleNotFoundError) or cause.name not in _OPTIONAL:
                raise
            tests = re.findall(r"^def test_", self.path.read_text(), re.MULTILINE)
            note_not_run(f"test functions of files that import {cause.name} (not installed)", len(tests))
            return []


def pytest_pycollect_makemodule(module_path: pathlib.Path, parent: pytest.Collector) -> pytest.Module:
    return _Module.from_parent(parent, path=module_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed", type=int, default=None, help="seed of the random inputs (default: a fresh one)"
    )


def pytest_configure(config: pytest.Config) -> None:
    # What the user has measured must neither steer the tests nor be changed by them, in whatever process.
    measured = tempfile.TemporaryDirectory(prefix="cutplan-tests-")
    os.environ["CUTPLAN_CACHE_DIR"] = measured.name
    config.add_cleanup(measured.cleanup)
    # Small tensors gain nothing from torch's threads, which wait for each other busily where CPUs are shared.
    if HAS_TORCH:
        torch.set_num_threads(1)
    if config.getoption("seed") is None:
        config.option.seed = secrets.randbelow(2**31)
    if importlib.util.find_spec("hypothesis") is not None:
        # What its --hypothesis-seed sets: one seed repeats the whole run.
        import hypothesis.core

        hypothesis.core.global_force_seed = config.option.seed
    config.addinivalue_line("markers", "built(arch): needs the kernels of an architecture in the build")
    config.addinivalue_line("markers", "torch: needs torch, in a file that does not import it")
    config.addinivalue_line("markers", "cuda: needs a GPU")
    config.addinivalue_line("markers", "two_gpus: needs two GPUs")
    config.addinivalue_line("markers", "large: needs 40 GB of GPU memory")


def pytest_report_header(config: pytest.Config) -> list[str]:
    names = ["cpu"] + [
        f"{torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count() if has_cuda() else 0)
    ]
    return [
        f"cutplan {cutplan.__version__}, devices: {', '.join(names)}",
        f"inputs: random, --seed={config.option.seed} repeats this run",
    ]


def _obstacle(item: pytest.Item) -> str | None:
    """Why this machine cannot run the test; None: it can."""
    for mark in item.iter_markers("built"):
        if mark.args[0] not in cutplan.built_architectures():
            return f"tests of {mark.args[0]} kernels (not in this build)"
    marks = {mark.name for mark in item.iter_markers()}
    if "torch" in marks and not HAS_TORCH:
        return "tests that run programs with torch (not installed)"
    if not marks & {"cuda", "two_gpus", "large"}:
        return None
    if not has_cuda():
        return f"CUDA tests ({why_no_cuda()})"
    if "two_gpus" in marks and torch.cuda.device_count() < 2:
        return "tests of a second GPU (one GPU here)"
    if "large" in marks and (free := torch.cuda.mem_get_info()[0]) < 40e9:
        return f"tests beyond 2^31 elements (40 GB of GPU memory needed, {free / 1e9:.0f} GB free)"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    runnable, not_runnable = [], []
    for item in items:
        why = _obstacle(item)
        if why is None:
            runnable.append(item)
        else:
            not_runnable.append(item)
            note_not_run(why)
    if not_runnable:
        config.hook.pytest_deselected(items=not_runnable)
        items[:] = runnable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # "cuda" is a parameter everywhere, so that what a machine without a GPU leaves out is counted.
    listed = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "device" in metafunc.fixturenames and not any("device" in names for names in listed):
        metafunc.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not not_run:
        return
    terminalreporter.section("not run here")
    for what, count in sorted(not_run.items()):
        terminalreporter.write_line(what if count == 1 else f"{what}: {count}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of this test's own, the same in whatever order or selection tests run."""
    return int(request.config.option.seed) * 2**32 + zlib.crc32(request.node.nodeid.encode())


@pytest.fixture(autouse=True)
def no_cuda_error_left() -> Iterator[None]:
    """A kernel that fails asynchronously fails the test that launched it, not a later one."""
    yield
    if HAS_TORCH and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
