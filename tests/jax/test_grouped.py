"""cutplan.jax.grouped_matmul: its bits, and gradients against those of products one by one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cutplan
import cutplan.jax
from tests.jax.problems import (
    DEVICES,
    FLOATS,
    Source,
    calls,
    close,
    copies,
    numpy,
    one_by_one,
    same,
    types,
)

OFFSETS = (1, 4, 4, 9)


def offsets() -> Any:
    return jnp.array(OFFSETS, jnp.int32)


def of_rows(function: Any, x: Any, columns: int) -> Any:
    """function(group, rows) in its rows; zeros in the others."""
    parts = [jnp.zeros((OFFSETS[0], columns), x.dtype)]
    parts += [function(g, x[OFFSETS[g] : OFFSETS[g + 1]]) for g in range(3)]
    return jnp.concatenate([*parts, jnp.zeros((x.shape[0] - OFFSETS[-1], columns), x.dtype)])


@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_under_jit(dtype: str, seed: int) -> None:
    with types(dtype):
        source = Source(seed)
        x, w, dy = source(10, 8, dtype=dtype), source(3, 8, 12, dtype=dtype), source(10, 12, dtype=dtype)
        bias = source(3, 12, dtype=dtype)
        inside = slice(OFFSETS[0], OFFSETS[-1])
        given: list[dict[str, Any]] = [
            {},
            {"bias": bias, "activation": "gelu_erf", "alpha": 0.5},
            {"b2": w * 2},
        ]
        if dtype != "float64":
            given.append({"row_scale": source(10), "column_scale": source(3, 12), "out_dtype": "float32"})
        for options in given:
            ours = jax.jit(lambda x, w, o, options=options: cutplan.jax.grouped_matmul(x, w, o, **options))
            right = cutplan.grouped_matmul(
                numpy(x), numpy(w), numpy(offsets()), **{name: numpy(y) for name, y in options.items()}
            )
            y = np.asarray(ours(x, w, offsets()))
            assert same(y[inside], right[inside])
            assert not y[: OFFSETS[0]].any() and not y[OFFSETS[-1] :].any()
        transposed = jax.jit(lambda x, w, o: cutplan.jax.grouped_matmul(x, w, o, transpose_b=True))
        right = cutplan.grouped_matmul(numpy(dy), np.swapaxes(numpy(w), 1, 2), numpy(offsets()))
        assert same(transposed(dy, w, offsets())[inside], right[inside])
        over_k = jax.jit(lambda x, dy, o: cutplan.jax.grouped_matmul(x.T, dy, o))
        right = cutplan.grouped_matmul(numpy(x).T, numpy(dy), numpy(offsets()))
        assert same(over_k(x, dy, offsets()), right)
        assert copies(over_k, x, dy, offsets()) == 0
        assert same(cutplan.jax.grouped_matmul(x, dy, offsets(), transpose_a=True), right)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("gate", [None, "separate", "interleaved"])
def test_gradients_over_rows(gate: str | None, transposed: bool, seed: int) -> None:
    with types("float64"):
        source = Source(seed)
        x, weights = source(10, 8, dtype="float64"), source(10, 12, dtype="float64")
        w, w2 = source(2, 3, 8, 12, dtype="float64")
        bias, bias2 = source(2, 3, 12, dtype="float64")
        turn = (lambda x: jnp.swapaxes(x, 1, 2)) if transposed else (lambda x: x)

        def ours(x: Any, w: Any, bias: Any, w2: Any, bias2: Any) -> Any:
            rest: dict[str, Any] = {"bias": bias, "activation": "silu", "transpose_b": transposed}
            if gate == "separate":
                rest |= {"b2": turn(w2), "bias2": bias2}
            if gate == "interleaved":
                w = jnp.stack([w, w2], 3).reshape(3, 8, 24)
                rest |= {"gate": gate, "bias": jnp.stack([bias, bias2], 2).reshape(3, 24)}
            return cutplan.jax.grouped_matmul(x, turn(w), offsets(), **rest)

        def right(x: Any, w: Any, bias: Any, w2: Any, bias2: Any) -> Any:
            def one(g: int, rows: Any) -> Any:
                y = jax.nn.silu(rows @ w[g] + bias[g])
                return y if gate is None else y * (rows @ w2[g] + bias2[g])

            return of_rows(one, x, 12)

        operands = (x, w, bias, w2, bias2)
        grads = [
            jax.jit(jax.grad(lambda *x, f=f: (f(*x) * weights).sum(), range(5)))(*operands)
            for f in (ours, right)
        ]
        close([ours(*operands)], [right(*operands)], 1e-13)
        close(*grads, 1e-13)


@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_products_alone(transposed: bool, seed: int) -> None:
    """And theirs in turn."""
    with types("float64"):
        source = Source(seed)
        x, dy, w = (
            source(10, 8, dtype="float64"),
            source(10, 12, dtype="float64"),
            source(3, 8, 12, dtype="float64"),
        )
        turned = jnp.swapaxes(w, 1, 2) if transposed else w

        def right(x: Any, w: Any) -> Any:
            return of_rows(lambda g, rows: 0.5 * rows @ (w[g].T if transposed else w[g]), x, 12)

        def ours(x: Any, w: Any) -> Any:
            return cutplan.jax.grouped_matmul(x, w, offsets(), alpha=0.5, transpose_b=transposed)

        def over_k(x: Any, dy: Any) -> Any:
            return cutplan.jax.grouped_matmul(x.T, dy, offsets(), alpha=0.5)

        def right_over_k(x: Any, dy: Any) -> Any:
            return jnp.stack(
                [0.5 * x[OFFSETS[g] : OFFSETS[g + 1]].T @ dy[OFFSETS[g] : OFFSETS[g + 1]] for g in range(3)]
            )

        for f, f_right, operands in ((ours, right, (x, turned)), (over_k, right_over_k, (x, dy))):
            first = [jax.grad(lambda *x, f=f: (f(*x) ** 2).sum(), (0, 1)) for f in (f, f_right)]
            close(*(g(*operands) for g in first), 1e-13)
            second = [jax.grad(lambda *x, g=g: sum((y**2).sum() for y in g(*x)), (0, 1)) for g in first]
            close(*(g(*operands) for g in second), 1e-12)


def test_vmap(seed: int) -> None:
    source = Source(seed)
    x, w = source(5, 10, 8), source(3, 8, 12)
    function = jax.vmap(cutplan.jax.grouped_matmul, (0, None, None))
    assert same(
        function(x, w, offsets()), one_by_one(cutplan.jax.grouped_matmul, (0, None, None), x, w, offsets())
    )
    (text,) = calls(function, x, w, offsets())
    assert "loops=1" in text

    def loss(x: Any, w: Any) -> Any:
        return (cutplan.jax.grouped_matmul(x, w, offsets()) ** 2).sum()

    each = jax.grad(loss, (0, 1))
    close(jax.vmap(each, (0, None))(x, w), one_by_one(each, (0, None), x, w), 1e-6)


def test_empty_extents(seed: int) -> None:
    source, none = Source(seed), jnp.zeros(4, jnp.int32)
    x, w = source(0, 8), source(3, 8, 12)

    def loss(x: Any, w: Any) -> Any:
        return cutplan.jax.grouped_matmul(x, w, none, activation="silu").sum()

    dx, dw = jax.grad(loss, (0, 1))(x, w)
    assert dx.shape == x.shape and dw.shape == w.shape and not np.asarray(dw).any()
    assert not np.asarray(cutplan.jax.grouped_matmul(x.T, source(0, 12), none)).any()
    assert not np.asarray(cutplan.jax.grouped_matmul(source(10, 8), w, none)).any()  # rows of no group


@pytest.mark.parametrize("device", DEVICES)
def test_integers_are_exact(device: str, seed: int) -> None:
    with types():
        source, place = Source(seed), jax.devices(device)[0]
        x, w = source.integers(10, 64, dtype="bfloat16"), source.integers(3, 72, 64, dtype="bfloat16")

        def loss(x: Any, w: Any) -> Any:
            return cutplan.jax.grouped_matmul(x, w, offsets(), transpose_b=True).sum(dtype="float32")

        def right(x: Any, w: Any) -> Any:
            return of_rows(lambda g, rows: rows @ w[g].T, x, 72).sum()

        ours = jax.jit(jax.grad(loss, (0, 1)))(*(jax.device_put(y, place) for y in (x, w)))
        wide = jax.grad(right, (0, 1))(x.astype("float32"), w.astype("float32"))
        assert ours[0].devices() == {place}
        assert all(same(y, z.astype("bfloat16")) for y, z in zip(ours, wide, strict=True))


def test_refusals(seed: int) -> None:
    source = Source(seed)
    x, w = source(10, 8), source(3, 8, 12)

    def refused(error: type[Exception], words: str, *arrays: Any, **options: Any) -> None:
        with pytest.raises(error, match=words):
            jax.eval_shape(lambda *x: cutplan.jax.grouped_matmul(*x, **options), *arrays)

    refused(cutplan.ShapeMismatch, "operand b: 12 rows required .*pass b.mT", source(10, 12), w, offsets())
    refused(cutplan.ShapeMismatch, "operand offsets: shape.*groups [+] 1", x, w, offsets()[1:])
    refused(cutplan.DTypeMismatch, "operand offsets", x, w, offsets().astype("float32"))
    refused(
        cutplan.Unsupported, "none goes with groups over k", x.T, source(10, 12), offsets(), activation="relu"
    )
    with pytest.raises(
        jax.errors.JaxRuntimeError, match="operand offsets: entry 2: a value from 4, .* got 3"
    ):
        jax.jit(cutplan.jax.grouped_matmul)(x, w, jnp.array([0, 4, 3, 9], jnp.int32))
