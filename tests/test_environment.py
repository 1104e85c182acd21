"""What a machine lacks is left out of a test run by name, and nothing else is."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def _pytest_without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run in which `import package` says that there is no such module."""
    code = f"import sys; sys.modules[{package!r}] = None; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_without_torch_the_tests_that_need_none_run() -> None:
    needs = ROOT / "tests" / "gemm" / "test_host.py"
    done = _pytest_without("torch", "tests/gemm/test_select.py", str(needs))
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(re.findall(r"^def test_", needs.read_text(), re.MULTILINE))
    assert f"\ntest functions of files that import torch (not installed): {count}\n" in done.stdout
    assert re.search(r"^[1-9]\d* passed", done.stdout, re.MULTILINE)


def test_a_module_that_is_missing_by_mistake_fails(tmp_path: pathlib.Path) -> None:
    """Also one of a package that is there, and one that a package that is there needs."""
    for name in ("nothing_like_this", "cutplan.nothing", "numpy.nothing"):
        path = tmp_path / f"test_{name.replace('.', '_')}.py"
        path.write_text(f"import {name}\n\n\ndef test_it():\n    pass\n")
        done = _pytest_without("torch", "-p", "tests.conftest", "--rootdir", str(tmp_path), str(path))
        assert done.returncode == 2 and name in done.stdout, done.stdout + done.stderr
