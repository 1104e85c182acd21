"""These tests are of a package that not every JAX serves."""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterator

import pytest

from tests.environment import note_not_run, why_no_cutplan_jax

collect_ignore_glob: list[str] = []
if importlib.util.find_spec("jax") is not None and (why := why_no_cutplan_jax()) is not None:
    collect_ignore_glob.append("test_*.py")
    note_not_run(
        f"files of tests of cutplan.jax ({why})", len(list(pathlib.Path(__file__).parent.glob("test_*.py")))
    )


@pytest.fixture(autouse=True)
def on_the_host() -> Iterator[None]:
    """Where cutplan's own functions compute what programs are compared with."""
    import jax

    with jax.default_device(jax.devices("cpu")[0]):
        yield
