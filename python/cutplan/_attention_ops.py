"""The ops around attention as calls: each describes its problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _plans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._typing import AlignLike, DistanceLike, FmhaLayoutLike, PageLayoutLike, StreamLike, Tensor


class AlibiGradients(NamedTuple):
    """What alibi_backward() returns; None is what was not asked for."""

    dscores: Any
    dslopes: Any


def kv_cache_append(
    k: Tensor,
    v: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    offsets: Tensor,
    *,
    block_table: Tensor | None = None,
    page_layout: PageLayoutLike | None = "nhd",
    cu_seqlens: Tensor | None = None,
    cache_batch_idx: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    interleaved: bool | None = False,
    q: Tensor | None = None,
    q_out: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    lengths_out: Tensor | None = None,
    rejected: Tensor | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> None:
    """Writes new rows of keys and values into their caches, in one launch.

    Row i of sequence b of `k` [B, H, L, D] and `v` [B, H, L, Dv] goes to row ``offsets[b] + i`` of the
    sequence's cache; `offsets` int32 or int64 [B], in device memory. ``layout="bshd"`` swaps heads and rows
    of k, v, q and of caches without pages; packed rows have no B, and `cu_seqlens` is int32 [B + 1].

    `k_cache` [Bc, H, Smax, D] and `v_cache` have a sequence each, that of b, or of `cache_batch_idx[b]`
    (int32 [B]). With `block_table` (int32 [B, max_pages]) they are pages: `page_layout` "nhd" [pages,
    page_size, H, D] or "hnd" [pages, H, page_size, D]. They have k's type, whose bits they get; or
    float8_e4m3fn, float8_e5m2 or int8, and then hold x / scale, rounded to nearest even, saturated, with
    `k_scale` and `v_scale` float32 [1] or [H].

    With tables `cos` and `sin` (float32 [positions, rotary_dim / 2]) k is turned on its way as rope() turns
    it, at its new place; so is `q` into `q_out`, which may be q. `lengths_out` [B], of offsets' type, gets
    offsets + L.

    A row that does not fit (a negative offset, beyond the cache, a page that is none) is not written and
    adds one to `rejected` (int32 [1]); without that the host refuses it, and a GPU leaves it out. Where
    sequences share a page the last write stays, whichever that is. Errors are those of
    KvCacheAppendPlan.select and KvCacheAppendPlan.run.
    """
    plan, *_ = _core.call_kv_cache_append(
        k, v, k_cache, v_cache, offsets, block_table, cu_seqlens, cache_batch_idx, cos, sin, q, q_out,
        k_scale, v_scale, lengths_out, rejected, layout, page_layout, interleaved, None, None, preference,
        stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)


def merge_states(
    o: Tensor | Sequence[Tensor],
    lse: Tensor | Sequence[Tensor],
    *,
    out: Tensor | None = None,
    out_lse: Tensor | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """Results of attention over disjoint keys, put together: what attention over all of the keys gives.

    `o` [P, B, H, S, D] and `lse` float32 [P, B, H, S] hold P partial results, as ``attention(...,
    return_lse=True)`` gives them; packed ones have no B. Instead both may be lists of two.
    ``layout="bshd"`` swaps heads and rows of `o`.

    Returns (o, lse): lse = log(sum_p exp(lse_p)), o = sum_p exp(lse_p - lse) o_p (Ye et al. 2025,
    "FlashInfer", section 2.2). A part whose lse is -inf, which saw no key, has no weight, whatever its o
    holds; a row of such parts alone has 0 in o and -inf in lse. The result has the parts' type, or that of
    `out`, which may be float32; of a list, `out` may be a part itself. Errors are those of
    MergeStatesPlan.select and MergeStatesPlan.run.
    """
    o2 = lse2 = None
    if isinstance(o, (list, tuple)) or isinstance(lse, (list, tuple)):
        (o, o2), (lse, lse2) = _two("o", o), _two("lse", lse)
    plan, *results = _core.call_merge_states(
        o, lse, out, o2, lse2, out_lse, layout, None, None, preference, stream
    )
    _plans.of_thread.plans = (plan,)
    return tuple(results)


def alibi(
    scores: Tensor,
    slopes: Tensor,
    *,
    distance: DistanceLike = "signed",
    align: AlignLike | None = "top_left",
    out: Tensor | None = None,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """``scores + slopes[h] * distance(i, j)``: ALiBi on scores in memory (Press et al. 2022, section 3).

    `scores` [B, H, Q, K], any strides; `slopes` [H], float32, or float64 with float64 scores. The distance
    of key j from query i is ``j - (i + off)`` where it is "signed", and ``-|i + off - j|``, attention's
    own, where it is "absolute"; off is 0 for ``align="top_left"`` and K - Q for "bottom_right". `out` may
    be `scores` itself. Errors are those of AlibiPlan.select and AlibiPlan.run.
    """
    plan, result = _core.call_alibi(scores, slopes, out, distance, align, None, None, preference, stream)
    _plans.of_thread.plans = (plan,)
    return result


def alibi_backward(
    grad: Tensor,
    *,
    distance: DistanceLike = "signed",
    align: AlignLike | None = "top_left",
    dscores: bool | None = True,
    dslopes: bool | None = True,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> AlibiGradients:
    """Gradients of alibi(), given `grad`, the gradient of its result.

    Of `dscores`, a copy of `grad`, and `dslopes` [H] = sum grad distance(i, j) those that are asked for,
    one at least. The same inputs give the same bits. (AlibiBackwardPlan.run takes `grad` itself as
    `dscores`: nothing is copied then.) Errors are those of AlibiBackwardPlan.select and
    AlibiBackwardPlan.run.
    """
    dscores, dslopes = (True if wanted is None else wanted for wanted in (dscores, dslopes))
    plan, *results = _core.call_alibi_backward(
        grad, dscores, dslopes, distance, align, None, None, preference, stream
    )
    _plans.of_thread.plans = (plan,)
    rest = iter(results)
    return AlibiGradients(*(next(rest) if wanted else None for wanted in (dscores, dslopes)))


def rope(
    x: Tensor | tuple[Tensor, Tensor],
    *,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    base: float | None = 10000.0,
    scaling: _core.RopeScaling | None = None,
    positions: Tensor | None = None,
    offsets: Tensor | None = None,
    rotary_dim: int | None = 0,
    interleaved: bool | None = False,
    cu_seqlens: Tensor | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    out: Any = None,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """Rotary position embedding (Su et al. 2021, section 3.2) of `x`, or of (q, k) in one launch.

    `x` [B, H, S, D]; ``layout="bshd"`` swaps heads and rows; packed ones have no B, and `cu_seqlens` (int32
    [B + 1]) says where sequences begin. Pairs of the first `rotary_dim` elements (0: all) of a row at
    position t, (i, i + rotary_dim / 2) or, `interleaved`, (2i, 2i + 1), are turned by t f_i: f_i =
    base^(-2i / rotary_dim), stretched by `scaling`, exact to 2^-64 of a turn; or by the angles whose cosines
    and sines are in the tables `cos` and `sin` (float32 [positions, rotary_dim / 2]). A row's position is
    its number in its sequence, plus `offsets` (int32 or int64 [B]); or `positions` ([S] or [B, S], packed
    [T]) have it.

    Returns what `x` is, one tensor or two; `out` likewise, and may be `x`. Errors are those of
    RopePlan.select and RopePlan.run.
    """
    q, k = x if isinstance(x, tuple) else (x, None)
    q_out, k_out = out if isinstance(out, tuple) else (out, None)
    plan, *results = _core.call_rope(
        q, k, q_out, k_out, cos, sin, positions, offsets, cu_seqlens, layout, rotary_dim, interleaved, base,
        scaling, None, None, preference, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return results[0] if k is None else tuple(results)


def rope_backward(
    grad: Tensor | tuple[Tensor, Tensor],
    *,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    base: float | None = 10000.0,
    scaling: _core.RopeScaling | None = None,
    positions: Tensor | None = None,
    offsets: Tensor | None = None,
    rotary_dim: int | None = 0,
    interleaved: bool | None = False,
    cu_seqlens: Tensor | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    out: Any = None,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """The gradient of rope(), given that of its result: it turns the other way; all else is as in rope()."""
    q, k = grad if isinstance(grad, tuple) else (grad, None)
    q_out, k_out = out if isinstance(out, tuple) else (out, None)
    plan, *results = _core.call_rope_backward(
        q, k, q_out, k_out, cos, sin, positions, offsets, cu_seqlens, layout, rotary_dim, interleaved, base,
        scaling, None, None, preference, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return results[0] if k is None else tuple(results)


def _two(name: str, given: Any) -> tuple[Any, Any]:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise _core.InvalidProblem(
            f"operand {name}: a list of two parts required, as the other operand is one; stack more than two"
        )
    return given[0], given[1]
