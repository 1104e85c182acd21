"""cutplan.jax.matmul: the bits of cutplan.matmul, and its gradients against JAX's own in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import cutplan
import cutplan.jax
from tests.jax.problems import (
    DEVICES,
    FLOATS,
    Source,
    calls,
    close,
    copies,
    error,
    numpy,
    one_by_one,
    same,
    types,
)

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def options(source: Source, dtype: str) -> dict[str, dict[str, Any]]:
    m, n = 13, 24
    some: dict[str, dict[str, Any]] = {
        "plain": {},
        "bias": {"bias": source(n, dtype=dtype)},
        "bias over m": {"bias": source(m, 1, dtype=dtype)},
        "c": {"c": source(m, n, dtype=dtype), "alpha": -0.5, "beta": 2.0},
        "c, one row": {"c": source(1, n, dtype=dtype)},
        "residual, one column": {"residual": source(m, 1, dtype=dtype), "activation": "relu"},
        "all": {
            "bias": source(n, dtype=dtype),
            "activation": "gelu_tanh",
            "residual": source(m, n, dtype=dtype),
            "c": source(n, dtype=dtype),
        },
        "deterministic": {"deterministic": True},
        "preference": {"preference": cutplan.PlanPreference(batch_invariant=True, max_workspace_bytes=0)},
    }
    if dtype != "float64":
        some["scales"] = {"row_scale": source(m), "column_scale": source(n), "out_dtype": "float32"}
        some["strict"] = {"math": "strict"}
    return some


@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_under_jit(dtype: str, seed: int) -> None:
    with types(dtype):
        source = Source(seed)
        a, b = source(13, 40, dtype=dtype), source(40, 24, dtype=dtype)
        for name, given in options(source, dtype).items():
            arrays = {key: x for key, x in given.items() if isinstance(x, jax.Array)}
            rest = {key: x for key, x in given.items() if key not in arrays}
            ours = jax.jit(lambda a, b, arrays, rest=rest: cutplan.jax.matmul(a, b, **arrays, **rest))
            right = cutplan.matmul(numpy(a), numpy(b), **{key: numpy(x) for key, x in given.items()})
            assert same(ours(a, b, arrays), right), name
            assert same(cutplan.jax.matmul(a, b, **given), right), name


@pytest.mark.parametrize(
    "a, b",
    [
        ((5, 7, 8), (8, 6)),
        ((7, 8), (5, 8, 6)),
        ((5, 7, 8), (5, 8, 6)),
        ((2, 1, 7, 8), (3, 8, 6)),
        ((2, 3, 7, 8), (2, 1, 8, 6)),
        ((8,), (8, 6)),
        ((7, 8), (8,)),
        ((8,), (8,)),
        ((3, 7, 8), (8,)),
        ((8,), (3, 8, 6)),
        ((0, 8), (8, 6)),
        ((7, 0), (0, 6)),
        ((0, 7, 8), (8, 6)),
        ((7, 8), (8, 0)),
    ],
)
def test_shapes(a: tuple[int, ...], b: tuple[int, ...], seed: int) -> None:
    source = Source(seed)
    x, y = source(*a), source(*b)
    assert same(jax.jit(cutplan.jax.matmul)(x, y), cutplan.matmul(numpy(x), numpy(y)))
    of_ours, of_right = (
        jax.grad(lambda x, y, f=f: (f(x, y) * jnp.cos(f(x, y))).sum(), (0, 1))(x, y)
        for f in (cutplan.jax.matmul, lambda x, y: jnp.matmul(x, y, precision="highest"))
    )
    close(of_ours, of_right, 2e-5)


def test_transposes_are_read_as_they_lie(seed: int) -> None:
    source = Source(seed)
    a, b, b2 = source(40, 16), source(24, 40), source(24, 40)

    def product(a: Any, b: Any) -> Any:
        return cutplan.jax.matmul(a, b, transpose_a=True, transpose_b=True)

    assert same(jax.jit(product)(a, b), cutplan.matmul(numpy(a).T, numpy(b).T))
    assert copies(product, a, b) == 0
    # Nor are they copied for gradients: a loss that is the product itself leaves nothing but products.
    grad = jnp.ones((16, 24))
    assert copies(lambda a, b, g: jax.vjp(product, a, b)[1](g), a, b, grad) == 0
    gated = cutplan.jax.matmul(a.T, b, b2=b2, activation="silu", transpose_b=True)
    assert same(gated, cutplan.matmul(numpy(a.T), numpy(b).T, b2=numpy(b2).T, activation="silu"))
    mixed = jnp.stack([b, b2], 1).reshape(48, 40)
    assert same(
        cutplan.jax.matmul(a.T, mixed, gate="interleaved", transpose_b=True),
        cutplan.matmul(numpy(a.T), numpy(mixed).T, gate="interleaved"),
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_every_operand(activation: str, seed: int) -> None:
    with types("float64"):
        source = Source(seed)
        shapes = {"a": (2, 7, 8), "b": (8, 6), "bias": (6,), "c": (7, 1), "residual": (2, 7, 6)}
        arrays = {name: source(*shape, dtype="float64") for name, shape in shapes.items()}

        def ours(a: Any, b: Any, **rest: Any) -> Any:
            return cutplan.jax.matmul(a, b, activation=activation, alpha=0.5, beta=-2.0, **rest)

        def right(a: Any, b: Any, bias: Any, c: Any, residual: Any) -> Any:
            return ACTIVATIONS[activation](0.5 * (a @ b) - 2.0 * c + bias) + residual

        weights = source(2, 7, 6, dtype="float64")
        grads = [jax.jit(jax.grad(lambda x, f=f: (f(**x) * weights).sum()))(arrays) for f in (ours, right)]
        close([grads[0][name] for name in shapes], [grads[1][name] for name in shapes], 1e-13)
        bias = source(7, 1, dtype="float64")
        of_bias = jax.grad(
            lambda bias: (cutplan.jax.matmul(arrays["a"], arrays["b"], bias=bias) * weights).sum()
        )
        close([of_bias(bias)], [weights.sum((0, 2))[:, None]], 1e-13)


def test_check_grads(seed: int) -> None:
    with types("float64"):
        source = Source(seed)
        a, b = source(3, 5, 4, dtype="float64"), source(4, 6, dtype="float64")
        check_grads(cutplan.jax.matmul, (a, b), order=2, modes=["rev"])


@pytest.mark.parametrize("gate", ["separate", "interleaved"])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_a_gate(gate: str, transposed: bool, seed: int) -> None:
    with types("float64"):
        source = Source(seed)
        a, residual, weights = source(7, 8, dtype="float64"), *source(2, 7, 6, dtype="float64")
        b, b2 = source(2, 8, 6, dtype="float64")
        bias, bias2 = source(2, 6, dtype="float64")
        turn = (lambda x: x.T) if transposed else (lambda x: x)

        def ours(a: Any, b: Any, b2: Any, bias: Any, bias2: Any, residual: Any) -> Any:
            rest = {"activation": "silu", "residual": residual, "transpose_b": transposed}
            if gate == "separate":
                return cutplan.jax.matmul(a, turn(b), b2=turn(b2), bias=bias, bias2=bias2, **rest)
            mixed, biases = jnp.stack([b, b2], 2).reshape(8, 12), jnp.stack([bias, bias2], 1).reshape(12)
            return cutplan.jax.matmul(a, turn(mixed), gate="interleaved", bias=biases, **rest)

        def right(a: Any, b: Any, b2: Any, bias: Any, bias2: Any, residual: Any) -> Any:
            return jax.nn.silu(a @ b + bias) * (a @ b2 + bias2) + residual

        operands = (a, b, b2, bias, bias2, residual)
        assert error(ours(*operands), right(*operands)) < 1e-13
        close(
            *(jax.grad(lambda *x, f=f: (f(*x) * weights).sum(), range(6))(*operands) for f in (ours, right)),
            1e-13,
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_gradients_in_16_bits_are_those_of_matmul_backward(dtype: str, seed: int) -> None:
    source = Source(seed)
    a, b, g = source(33, 40, dtype=dtype), source(40, 24, dtype=dtype), source(33, 24, dtype=dtype)
    _, pull = jax.vjp(lambda a, b: cutplan.jax.matmul(a, b, activation="silu"), a, b)
    aux = np.empty((33, 24), numpy(a).dtype)
    cutplan.matmul(numpy(a), numpy(b), activation="silu", aux=aux)
    right = cutplan.matmul_backward(numpy(g), numpy(a), numpy(b), activation="silu", aux=aux)
    assert all(same(x, y) for x, y in zip(pull(g), right[:2], strict=True))


@pytest.mark.parametrize("activation", ["none", "silu"])
@pytest.mark.parametrize("gated", [False, True])
def test_gradients_of_scales(gated: bool, activation: str, seed: int) -> None:
    source = Source(seed)
    a, b, b2, bias = source(2, 7, 8), source(8, 6), source(8, 6), source(6)
    rows, columns, weight = source(7), source(6), source(2, 7, 6)
    act = (lambda x: x) if activation == "none" else jax.nn.silu

    def ours(a: Any, b: Any, rows: Any, columns: Any) -> Any:
        more = {"b2": b2, "bias2": bias} if gated else {"column_scale": columns, "alpha": 0.5}
        y = cutplan.jax.matmul(a, b, bias=bias, row_scale=rows, activation=activation, math="strict", **more)
        return (y * weight).sum()

    def theirs(a: Any, b: Any, rows: Any, columns: Any) -> Any:
        def product(b: Any) -> Any:
            return jnp.matmul(a, b, precision="highest") * rows[:, None]

        if gated:
            return (act(product(b) + bias) * (product(b2) + bias) * weight).sum()
        return (act(0.5 * product(b) * columns + bias) * weight).sum()

    wanted = (0, 1, 2) if gated else (0, 1, 2, 3)
    got = jax.jit(jax.grad(ours, wanted))(a, b, rows, columns)
    close(got, jax.grad(theirs, wanted)(a, b, rows, columns), 1e-5)
    close([jax.grad(ours, 2)(a, b, rows, columns)], [got[2]], 1e-6)


@pytest.mark.parametrize(
    "axes",
    [
        {"a": 0},
        {"a": 1},
        {"b": 0},
        {"b": 2},
        {"a": 0, "b": 0},
        {"a": 2, "b": 1},
        {"bias": 0},
        {"a": 0, "bias": 1},
        {"c": 0},
        {"a": 0, "c": 1, "bias": 0},
        {"residual": 0},
        {"row_scale": 0, "a": 0},
        {"column_scale": 0},
    ],
    ids=str,
)
def test_vmap(axes: dict[str, int], seed: int) -> None:
    source = Source(seed)
    shapes = {"a": (7, 8), "b": (8, 6), "bias": (6,), "c": (7, 6), "residual": (7, 6), "row_scale": (7,),
              "column_scale": (6,)}  # fmt: skip
    arrays, order = [], []
    for name, shape in shapes.items():
        own = list(shape)
        if name in axes:
            own.insert(axes[name], 5)
        arrays.append(source(*own))
        order.append(axes.get(name))

    def product(a: Any, b: Any, bias: Any, c: Any, residual: Any, row_scale: Any, column_scale: Any) -> Any:
        return cutplan.jax.matmul(
            a, b, bias=bias, c=c, residual=residual, row_scale=row_scale, column_scale=column_scale, beta=0.5
        )

    ours = jax.jit(jax.vmap(product, tuple(order)))
    right = one_by_one(product, tuple(order), *arrays)
    close([ours(*arrays)], [right], 1e-6)
    assert len(calls(ours, *arrays)) == 1

    def loss(a: Any, b: Any, bias: Any, *rest: Any) -> Any:
        return (product(a, b, bias, *rest) ** 2).sum()

    each = jax.grad(loss, (0, 1, 2, 3, 4))
    close(jax.vmap(each, tuple(order))(*arrays), one_by_one(each, tuple(order), *arrays), 1e-5)
    mean = jax.grad(lambda *x: jax.vmap(loss, tuple(order))(*x).sum(), (0, 1))
    close(mean(*arrays), jax.grad(lambda *x: one_by_one(loss, tuple(order), *x).sum(), (0, 1))(*arrays), 1e-5)


def test_vmap_of_a_bias_beside_a_c_that_is_not_read(seed: int) -> None:
    source = Source(seed)
    a, b, bias, c = source(7, 8), source(8, 6), source(5, 6), jnp.full((7, 6), jnp.nan)
    ours = jax.vmap(lambda bias: cutplan.jax.matmul(a, b, bias=bias, c=c, beta=0.0))(bias)
    close([ours], [jnp.matmul(a, b, precision="highest") + bias[:, None]], 1e-6)


def test_vmap_is_the_kernels_batch(seed: int) -> None:
    source = Source(seed)
    a, b = source(5, 7, 8), source(5, 8, 6)
    (text,) = calls(jax.vmap(cutplan.jax.matmul), a, b)
    assert "a=float32:5,7,8:56,8,1" in text and "loops" not in text
    (text,) = calls(jax.vmap(cutplan.jax.matmul, (0, None)), a, b[0])
    assert "a=float32:35,8:8,1" in text  # one longer matrix
    (text,) = calls(jax.vmap(cutplan.jax.matmul, (1, None)), jnp.swapaxes(a, 0, 1), b[0])
    assert "a=float32:5,7,8:8,40,1" in text  # read where it lies
    (text,) = calls(jax.vmap(jax.vmap(cutplan.jax.matmul, (0, None)), (None, 0)), a, b)
    assert text.count("custom-call") == 1 and "d=float32:5,5,7,6" in text.replace("35,6:", "5,7,6:")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_integers_are_exact(device: str, dtype: str, seed: int) -> None:
    """Values and gradients, on every device."""
    with types(dtype):
        source, place = Source(seed), jax.devices(device)[0]
        a, b = source.integers(3, 40, 64, dtype=dtype), source.integers(64, 72, dtype=dtype)
        bias = source.integers(72, dtype=dtype)
        at = [jax.device_put(x, place) for x in (a, b, bias)]

        def loss(f: Any) -> Any:
            def of(a: Any, b: Any, bias: Any) -> Any:
                y = f(a, b, bias)
                return jax.nn.relu(y).sum(dtype="float32"), y

            return of

        ours = jax.jit(
            jax.value_and_grad(
                loss(lambda a, b, bias: cutplan.jax.matmul(a, b, bias=bias, activation="relu")),
                (0, 1),
                has_aux=True,
            )
        )
        wide = [x.astype("float64" if dtype == "float64" else "float32") for x in (a, b, bias)]
        (_, y), grads = ours(*at)
        (_, right), right_grads = jax.value_and_grad(
            loss(lambda a, b, bias: jax.nn.relu(jnp.matmul(a, b, precision="highest") + bias)),
            (0, 1),
            has_aux=True,
        )(*wide)
        assert y.devices() == {place}
        assert same(y, right.astype(dtype))
        assert all(same(x, z.astype(dtype)) for x, z in zip(grads, right_grads, strict=True))


def test_refusals_come_when_traced_in_cutplans_words(seed: int) -> None:
    source = Source(seed)
    a, b = source(7, 8), source(8, 6)

    def refused(error: type[Exception], words: str, *arrays: Any, **options: Any) -> None:
        with pytest.raises(error, match=words):
            jax.eval_shape(lambda *x: cutplan.jax.matmul(*x, **options), *arrays)

    refused(cutplan.ShapeMismatch, "operand b: 8 rows required to match the last dimension of a", a, b[1:])
    refused(cutplan.Unsupported, "operands a and b: one element type required, got float32 and float16",
            a, b.astype("float16"))  # fmt: skip
    refused(cutplan.Unsupported, "operands a and b: one of float16.* required on this device, got int32",
            a.astype("int32"), b.astype("int32"))  # fmt: skip
    refused(cutplan.ShapeMismatch, r"operand bias: shape \[6\] required", a, b, bias=source(5))
    refused(
        cutplan.ShapeMismatch, r"operand c: a shape that broadcasts to \[7, 6\] required", a, b, c=source(5)
    )
    refused(cutplan.DTypeMismatch, "operand row_scale", a, b, row_scale=source(7, dtype="float16"))
    refused(cutplan.Unsupported, "gate: 'separate' goes with.*, got c", a, b, b2=b, c=source(7, 6))
    refused(cutplan.InvalidProblem, "beta: must be 0 without operand c", a, b, beta=1.0)
    refused(cutplan.InvalidProblem, "alpha: a finite number", a, b, alpha=float("nan"))
    refused(cutplan.InvalidProblem, "math: not beside preference", a, b, math="tf32",
            preference=cutplan.PlanPreference())  # fmt: skip
    refused(cutplan.Unsupported, "kernel", a, b, preference=cutplan.PlanPreference(kernel="no_such_kernel"))
    refused(ValueError, "activation: must be one of", a, b, activation="gelu")
