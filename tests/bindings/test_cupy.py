"""CuPy: its current stream, its memory pools, its graphs, and bfloat16 of ml_dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cupy
import ml_dtypes
import numpy as np
import pytest

import cutplan

pytestmark = pytest.mark.cuda


def normal(seed: int, *shape: int, dtype: Any = "float16") -> cupy.ndarray:
    return cupy.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


# Of zeros each gives zeros.
CALLS: dict[str, Callable[..., Any]] = {
    "matmul": lambda x, **options: cutplan.matmul(x[0], x[1], **options),
    "attention": lambda x, **options: cutplan.attention(x[:1], x[:1], x[:1], **options),
    "rope": lambda x, **options: cutplan.rope(x[:1], base=10000.0, **options),
}


def slowly_made(value: cupy.ndarray) -> cupy.ndarray:
    """`value`, after work that takes the current stream a few milliseconds: until then it is zero."""
    x = cupy.zeros_like(value)
    busy = cupy.zeros((4096, 4096), "float32")
    for _ in range(100):
        busy += 1
    x += value
    return x


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("owned", ["entered", "default"])
def test_runs_on_the_current_stream(name: str, owned: str, seed: int) -> None:
    x = normal(seed, 2, 4, 64, 64)
    expected = CALLS[name](x)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True) if owned == "entered" else cupy.cuda.Stream.null
    with stream:
        got = CALLS[name](slowly_made(x))
        assert isinstance(got, cupy.ndarray)
        copy = got + 0
    stream.synchronize()
    assert (copy == expected).all()


@pytest.mark.parametrize("name", CALLS)
def test_runs_on_the_stream_that_is_given(name: str, seed: int) -> None:
    x = normal(seed, 2, 4, 64, 64)
    expected = CALLS[name](x)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        late = slowly_made(x)
    got = CALLS[name](late, stream=stream)
    stream.synchronize()
    assert (got == expected).all()


@pytest.mark.parametrize("name", CALLS)
def test_results_and_scratch_come_from_the_current_allocator(name: str, seed: int) -> None:
    x = normal(seed, 2, 4, 64, 64)
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        got = CALLS[name](x)
        assert got.data.mem.device == x.device
        assert pool.used_bytes() == -(-got.nbytes // 512) * 512  # blocks are of 512 bytes; scratch is back
        del got
    cupy.cuda.Device().synchronize()
    assert pool.used_bytes() == 0
    assert pool.total_bytes() > 0


@pytest.mark.parametrize("name", CALLS)
def test_a_graph_replays_on_new_contents(name: str, seed: int) -> None:
    x, fresh = normal(seed, 2, 4, 64, 64), normal(seed + 1, 2, 4, 64, 64)
    out = CALLS[name](x)
    expected = CALLS[name](fresh)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        CALLS[name](x, out=out)
        graph = stream.end_capture()
        out.fill(cupy.nan)
        x[...] = fresh
        graph.launch(stream)
    stream.synchronize()
    assert (out == expected).all()


def test_bfloat16_of_ml_dtypes(seed: int) -> None:
    bfloat16 = np.dtype(ml_dtypes.bfloat16)
    a, b = normal(seed, 64, 48, dtype=bfloat16), normal(seed + 1, 48, 32, dtype=bfloat16)
    got = cutplan.matmul(a, b, out_dtype="float32")
    exact = a.get().astype("float64") @ b.get().astype("float64")
    assert np.abs(got.get() - exact).max() < 1e-4
    rounded = cutplan.matmul(a, b)
    assert rounded.dtype == bfloat16
    assert (rounded.get() == got.get().astype(bfloat16)).all()
    assert cutplan.matmul(a, b, out_dtype=bfloat16).dtype == bfloat16


def test_views_are_read_in_place(seed: int) -> None:
    whole = normal(seed, 3, 130, 80)
    a, b = whole[::2, 1:129, 8:72], whole[1, :64, :48]
    got = cutplan.matmul(a, b, out_dtype="float32")
    exact = a.astype("float64") @ b.astype("float64")
    assert float(abs(got - exact).max()) < 1e-3
    assert cutplan.matmul(a[0].T, a[0]).shape == (64, 64)
