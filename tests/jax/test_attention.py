"""cutplan.jax.attention: the bits of both passes; and what jax.nn's function computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import cutplan
import cutplan.jax
from tests.jax.problems import DEVICES, FLOATS, Source, calls, close, error, numpy, one_by_one, same, types


def _dense(s: Source, dtype: str) -> dict[str, dict[str, Any]]:
    several = {
        "plain": {},
        "causal": {"causal": "bottom_right"},
        "window": {"window": (5, 2), "align": "top_left", "scale": 0.3},
        "softcap": {"softcap": 4.0},
        "alibi": {"alibi_slopes": s(4), "causal": "top_left"},
        "alibi by batch": {"alibi_slopes": s(2, 4)},
        "bias": {"bias": s(1, 4, 17, 19, dtype=dtype)},
        "bias of fewer dimensions": {"bias": s(17, 19, dtype=dtype)},
        "mask": {"mask": s.bools(2, 1, 17, 19)},
        "sink": {"sink": s(4)},
        "seqused_k": {"seqused_k": jnp.array([3, 19], jnp.int32)},
        "dropout": {"dropout_p": 0.3, "rng_state": jnp.array([[7, 0], [2, 0]], jnp.uint32)},
        "all": {
            "causal": "bottom_right", "window": (9, -1), "softcap": 5.0, "alibi_slopes": s(4),
            "bias": s(2, 1, 1, 19, dtype=dtype), "mask": s.bools(17, 19), "sink": s(4),
            "seqused_k": jnp.array([19, 11], jnp.int32), "dropout_p": 0.1,
            "rng_state": jnp.array([[1, 2], [3, 0]], jnp.uint32),
        },
    }  # fmt: skip
    return several


DENSE = tuple(_dense(Source(0), "float32"))


def plain(name: str, x: Any) -> Any:
    """As cutplan's own functions take it."""
    return numpy(x).view(np.int64).reshape(2) if name == "rng_state" else numpy(x)


def qkv(s: Source, dtype: str, layout: str) -> list[Any]:
    shapes = [(2, 4, 17, 16), (2, 2, 19, 16), (2, 2, 19, 24)]
    return [s(*shape, dtype=dtype).swapaxes(1, 2 if layout == "bshd" else 1) for shape in shapes]


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", DENSE)
def test_bits_of_both_passes(kind: str, dtype: str, layout: str, seed: int) -> None:
    with types(dtype):
        source = Source(seed)
        q, k, v = qkv(source, dtype, layout)
        given = _dense(source, dtype)[kind]
        arrays = {name: x for name, x in given.items() if isinstance(x, jax.Array)}
        rest = {name: x for name, x in given.items() if name not in arrays} | {"layout": layout}

        def ours(q: Any, k: Any, v: Any, arrays: dict[str, Any]) -> Any:
            return cutplan.jax.attention(q, k, v, return_lse=True, **arrays, **rest)

        own = {name: plain(name, x) for name, x in arrays.items()}
        o, lse = cutplan.attention(*map(numpy, (q, k, v)), return_lse=True, **own, **rest)
        got = jax.jit(ours)(q, k, v, arrays)
        assert same(got[0], o) and same(got[1], lse)

        floating = {name: x for name, x in arrays.items() if jnp.issubdtype(x.dtype, jnp.floating)}
        others = {name: x for name, x in arrays.items() if name not in floating}
        grad = source(*o.shape, dtype=dtype)
        _, pull = jax.vjp(lambda q, k, v, f: ours(q, k, v, {**f, **others})[0], q, k, v, floating)
        right = cutplan.attention_backward(
            *map(numpy, (grad, q, k, v)), o, lse, **{f"d{name}": True for name in floating}, **own, **rest
        )
        dq, dk, dv, further = pull(grad)
        assert same(dq, right.dq) and same(dk, right.dk) and same(dv, right.dv)
        for name, x in further.items():
            assert same(x, getattr(right, f"d{name}")), name


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_packed_sequences(layout: str, seed: int) -> None:
    source = Source(seed)
    q, k, v = source(4, 12, 16), source(2, 15, 16), source(2, 15, 16)
    if layout == "bshd":
        q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
    bounds = {
        "cu_seqlens_q": jnp.array([0, 5, 12], jnp.int32),
        "cu_seqlens_k": jnp.array([0, 9, 15], jnp.int32),
    }
    rest: dict[str, Any] = {"layout": layout, "causal": "bottom_right"}
    own = {name: numpy(x) for name, x in bounds.items()}
    o, lse = cutplan.attention(*map(numpy, (q, k, v)), return_lse=True, **own, **rest)

    def ours(q: Any, k: Any, v: Any) -> Any:
        return cutplan.jax.attention(q, k, v, return_lse=True, **bounds, **rest)

    got = jax.jit(ours)(q, k, v)
    assert same(got[0], o) and same(got[1], lse)
    grad = source(*o.shape)
    right = cutplan.attention_backward(*map(numpy, (grad, q, k, v)), o, lse, **own, **rest)
    grads = jax.vjp(lambda *x: ours(*x)[0], q, k, v)[1](grad)
    assert all(same(x, y) for x, y in zip(grads, right[:3], strict=True))
    many = jnp.stack([q, 2 * q])
    assert same(
        jax.vmap(ours, (0, None, None))(many, k, v)[0], jnp.stack([ours(q, k, v)[0], ours(2 * q, k, v)[0]])
    )


def test_check_grads(seed: int) -> None:
    with types("float64"):
        source = Source(seed)
        q, k, v, bias = (source(1, 2, 5, 4, dtype="float64") for _ in range(4))
        bias = source(1, 2, 5, 5, dtype="float64")
        check_grads(
            lambda q, k, v, bias: cutplan.jax.attention(q, k, v, bias=bias, causal="top_left"),
            (q, k, v, bias), order=1, modes=["rev"],
        )  # fmt: skip


AXES: list[dict[str, int]] = [
    {"q": 0, "k": 0, "v": 0},
    {"q": 1},
    {"k": 0, "v": 4},
    {"q": 0, "bias": 1},
    {"q": 0, "k": 0, "v": 0, "alibi_slopes": 0},
    {"q": 0, "mask": 0, "seqused_k": 0},
    {"q": 0, "sink": 0},
]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("axes", AXES, ids=str)
def test_vmap(axes: dict[str, int], batch: int, seed: int) -> None:
    source = Source(seed)
    shapes = {"q": (batch, 4, 7, 16), "k": (batch, 2, 9, 16), "v": (batch, 2, 9, 16), "bias": (1, 4, 7, 9),
              "alibi_slopes": (4,), "sink": (4,), "mask": (batch, 1, 1, 9)}  # fmt: skip
    arrays, order = [], []
    for name, shape in shapes.items():
        own = list(shape)
        if name in axes:
            own.insert(axes[name], 3)
        arrays.append(source.bools(*own) if name == "mask" else source(*own))
        order.append(axes.get(name))
    lengths = source.random.integers(1, 10, (3, batch) if "seqused_k" in axes else (batch,))
    arrays.append(jnp.asarray(lengths, jnp.int32))
    order.append(axes.get("seqused_k"))
    with_sink = "sink" in axes

    def attend(q: Any, k: Any, v: Any, bias: Any, slopes: Any, sink: Any, mask: Any, seqused: Any) -> Any:
        return cutplan.jax.attention(
            q, k, v, bias=bias, alibi_slopes=slopes, sink=sink if with_sink else None, mask=mask,
            seqused_k=seqused, return_lse=True,
        )  # fmt: skip

    function = jax.vmap(attend, tuple(order))
    right = one_by_one(attend, tuple(order), *arrays)
    close(jax.jit(function)(*arrays), right, 1e-6)
    (text,) = calls(function, *arrays)
    assert ("loops=" in text) == with_sink

    def loss(*arrays: Any) -> Any:
        return (attend(*arrays)[0] ** 2).sum()

    wanted = (0, 1, 2, 3, 4, 5) if with_sink else (0, 1, 2, 3, 4)
    each = jax.grad(loss, wanted)
    close(jax.vmap(each, tuple(order))(*arrays), one_by_one(each, tuple(order), *arrays), 1e-5)


def test_vmap_with_dropout_draws_as_each_alone(seed: int) -> None:
    source = Source(seed)
    q, k = source(3, 2, 4, 7, 16), source(2, 4, 9, 16)
    states = jnp.asarray(source.random.integers(0, 2**31, (3, 2, 2)), jnp.uint32)

    def attend(q: Any, state: Any) -> Any:
        return cutplan.jax.attention(q, k, k, dropout_p=0.5, rng_state=state)

    for axes in ((0, None), (0, 0)):
        state = states if axes[1] == 0 else states[0]
        assert same(jax.vmap(attend, axes)(q, state), one_by_one(attend, axes, q, state))


def test_a_state_of_64_bits(seed: int) -> None:
    with types("int64"):
        q = Source(seed)(2, 4, 7, 16)
        states = jnp.array([7, 2**40 + 5], jnp.int64), jnp.array([[7, 0], [5, 256]], jnp.uint32)
        o, o2 = (cutplan.jax.attention(q, q, q, dropout_p=0.5, rng_state=state) for state in states)
        assert same(o, o2)


def test_only_what_is_wanted_is_computed(seed: int) -> None:
    source = Source(seed)
    q, bias = source(2, 4, 7, 16), source(2, 4, 7, 7)

    def loss(q: Any, bias: Any) -> Any:
        return cutplan.jax.attention(q, q, q, bias=bias).sum()

    assert "dbias" not in "".join(calls(jax.grad(loss), q, bias))
    assert "dbias" in "".join(calls(jax.grad(loss, 1), q, bias))


def test_lse_has_no_gradient(seed: int) -> None:
    q = Source(seed)(2, 4, 7, 16)
    with pytest.raises(cutplan.Unsupported, match="lse: it has no gradient"):
        jax.grad(lambda q: cutplan.jax.attention(q, q, q, return_lse=True)[1].sum())(q)


def test_empty_extents(seed: int) -> None:
    source = Source(seed)
    for q, k in (
        ((0, 4, 7, 16), (0, 2, 9, 16)),
        ((2, 4, 0, 16), (2, 2, 9, 16)),
        ((2, 4, 7, 16), (2, 2, 0, 16)),
    ):
        x, y = source(*q), source(*k)
        o, lse = jax.jit(lambda x, y: cutplan.jax.attention(x, y, y, return_lse=True))(x, y)
        right = cutplan.attention(numpy(x), numpy(y), numpy(y), return_lse=True)
        assert same(o, right[0]) and same(lse, right[1])
        grads = jax.grad(lambda x, y: cutplan.jax.attention(x, y, y).sum(), (0, 1))(x, y)
        assert [g.shape for g in grads] == [q, k] and not any(np.asarray(g).any() for g in grads)


def test_refusals(seed: int) -> None:
    source = Source(seed)
    q, k = source(2, 4, 7, 16), source(2, 2, 9, 16)

    def refused(error: type[Exception], words: str, *arrays: Any, **options: Any) -> None:
        with pytest.raises(error, match=words):
            jax.eval_shape(lambda *x: cutplan.jax.attention(*x, **options), *arrays)

    refused(cutplan.ShapeMismatch, "operand k", q, source(3, 2, 9, 16), k)
    refused(cutplan.InvalidProblem, "heads", q, source(2, 3, 9, 16), source(2, 3, 9, 16))
    refused(cutplan.Unsupported, "dim", *(source(1, 1, 4, 257),) * 3)
    refused(cutplan.ShapeMismatch, r"operand bias: shape that broadcasts", q, k, k, bias=source(5, 9))
    refused(cutplan.DTypeMismatch, "operand mask", q, k, k, mask=source(7, 9))
    refused(cutplan.MissingOperand, "dropout_p: 0 required without rng_state", q, k, k, dropout_p=0.5)
    refused(ValueError, "causal: must be one of", q, k, k, causal=True)
    refused(cutplan.InvalidProblem, "align: 'top_left', which causal sets", q, k, k, causal="top_left",
            align="bottom_right")  # fmt: skip
    refused(
        cutplan.ShapeMismatch, "operand rng_state", q, k, k, dropout_p=0.5, rng_state=jnp.zeros(2, jnp.uint32)
    )
    with pytest.raises(
        jax.errors.JaxRuntimeError, match="operand seqused_k: lengths from 0 to 9.* got 10 at index 1"
    ):
        jax.jit(lambda q, k: cutplan.jax.attention(q, k, k, seqused_k=jnp.array([1, 10], jnp.int32)))(q, k)


# ---- jax.nn's function ----


def _nn(s: Source) -> dict[str, dict[str, Any]]:
    return {
        "plain": {},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.3},
        "bias": {"bias": s(1, 4, 17, 19)},
        "bias of one head": {"bias": s(2, 1, 17, 19)},
        "mask": {"mask": s.bools(2, 4, 17, 19).at[..., 0].set(True)},
        "window": {"local_window_size": 5},
        "window and causal": {"local_window_size": (3, 1), "is_causal": True},
        "lengths of keys": {"key_value_seq_lengths": jnp.array([7, 25], jnp.int32)},
        "lengths of queries": {"query_seq_lengths": jnp.array([7, 25], jnp.int32)},
        "all": {
            "bias": s(1, 1, 17, 19), "mask": s.bools(1, 1, 17, 19).at[..., 0].set(True), "is_causal": True,
            "query_seq_lengths": jnp.array([7, 0], jnp.int32), "scale": 0.5,
            "key_value_seq_lengths": jnp.array([7, 19], jnp.int32),
        },
    }  # fmt: skip


@pytest.mark.parametrize("kind", _nn(Source(0)))
def test_jax_nn(kind: str, seed: int) -> None:
    source = Source(seed)
    q, k, v = source(2, 17, 4, 16), source(2, 19, 2, 16), source(2, 19, 2, 16)
    given = _nn(source)[kind]
    weights = source(2, 17, 4, 16)

    def run(function: Callable[..., Any]) -> Any:
        def loss(q: Any, k: Any, v: Any) -> Any:
            o = function(q, k, v, **given)
            return (o * weights).sum(), o

        (_, o), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
        return o, *grads

    close(run(cutplan.jax.dot_product_attention), run(jax.nn.dot_product_attention), 2e-5)
    if "bias" in given:
        grads = [
            jax.grad(lambda bias, f=f: (f(q, k, v, **{**given, "bias": bias}) * weights).sum())(given["bias"])
            for f in (cutplan.jax.dot_product_attention, jax.nn.dot_product_attention)
        ]
        close([grads[0]], [grads[1]], 2e-5)


def test_jax_nn_without_batch_and_with_residual(seed: int) -> None:
    source = Source(seed)
    q, k = source(17, 4, 16, dtype="bfloat16"), source(19, 2, 16, dtype="bfloat16")
    ours, right = (
        f(q, k, k, return_residual=True)
        for f in (cutplan.jax.dot_product_attention, jax.nn.dot_product_attention)
    )
    assert [(x.shape, x.dtype) for x in ours] == [(x.shape, x.dtype) for x in right]
    close(ours, right, 2e-2)
    assert error(ours[1], right[1]) < 1e-2


def test_jax_nn_a_row_without_keys_is_zero(seed: int) -> None:
    q = Source(seed)(1, 3, 2, 16)
    mask = jnp.ones((1, 1, 3, 3), bool).at[:, :, 1].set(False)
    o = cutplan.jax.dot_product_attention(q, q, q, mask=mask)
    assert not np.asarray(o[:, 1]).any() and np.asarray(o[:, 0]).any()


def test_jax_nn_refusals(seed: int) -> None:
    q = Source(seed)(1, 3, 2, 16)
    with pytest.raises(ValueError, match="implementation: None required, got 'cudnn'"):
        cutplan.jax.dot_product_attention(q, q, q, implementation="cudnn")
    with pytest.raises(ValueError, match="value shape"):
        cutplan.jax.dot_product_attention(q, q, q[:, :2])
    with pytest.raises(ValueError, match="query_seq_lengths should be int32"):
        cutplan.jax.dot_product_attention(q, q, q, query_seq_lengths=jnp.ones(1))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_on_every_device(device: str, dtype: str, seed: int) -> None:
    """Both passes err by no more than twice what JAX's own do, on the same operands; a program that is called
    again, which may be a command buffer then, has the same bits."""
    with types("float64"):
        source, place = Source(seed), jax.devices(device)[0]
        arrays = [source(2, 128, 4, 64, dtype=dtype), *source(2, 2, 128, 2, 64, dtype=dtype)]
        at = [jax.device_put(x, place) for x in arrays]

        def passes(function: Callable[..., Any]) -> Callable[..., Any]:
            def both(q: Any, k: Any, v: Any) -> Any:
                o, pull = jax.vjp(lambda *x: function(*x, is_causal=True), q, k, v)
                return o, *pull(jnp.cos(o))

            return jax.jit(both)

        exact = passes(jax.nn.dot_product_attention)(*(x.astype("float64") for x in at))
        ours, theirs = passes(cutplan.jax.dot_product_attention), passes(jax.nn.dot_product_attention)(*at)
        first = ours(*at)
        assert first[0].devices() == {place}
        for x, y, z in zip(first, theirs, exact, strict=True):
            assert error(x, z) <= 2 * error(y, z) + 1e-6
        for _ in range(3):
            assert same(ours(*at)[0], first[0])
