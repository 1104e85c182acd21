"""Arrays for the tests of cutplan.jax, and what they are compared with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave GPU memory to the other libraries

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.environment import has_cuda, note_not_run

FLOATS = ("float16", "bfloat16", "float32", "float64")


def _devices() -> list[Any]:
    try:
        jax.devices("cuda")
    except RuntimeError:
        if has_cuda():
            note_not_run("tests of cutplan.jax on a GPU (JAX has none)")
        return ["cpu"]
    return ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


DEVICES = _devices()


@contextmanager
def types(*names: str) -> Iterator[None]:
    """In which JAX has arrays of these types, on the host unless a test places them elsewhere."""
    with jax.enable_x64("float64" in names or "int64" in names), jax.default_device(jax.devices("cpu")[0]):
        yield


class Source:
    """Random arrays. Magnitudes vary by row, so that an error in a small one shows."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def __call__(self, *shape: int, dtype: str = "float32") -> Any:
        return jnp.asarray(self.random.standard_normal(shape), dtype)

    def integers(self, *shape: int, dtype: str = "float32", most: int = 3) -> Any:
        """Of products whose sums every type holds."""
        return jnp.asarray(self.random.integers(-most, most + 1, shape), dtype)

    def bools(self, *shape: int) -> Any:
        return jnp.asarray(self.random.random(shape) < 0.7)


def numpy(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, jax.Array) else x


def same(ours: Any, right: Any) -> bool:
    """To the bit."""
    ours, right = np.asarray(ours), np.asarray(right)
    return ours.dtype == right.dtype and ours.shape == right.shape and ours.tobytes() == right.tobytes()


def error(ours: Any, right: Any) -> float:
    """Relative to the largest. Infinities have to be the same."""
    x, y = np.asarray(ours, np.float64), np.asarray(right, np.float64)
    assert x.shape == y.shape
    finite = np.isfinite(y)
    assert (x[~finite] == y[~finite]).all()
    x, y = x[finite], y[finite]
    return float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-300)) if x.size else 0.0


def close(ours: Iterable[Any], right: Iterable[Any], bound: float) -> None:
    for i, (x, y) in enumerate(zip(ours, right, strict=True)):
        assert x.dtype == y.dtype and error(x, y) <= bound, (i, x.dtype, y.dtype, error(x, y))


def one_by_one(function: Callable[..., Any], axes: tuple[int | None, ...], *arrays: Any) -> Any:
    """What vmap makes, by a loop."""
    (size,) = {x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None}
    results = [
        function(*(x if axis is None else jnp.take(x, i, axis) for x, axis in zip(arrays, axes, strict=True)))
        for i in range(size)
    ]
    return jax.tree.map(lambda *each: jnp.stack(each), *results)


def calls(function: Callable[..., Any], *arrays: Any) -> list[str]:
    """The text of each call of a target in the program that XLA makes."""
    text = jax.jit(function).lower(*arrays).compile().as_text()
    return [line for line in text.splitlines() if 'custom_call_target="cutplan' in line]


def copies(function: Callable[..., Any], *arrays: Any) -> int:
    """Transposes and copies in the program that XLA makes."""
    text = jax.jit(function).lower(*arrays).compile().as_text()
    return text.count(" transpose(") + text.count(" copy(") + text.count(" fusion(")
