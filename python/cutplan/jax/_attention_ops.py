"""The ops around attention, with the gradients of rope(), alibi() and merge_states()."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from .. import _core
from .._attention_ops import _two
from ._call import Plain, alike, call, constants, for_gradients, options_of, preference_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import AlignLike, DistanceLike, DTypeLike, FmhaLayoutLike, PageLayoutLike


def _given(**arrays: Any) -> dict[str, Any]:
    found = {name: jnp.asarray(x) for name, x in arrays.items() if x is not None}
    return dict(zip(found, alike(list(found.values())), strict=True))


def _at_front(*names: str) -> tuple[tuple[str, int], ...]:
    return tuple((name, 0) for name in names)


# ---- rotary embedding ----


class _RopeProblem(Plain):
    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        """Positions that all sequences share are each sequence's own where vmap has some for each."""
        problem, arrays, dims = self, list(arrays), list(dims)
        i = self.names.index("positions") if "positions" in self.names else -1
        dim = dims[i] if i >= 0 else None
        if dim is not None and arrays[i].ndim == 2 and self.batch_at:
            x = jnp.moveaxis(arrays[i], dim, 0)
            arrays[i] = jnp.broadcast_to(x[:, None], (size, self.outs[0][1][0], x.shape[-1]))
            dims[i] = 0
            problem = dataclasses.replace(self, batch_at=(*self.batch_at, ("positions", 0)))
        return Plain.batched(problem, size, arrays, dims)


@dataclasses.dataclass(frozen=True)
class _Rope:
    options: tuple[str, ...]
    preference: _core.PlanPreference
    backward: bool = False


# What the plans of both passes call what they turn, and its results.
_ROPE_NAMES = {False: ("cutplan_rope", ("x", "k"), ("out", "k_out")),
               True: ("cutplan_rope_backward", ("grad", "grad_k"), ("dx", "dk"))}  # fmt: skip


def _turn(static: _Rope, turned: tuple[Any, ...], others: dict[str, Any]) -> tuple[Any, ...]:
    target, names, results = _ROPE_NAMES[static.backward]
    arrays = {**dict(zip(names, turned, strict=False)), **others}
    outs = tuple((name, tuple(x.shape), x.dtype) for name, x in zip(results, turned, strict=False))
    at: tuple[tuple[str, int], ...] = ()
    if turned[0].ndim == 4:
        at = _at_front(*names, *results, "offsets")
        if "positions" in others and others["positions"].ndim == 2:
            at += (("positions", 0),)
    problem = _RopeProblem(
        target, tuple(arrays), outs, static.options + preference_words(static.preference), at
    )
    return tuple(call(problem, list(arrays.values())))


def _rope_forward(static: _Rope, turned: Any, others: dict[str, Any]) -> tuple[Any, Any]:
    return _differentiable_rope(static, turned, others), others


def _rope_backward(static: _Rope, others: dict[str, Any], grads: tuple[Any, ...]) -> tuple[Any, Any]:
    other_way = dataclasses.replace(
        static, backward=not static.backward, preference=for_gradients(static.preference)
    )
    return _differentiable_rope(other_way, tuple(grads), others), dict.fromkeys(others)


_differentiable_rope = jax.custom_vjp(_turn, nondiff_argnums=(0,))
_differentiable_rope.defvjp(_rope_forward, _rope_backward)


def rope(
    x: Any,
    *,
    cos: Any = None,
    sin: Any = None,
    base: float | None = 10000.0,
    scaling: _core.RopeScaling | None = None,
    positions: Any = None,
    offsets: Any = None,
    rotary_dim: int | None = 0,
    interleaved: bool | None = False,
    cu_seqlens: Any = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
) -> Any:
    """Rotary embedding of `x`, or of a tuple (x, k) in one launch, as cutplan.rope() has it.

    Its gradient turns the other way; the tables have none.
    """
    turned = x if isinstance(x, tuple) else (x,)
    if len(turned) > 2:
        raise _core.InvalidProblem(f"operand x: one array, or a tuple of two, required, got {len(turned)}")
    first = jnp.asarray(turned[0])
    d = _core.RopeDescriptor(
        heads=1, seq=1, dim=max(first.shape[-1:], default=1), dtype="float32", layout=layout,
        rotary_dim=rotary_dim, interleaved=interleaved, base=base, scaling=scaling,
    )  # fmt: skip
    options = options_of(
        layout=d.layout, rotary_dim=d.rotary_dim, interleaved=d.interleaved, base=d.base,
        **d.scaling.__getstate__(),
    )  # fmt: skip
    arrays = _given(
        x=first, k=turned[1] if len(turned) > 1 else None, cos=cos, sin=sin, positions=positions,
        offsets=offsets, cu_seqlens=cu_seqlens,
    )  # fmt: skip
    arrays = constants(arrays, ("cos", "sin"))
    pair = tuple(arrays.pop(name) for name in ("x", "k") if name in arrays)
    results = _differentiable_rope(_Rope(options, preference or _core.PlanPreference()), pair, arrays)
    return tuple(results) if isinstance(x, tuple) else results[0]


# ---- ALiBi ----


@dataclasses.dataclass(frozen=True)
class _Alibi:
    options: tuple[str, ...]
    preference: _core.PlanPreference


def _biased(static: _Alibi, scores: Any, slopes: Any) -> Any:
    problem = Plain(
        "cutplan_alibi", ("scores", "slopes"), (("out", tuple(scores.shape), scores.dtype),),
        static.options + preference_words(static.preference), _at_front("scores", "out"),
    )  # fmt: skip
    return call(problem, [scores, slopes])[0]


def _alibi_forward(static: _Alibi, scores: Any, slopes: Any) -> tuple[Any, Any]:
    of_slopes = slopes.value if slopes.perturbed else None
    return _biased(static, scores.value, slopes.value), of_slopes


def _alibi_backward(static: _Alibi, slopes: Any, grad: Any) -> tuple[Any, Any]:
    """The gradient of scores is the result's own."""
    if slopes is None or isinstance(grad, jax.custom_derivatives.SymbolicZero):
        return None if isinstance(grad, jax.custom_derivatives.SymbolicZero) else grad, None
    problem = Plain(
        "cutplan_alibi_backward", ("grad",), (("dslopes", tuple(slopes.shape), slopes.dtype),),
        static.options + preference_words(for_gradients(static.preference)),
    )  # fmt: skip
    return grad, call(problem, [grad])[0]


_differentiable_alibi = jax.custom_vjp(_biased, nondiff_argnums=(0,))
_differentiable_alibi.defvjp(_alibi_forward, _alibi_backward, symbolic_zeros=True)


def alibi(
    scores: Any,
    slopes: Any,
    *,
    distance: DistanceLike = "signed",
    align: AlignLike | None = "top_left",
    preference: _core.PlanPreference | None = None,
) -> Any:
    """``scores + slopes[h] * distance(i, j)``, as cutplan.alibi() has it, with the gradients of both."""
    d = _core.AlibiDescriptor(heads=1, seq_q=1, seq_k=1, dtype="float32", distance=distance, align=align)
    arrays = _given(scores=scores, slopes=slopes)
    static = _Alibi(options_of(distance=d.distance, align=d.align), preference or _core.PlanPreference())
    return _differentiable_alibi(static, arrays["scores"], arrays["slopes"])


# ---- merging of states ----


@dataclasses.dataclass(frozen=True)
class _Merge:
    problem: Plain
    apart: bool  # two parts, and no stack of parts
    rows_first: bool  # of o; lse has its heads first


def _merged(static: _Merge, arrays: dict[str, Any]) -> tuple[Any, Any]:
    o, lse = call(static.problem, [arrays[name] for name in static.problem.names])
    return o, lse


def _merge_forward(static: _Merge, arrays: dict[str, Any]) -> Any:
    results = _merged(static, arrays)
    return results, (arrays, results)


def _merge_backward(static: _Merge, kept: Any, grads: Any) -> Any:
    """With w_p = exp(lse_p - lse): do_p = w_p do, dlse_p = w_p (do . (o_p - o) + dlse)."""
    arrays, (merged, merged_lse) = kept
    grad, grad_lse = (g.astype("float32") for g in grads)

    def of_rows(x: Any) -> Any:
        return jnp.swapaxes(x, -1, -2) if static.rows_first else x

    made = {}
    for o_name, lse_name in (("o", "lse"), ("o2", "lse2")) if static.apart else (("o", "lse"),):
        o, lse = arrays[o_name], arrays[lse_name]
        weights = jnp.where(lse == -jnp.inf, 0, jnp.exp(lse - merged_lse))
        w = of_rows(weights)[..., None]
        made[o_name] = jnp.where(w > 0, w * grad, 0).astype(o.dtype)
        beyond = jnp.where(w > 0, grad * (o.astype("float32") - merged.astype("float32")), 0).sum(-1)
        made[lse_name] = weights * (of_rows(beyond) + grad_lse)
    return ({name: made[name] for name in arrays},)


_differentiable_merge = jax.custom_vjp(_merged, nondiff_argnums=(0,))
_differentiable_merge.defvjp(_merge_forward, _merge_backward)


def merge_states(
    o: Any,
    lse: Any,
    *,
    out_dtype: DTypeLike | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
) -> tuple[Any, Any]:
    """Results of attention over disjoint keys, put together, as cutplan.merge_states() has it: (o, lse), with
    gradients for both."""
    o2 = lse2 = None
    apart = isinstance(o, (list, tuple)) or isinstance(lse, (list, tuple))
    if apart:
        (o, o2), (lse, lse2) = _two("o", o), _two("lse", lse)
    arrays = _given(o=o, lse=lse, o2=o2, lse2=lse2)
    d = _core.MergeStatesDescriptor(heads=1, rows=1, dim=1, dtype="float32", layout=layout)
    stacked = 0 if apart else 1
    out = arrays["o"].dtype if out_dtype is None else jnp.dtype(str(_core.DType(out_dtype)))
    shape, of_lse = arrays["o"].shape[stacked:], arrays["lse"].shape[stacked:]
    at: tuple[tuple[str, int], ...] = ()
    if len(shape) == 4:
        at = (*((name, stacked) for name in arrays), *_at_front("out", "out_lse"))
    problem = Plain(
        "cutplan_merge_states", tuple(arrays),
        (("out", tuple(shape), out), ("out_lse", tuple(of_lse), jnp.dtype("float32"))),
        options_of(layout=d.layout) + preference_words(preference or _core.PlanPreference()), at,
    )  # fmt: skip
    merged, merged_lse = _differentiable_merge(_Merge(problem, apart, str(d.layout) == "bshd"), arrays)
    return merged, merged_lse


# ---- caches ----


class KvCache(NamedTuple):
    """What kv_cache_append() returns; None is what was not asked for."""

    k_cache: Any
    v_cache: Any
    q: Any
    lengths: Any
    rejected: Any


def kv_cache_append(
    k: Any,
    v: Any,
    k_cache: Any,
    v_cache: Any,
    offsets: Any,
    *,
    block_table: Any = None,
    page_layout: PageLayoutLike | None = "nhd",
    cu_seqlens: Any = None,
    cache_batch_idx: Any = None,
    cos: Any = None,
    sin: Any = None,
    interleaved: bool | None = False,
    q: Any = None,
    k_scale: Any = None,
    v_scale: Any = None,
    return_lengths: bool = False,
    count_rejected: bool = False,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
) -> KvCache:
    """New rows of keys and values in their caches, as cutplan.kv_cache_append() has it.

    Returns the caches, and `q` turned where it is given, ``offsets + L`` with `return_lengths`, and the
    number of rows that did not fit, int32 [1], with `count_rejected`: a named tuple. The caches are written
    in place where they are donated (``jax.jit(..., donate_argnums=...)``), or are made and used within the
    program; else XLA copies them first. No operand has a gradient.
    """
    arrays = _given(
        k=k, v=v, k_cache=k_cache, v_cache=v_cache, offsets=offsets, block_table=block_table,
        cu_seqlens=cu_seqlens, cache_batch_idx=cache_batch_idx, cos=cos, sin=sin, q=q, k_scale=k_scale,
        v_scale=v_scale, rejected=jnp.zeros(1, jnp.int32) if count_rejected else None,
    )  # fmt: skip
    d = _core.KvCacheAppendDescriptor(
        heads=1,
        seq=1,
        dim=2,
        dtype="float32",
        layout=layout,
        page_layout=page_layout,
        interleaved=interleaved,
    )
    made = {"k_cache": "k_cache", "v_cache": "v_cache"}
    if q is not None:
        made["q_out"] = "q"
    if return_lengths:
        made["lengths_out"] = "offsets"
    if count_rejected:
        made["rejected"] = "rejected"
    outs = tuple((out, tuple(arrays[like].shape), arrays[like].dtype) for out, like in made.items())
    at: tuple[tuple[str, int], ...] = ()
    if not {"block_table", "cu_seqlens", "cache_batch_idx", "rejected"} & arrays.keys():
        at = _at_front("k", "v", "k_cache", "v_cache", "offsets", "q", "q_out", "lengths_out")
    problem = Plain(
        "cutplan_kv_cache_append", tuple(arrays), outs,
        options_of(layout=d.layout, page_layout=d.page_layout, interleaved=d.interleaved)
        + preference_words(preference or _core.PlanPreference()),
        at, updates=tuple((like, out) for out, like in made.items() if out != "lengths_out"),
    )  # fmt: skip
    results = dict(zip(made, call(problem, list(arrays.values())), strict=True))
    return KvCache(
        *(results.get(name) for name in ("k_cache", "v_cache", "q_out", "lengths_out", "rejected"))
    )
