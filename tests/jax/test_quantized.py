"""Products of int8 and float8 in JAX programs: those of cutplan.matmul(), bit by bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cutplan
import cutplan.jax as cj


def _narrow(x: Any, dtype: str, granularity: str, **options: Any) -> Any:
    size = {"group_size": 128} if granularity == "group" else {}
    return cutplan.quantize(x, dtype, granularity=granularity, **size, **options)


def _operands(dtype: str, of_x: str, of_w: str, seed: int, **options: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x, w = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((5, 300), (7, 300)))
    return _narrow(x, dtype, of_x, **options), _narrow(w, dtype, of_w, **options)


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("of_x, of_w", [("row", "row"), ("tensor", "tensor"), ("group", "block")])
def test_products(dtype: str, of_x: str, of_w: str, seed: int) -> None:
    """Of weights [n, k], turned by the kernel or before it; under jit and not."""
    q, p = _operands(dtype, of_x, of_w, seed)
    bias = jnp.arange(7, dtype=jnp.float32)
    for out_dtype in (None, "float32"):
        expected = cutplan.matmul(q, p.T, bias=bias, out_dtype=out_dtype)

        def f(*leaves: Any, out_dtype: Any = out_dtype) -> Any:
            x, w = (
                y._replace(data=d, scale=s) for y, d, s in zip((q, p), leaves[::2], leaves[1::2], strict=True)
            )
            return (
                cj.matmul(x, w.T, bias=bias, out_dtype=out_dtype),
                cj.matmul(x, w, bias=bias, out_dtype=out_dtype, transpose_b=True),
            )

        leaves = (q.data, q.scale, p.data, p.scale)
        for y in (*f(*leaves), *jax.jit(f)(*leaves)):
            assert y.dtype == expected.dtype and (np.asarray(y) == np.asarray(expected)).all()


def test_sums_zeros_and_results_of_codes(seed: int) -> None:
    q, p = _operands("int8", "row", "row", seed, symmetric=False)
    sums = cj.matmul(q.data, p.data, transpose_b=True)
    assert sums.dtype == jnp.int32
    assert (np.asarray(sums) == np.asarray(q.data, np.int64) @ np.asarray(p.data, np.int64).T).all()
    scales = {"a_scale": q.scale, "b_scale": p.scale, "a_zero": q.zero, "b_zero": p.zero}
    for options in (
        {**scales, "out_dtype": "float32"},
        {**scales, "out_dtype": "int8", "out_scale": jnp.full(1, 0.5, jnp.float32)},
        {"activation": "relu"},
    ):
        got, expected = (f(q.data, p.data.T, **options) for f in (cj.matmul, cutplan.matmul))
        assert got.dtype == expected.dtype and (np.asarray(got) == np.asarray(expected)).all()


def test_vmap(seed: int) -> None:
    """Codes and scales of each; scales of all."""
    q, p = _operands("int8", "row", "row", seed)
    rows, scales = jnp.stack([q.data, -q.data]), jnp.stack([q.scale, 2 * q.scale])

    def f(data: Any, scale: Any) -> Any:
        return cj.matmul(data, p.data, a_scale=scale, b_scale=p.scale, transpose_b=True, out_dtype="float32")

    y = f(q.data, q.scale)
    assert (np.asarray(jax.vmap(f)(rows, scales)) == np.asarray(jnp.stack([y, -2 * y]))).all()
    assert (np.asarray(jax.vmap(f, (0, None))(rows, q.scale)) == np.asarray(jnp.stack([y, -y]))).all()


def test_refusals(seed: int) -> None:
    q, p = _operands("float8_e4m3fn", "row", "row", seed)
    with pytest.raises(cutplan.Unsupported, match="operand a_scale: a and b of two dimensions required"):
        cj.matmul(q.data[None], p.data, a_scale=q.scale, transpose_b=True)
    with pytest.raises(cutplan.InvalidProblem, match="operand a_scale: none required beside a Quantized a"):
        cj.matmul(q, p, a_scale=q.scale, transpose_b=True)
    with pytest.raises(cutplan.Unsupported, match="operand b: .*q.T"):
        cj.matmul(q, p)
    with pytest.raises(cutplan.Unsupported, match="scale.*goes with int8 and float8 operands, got float32"):
        cj.matmul(jnp.ones((2, 3)), jnp.ones((3, 2)), a_scale=jnp.ones(1))
    with pytest.raises(
        cutplan.Unsupported, match="operand a: floats required for gradients, got float8_e4m3fn"
    ):
        jax.grad(lambda scale: cj.matmul(q.data, p, a_scale=scale, transpose_b=True).sum().astype("float32"))(
            q.scale
        )
