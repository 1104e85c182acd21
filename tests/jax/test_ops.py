"""The ops around attention in JAX programs: the bits of cutplan's functions, gradients, vmap and donation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cutplan
import cutplan.jax
from tests.jax.problems import DEVICES, FLOATS, Source, calls, close, numpy, one_by_one, same, types

# ---- rope ----


def _rope(s: Source) -> dict[str, dict[str, Any]]:
    angles = s(40, 6)
    return {
        "by base": {"base": 500.0},
        "interleaved": {"interleaved": True, "rotary_dim": 12},
        "tables": {"cos": jnp.cos(angles), "sin": jnp.sin(angles), "rotary_dim": 12},
        "positions": {"positions": jnp.arange(9, dtype=jnp.int32)[::-1] * 3},
        "positions by batch": {"positions": jnp.arange(18, dtype=jnp.int32).reshape(2, 9)},
        "offsets": {"offsets": jnp.array([3, 7], jnp.int32)},
        "yarn": {"scaling": cutplan.RopeScaling("yarn", factor=4.0, original_max_position=64)},
        "llama3": {"scaling": cutplan.RopeScaling("llama3", factor=8.0, original_max_position=64)},
    }


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rope(dtype: str, layout: str, seed: int) -> None:
    with types(dtype):
        source = Source(seed)
        x, k, grad = (
            source(2, 4, 9, 16, dtype=dtype),
            source(2, 2, 9, 16, dtype=dtype),
            source(2, 4, 9, 16, dtype=dtype),
        )
        if layout == "bshd":
            x, k, grad = (y.swapaxes(1, 2) for y in (x, k, grad))
        for name, given in _rope(source).items():
            given["layout"] = layout
            own = {key: numpy(y) for key, y in given.items()}
            both = jax.jit(lambda x, k, given=given: cutplan.jax.rope((x, k), **given))
            ours, right = both(x, k), cutplan.rope((numpy(x), numpy(k)), **own)
            assert all(same(y, z) for y, z in zip(ours, right, strict=True)), name
            _, pull = jax.vjp(lambda x, given=given: cutplan.jax.rope(x, **given), x)
            assert same(pull(grad)[0], cutplan.rope_backward(numpy(grad), **own)), name


def test_rope_packed(seed: int) -> None:
    x, bounds = Source(seed)(4, 12, 16), jnp.array([0, 5, 12], jnp.int32)
    ours = jax.jit(lambda x: cutplan.jax.rope(x, cu_seqlens=bounds))(x)
    assert same(ours, cutplan.rope(numpy(x), cu_seqlens=numpy(bounds)))


@pytest.mark.parametrize("name", ["by base", "positions", "positions by batch", "offsets", "tables"])
def test_rope_vmap(name: str, seed: int) -> None:
    source = Source(seed)
    given = _rope(source)[name]
    arrays = {key: x for key, x in given.items() if isinstance(x, jax.Array)}
    rest = {key: x for key, x in given.items() if key not in arrays}
    x = source(3, 2, 4, 9, 16)
    several = [jnp.stack([y, y + 1, y + 2]) for y in arrays.values()]

    def turn(x: Any, *arrays_: Any) -> Any:
        return cutplan.jax.rope(x, **dict(zip(arrays, arrays_, strict=True)), **rest)

    for axes, given_arrays in (
        ((0, *(None for _ in several)), arrays.values()),
        ((0, *(0 for _ in several)), several),
    ):
        assert same(jax.vmap(turn, axes)(x, *given_arrays), one_by_one(turn, axes, x, *given_arrays))


def test_rope_gradients_that_there_are_none_of(seed: int) -> None:
    source = Source(seed)
    x, table = source(2, 4, 9, 16), source(9, 8)
    with pytest.raises(cutplan.Unsupported, match="operand cos: it has no gradient"):
        jax.grad(lambda cos: cutplan.jax.rope(x, cos=cos, sin=table).sum())(table)


# ---- ALiBi ----


@pytest.mark.parametrize("dtype", FLOATS)
def test_alibi(dtype: str, seed: int) -> None:
    with types(dtype):
        source = Source(seed)
        scores, slopes = (
            source(2, 4, 9, 11, dtype=dtype),
            source(4, dtype="float64" if dtype == "float64" else "float32"),
        )
        for distance in ("signed", "absolute"):
            given: dict[str, Any] = {"distance": distance, "align": "bottom_right"}
            ours, pull = jax.vjp(lambda *x, given=given: cutplan.jax.alibi(*x, **given), scores, slopes)
            assert same(ours, cutplan.alibi(numpy(scores), numpy(slopes), **given))
            right = cutplan.alibi_backward(numpy(scores), **given)
            assert all(same(x, y) for x, y in zip(pull(scores), right, strict=True))


def test_alibi_vmap(seed: int) -> None:
    source = Source(seed)
    scores, slopes = source(3, 2, 4, 9, 11), source(3, 4)
    each = jax.grad(lambda *x: (cutplan.jax.alibi(*x) ** 2).sum(), (0, 1))
    for axes, own in (((0, None), slopes[0]), ((0, 0), slopes), ((None, 0), slopes)):
        x = scores[0] if axes[0] is None else scores
        assert same(jax.vmap(cutplan.jax.alibi, axes)(x, own), one_by_one(cutplan.jax.alibi, axes, x, own))
        close(jax.vmap(each, axes)(x, own), one_by_one(each, axes, x, own), 1e-6)
    assert "loops" not in calls(jax.vmap(cutplan.jax.alibi, (0, None)), scores, slopes[0])[0]


# ---- merging of states ----


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_gradients_of_merge_states(layout: str, apart: bool, seed: int) -> None:
    keys = jax.random.split(jax.random.key(seed), 4)
    heads_first = layout == "bhsd"
    o = jax.random.normal(keys[0], (2, 2, 4, 5, 8) if heads_first else (2, 2, 5, 4, 8))
    lse = jax.random.normal(keys[1], (2, 2, 4, 5)).at[0, 0, 0, 0].set(-jnp.inf)
    weights = jax.random.normal(keys[2], o.shape[1:]), jax.random.normal(keys[3], lse.shape[1:])

    def ours(o: Any, lse: Any) -> Any:
        parts = ([o[0], o[1]], [lse[0], lse[1]]) if apart else (o, lse)
        merged = cutplan.jax.merge_states(*parts, layout=layout)
        return sum((w * x).sum() for w, x in zip(weights, merged, strict=True))

    def theirs(o: Any, lse: Any) -> Any:
        whole = jax.nn.logsumexp(lse, 0)
        share = jnp.exp(lse - whole)
        share = share if heads_first else jnp.swapaxes(share, -1, -2)
        return (weights[0] * (share[..., None] * o).sum(0)).sum() + (weights[1] * whole).sum()

    for got, expected in zip(
        jax.jit(jax.grad(ours, (0, 1)))(o, lse), jax.grad(theirs, (0, 1))(o, lse), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_merge_states(layout: str, seed: int) -> None:
    source = Source(seed)
    o, lse = source(3, 2, 4, 9, 16, dtype="bfloat16"), source(3, 2, 4, 9).at[1, :, 2].set(-jnp.inf)
    if layout == "bshd":
        o = o.swapaxes(2, 3)

    def merge(o: Any, lse: Any) -> Any:
        return cutplan.jax.merge_states(o, lse, layout=layout)

    right = cutplan.merge_states(numpy(o), numpy(lse), layout=layout)
    assert all(same(x, y) for x, y in zip(jax.jit(merge)(o, lse), right, strict=True))
    two = cutplan.jax.merge_states([o[0], o[1]], [lse[0], lse[1]], layout=layout)
    right = cutplan.merge_states([numpy(o[0]), numpy(o[1])], [numpy(lse[0]), numpy(lse[1])], layout=layout)
    assert all(same(x, y) for x, y in zip(two, right, strict=True))
    wide, _ = cutplan.jax.merge_states(o, lse, layout=layout, out_dtype="float32")
    assert wide.dtype == jnp.float32
    several = jnp.stack([o, 2 * o], 1)
    ours = jax.vmap(merge, (1, None))(several, lse)
    assert all(same(x, y) for x, y in zip(ours, one_by_one(merge, (1, None), several, lse), strict=True))


# ---- caches ----


def caches(s: Source, dtype: str = "float32") -> tuple[Any, ...]:
    k, v = s(2, 2, 4, 3, 16, dtype=dtype)
    return k, v, s(2, 4, 8, 16, dtype=dtype), s(2, 4, 8, 16, dtype=dtype), jnp.array([1, 4], jnp.int32)


def appended(k: Any, v: Any, k_cache: Any, v_cache: Any, *rest: Any, **given: Any) -> Any:
    """What cutplan's own function makes of copies."""
    k_cache, v_cache = numpy(k_cache).copy(), numpy(v_cache).copy()
    cutplan.kv_cache_append(numpy(k), numpy(v), k_cache, v_cache, *map(numpy, rest), **given)
    return k_cache, v_cache


@pytest.mark.parametrize("dtype", FLOATS)
def test_append(dtype: str, seed: int) -> None:
    with types(dtype):
        operands = caches(Source(seed), dtype)
        before = [numpy(x).copy() for x in operands]
        ours = jax.jit(lambda *x: cutplan.jax.kv_cache_append(*x, return_lengths=True))(*operands)
        right = appended(*operands)
        assert same(ours.k_cache, right[0]) and same(ours.v_cache, right[1])
        assert ours.lengths.tolist() == [4, 7] and ours.q is None and ours.rejected is None
        assert all(same(x, y) for x, y in zip(operands, before, strict=True))  # of what is not donated


@pytest.mark.parametrize("device", DEVICES)
def test_donated_caches_are_written_in_place(device: str, seed: int) -> None:
    with types():
        place = jax.devices(device)[0]
        k, v, k_cache, v_cache, offsets = (jax.device_put(x, place) for x in caches(Source(seed)))
        right = [np.array(x) for x in (k_cache, v_cache)]
        for b, first in enumerate((1, 4)):
            right[0][b, :, first : first + 3], right[1][b, :, first : first + 3] = k[b], v[b]
        addresses = [x.unsafe_buffer_pointer() for x in (k_cache, v_cache)]
        step = jax.jit(cutplan.jax.kv_cache_append, donate_argnums=(2, 3))
        ours = step(k, v, k_cache, v_cache, offsets)
        assert k_cache.is_deleted() and v_cache.is_deleted()
        assert [x.unsafe_buffer_pointer() for x in ours[:2]] == addresses
        assert same(ours.k_cache, right[0]) and same(ours.v_cache, right[1])


def test_append_with_rope_and_q(seed: int) -> None:
    source = Source(seed)
    k, v, k_cache, v_cache, offsets = caches(source)
    q, angles = source(2, 8, 3, 16), source(8, 8)
    tables = {"cos": jnp.cos(angles), "sin": jnp.sin(angles)}
    ours = jax.jit(lambda *x: cutplan.jax.kv_cache_append(*x, q=q, **tables))(k, v, k_cache, v_cache, offsets)
    q_out = np.empty(q.shape, np.float32)
    right = appended(
        k, v, k_cache, v_cache, offsets, q=numpy(q), q_out=q_out,
        **{name: numpy(x) for name, x in tables.items()},
    )  # fmt: skip
    assert same(ours.k_cache, right[0]) and same(ours.v_cache, right[1]) and same(ours.q, q_out)
    turned, _ = (cutplan.jax.rope(x, offsets=offsets, **tables) for x in (q, k))
    assert same(ours.q, turned)


def test_append_to_quantised_pages(seed: int) -> None:
    source = Source(seed)
    k, v, _, _, offsets = caches(source)
    pages = jnp.zeros((2, 6, 4, 4, 16), jnp.int8)  # K and V of six pages of four rows
    table = jnp.array([[4, 0], [5, 2]], jnp.int32)
    scales = {"k_scale": jnp.array([0.03]), "v_scale": jnp.array([0.02])}
    ours = jax.jit(lambda *x: cutplan.jax.kv_cache_append(*x, block_table=table, **scales))(
        k, v, *pages, offsets
    )
    right = appended(
        k, v, *pages, offsets, block_table=numpy(table), **{name: numpy(x) for name, x in scales.items()}
    )
    assert same(ours.k_cache, right[0]) and same(ours.v_cache, right[1])
    assert np.asarray(ours.k_cache[4]).any() and not np.asarray(ours.k_cache[1]).any()


def test_rows_that_do_not_fit(seed: int) -> None:
    k, v, k_cache, v_cache, _ = caches(Source(seed))
    offsets = jnp.array([6, -1], jnp.int32)
    counted = jax.jit(lambda *x: cutplan.jax.kv_cache_append(*x, count_rejected=True))
    for _ in range(2):  # each call counts from 0
        assert counted(k, v, k_cache, v_cache, offsets).rejected.tolist() == [2]
    with pytest.raises(
        jax.errors.JaxRuntimeError, match="operand offsets: from 0 to 5 required for 3 new rows"
    ):
        jax.jit(cutplan.jax.kv_cache_append)(k, v, k_cache, v_cache, offsets)


@pytest.mark.parametrize("counted", [False, True])
def test_append_vmap(counted: bool, seed: int) -> None:
    source = Source(seed)
    k, v, k_cache, v_cache, offsets = caches(source)
    several = jnp.stack([k, 2 * k, -k], 1)
    places = jnp.stack([offsets, offsets + 1, offsets - 1])

    def append(k: Any, offsets: Any) -> Any:
        made = cutplan.jax.kv_cache_append(k, v, k_cache, v_cache, offsets, count_rejected=counted)
        return tuple(x for x in made if x is not None)

    ours, right = jax.vmap(append, (1, 0))(several, places), one_by_one(append, (1, 0), several, places)
    assert all(same(x, y) for x, y in zip(ours, right, strict=True))
    assert ("loops=1" in calls(jax.vmap(append, (1, 0)), several, places)[0]) == counted


def test_appending_has_no_gradient(seed: int) -> None:
    k, *rest = caches(Source(seed))
    with pytest.raises(
        cutplan.Unsupported, match="kv_cache_append: a cache that is written is differentiated, and has no"
    ):
        jax.grad(lambda k: cutplan.jax.kv_cache_append(k, *rest).k_cache.sum())(k)


def test_decoding_in_a_loop(seed: int) -> None:
    """A scan over tokens, whose caches stay where they are, is attention over all of them at once."""
    source = Source(seed)
    q, k, v = source(3, 2, 4, 10, 16)

    def step(state: Any, token: Any) -> Any:
        k_cache, v_cache, lengths = state
        q, k, v = (x[:, :, None] for x in token)
        new = cutplan.jax.kv_cache_append(k, v, k_cache, v_cache, lengths, return_lengths=True)
        o = cutplan.jax.attention(q, new.k_cache, new.v_cache, seqused_k=new.lengths)
        return (new.k_cache, new.v_cache, new.lengths), o[:, :, 0]

    start = (jnp.zeros((2, 4, 16, 16)), jnp.zeros((2, 4, 16, 16)), jnp.zeros(2, jnp.int32))
    tokens = tuple(jnp.moveaxis(x, 2, 0) for x in (q, k, v))
    _, o = jax.jit(lambda *x: jax.lax.scan(step, *x))(start, tokens)
    right = cutplan.jax.attention(q, k, v, causal="top_left")
    close([jnp.moveaxis(o, 0, 2)], [right], 1e-6)


def test_empty_extents() -> None:
    zeros = jnp.zeros
    lengths = zeros(2, jnp.int32)
    x, k, cache = zeros((2, 4, 0, 16)), zeros((2, 4, 0, 16)), jnp.ones((2, 4, 8, 16))
    assert cutplan.jax.rope((x, k))[1].shape == k.shape
    assert jax.grad(lambda x: cutplan.jax.rope(x).sum())(zeros((0, 4, 3, 16))).shape == (0, 4, 3, 16)
    grads = jax.grad(lambda *x: cutplan.jax.alibi(*x).sum(), (0, 1))(zeros((2, 4, 0, 3)), zeros(4))
    assert grads[0].shape == (2, 4, 0, 3) and not np.asarray(grads[1]).any()
    o, lse = cutplan.jax.merge_states(zeros((3, 0, 4, 5, 16)), zeros((3, 0, 4, 5)))
    assert o.shape == (0, 4, 5, 16) and lse.shape == (0, 4, 5)
    new = cutplan.jax.kv_cache_append(k, k, cache, cache, lengths, return_lengths=True)
    assert same(new.k_cache, cache) and same(new.lengths, lengths)
