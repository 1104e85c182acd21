"""The type stub that is checked in describes the module that was built."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import cutplan


def test_stub_is_current(tmp_path: pathlib.Path) -> None:
    root = pathlib.Path(__file__).resolve().parents[2]
    generated = tmp_path / "_core.pyi"
    done = subprocess.run(
        [sys.executable, root / ".ci" / "stubs.py", generated], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    checked_in = root / "python" / "cutplan" / "_core.pyi"
    assert generated.read_text() == checked_in.read_text(), "`make stubs` brings it up to date"
    installed = pathlib.Path(cutplan.__file__).with_name("_core.pyi")
    assert installed.read_text() == checked_in.read_text()
