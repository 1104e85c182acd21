"""Attention in float64 on exactly the operands that a kernel reads: every output and gradient, and what the
bound on its error is relative to.

With w_ij the weight of key j for query i after dropout, p_ij the one before, g the gradient of O and
e_ij = keep_ij sum_c |g_ic v_jc| + sum_c |g_ic| max(|o_ic|, the smallest normal number of O's type), the
magnitudes are

    o      sum_j w_ij |v_jc|                    dbias          p_ij e_ij, summed like dbias
    lse    1                                    dalibi_slopes  sum p_ij e_ij |i + off - j|
    dv     sum_i w_ij |g_ic|                    dsink          sum_i p_sink,i sum_c |g_ic o_ic|
    dq     scale sum_j p_ij e_ij |k_jd|
    dk     scale sum_i p_ij e_ij |q_id|

and the size of a query's scores is the largest of scale sum_d |q_id k_jd| + |slope (i + off - j)| + |bias_ij|
over the keys that take part, and of |sink|. What docs/numerics.md leaves outside of the bound on a GPU is
added there: what underflow does to small weights and score gradients, as so much more of each in the
magnitudes; and dbias, dalibi_slopes and dsink take a float32 rounding for each term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tests.oracle import Reference

_UNIT = 2.0**-53
_WORD = 0xFFFFFFFF


# ---- dropout: the integer arithmetic of cpp/src/fmha/score.hpp


def philox(counter: Sequence[torch.Tensor | int], key: Sequence[int]) -> list[torch.Tensor]:
    """Philox4x32-10. Words are int64 tensors below 2^32; products wrap modulo 2^64 as unsigned ones do."""
    c0, c1, c2, c3 = (torch.as_tensor(word, dtype=torch.int64) for word in counter)
    k0, k1 = key
    for _ in range(10):
        low, high = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (
            (high >> 32 & _WORD) ^ c1 ^ k0,
            high & _WORD,
            (low >> 32 & _WORD) ^ c3 ^ k1,
            low & _WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return [c0, c1, c2, c3]


def keep_threshold(dropout_p: float) -> int:
    return max(1, int((1 - dropout_p) * 65536 + 0.5))


def kept(
    rng_state: tuple[int, int],
    dropout_p: float,
    batch_heads: torch.Tensor,
    len_q: int,
    len_k: int,
) -> torch.Tensor:
    """Which weights dropout keeps: bool [*batch_heads.shape, len_q, len_k], for each batch * H + head."""
    seed, offset = (word & 0xFFFFFFFFFFFFFFFF for word in rng_state)
    device = batch_heads.device
    groups = torch.arange(-(-len_k // 8), device=device)
    rows = torch.arange(len_q, device=device)[:, None]
    words = philox(
        [groups, rows, batch_heads[..., None, None], offset & _WORD],
        [seed & _WORD, seed >> 32 ^ offset >> 32],
    )
    halves = [half for word in words for half in (word & 0xFFFF, word >> 16)]
    shape = (*batch_heads.shape, len_q, groups.numel())
    bits = torch.stack([half.expand(shape) for half in halves], -1).flatten(-2)
    return bits[..., :len_k] < keep_threshold(dropout_p)


# ---- the problem, dense


@dataclass(frozen=True)
class Operands:
    """What a call is given: q, k, v and grad as [B, H, S, D], packed [H, T, D], whatever the layout."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    alibi_slopes: torch.Tensor | None = None
    sink: torch.Tensor | None = None
    seqused_k: Sequence[int] | None = None
    cu_seqlens_q: Sequence[int] | None = None
    cu_seqlens_k: Sequence[int] | None = None
    rng_state: tuple[int, int] | None = None
    scale: float | None = None
    causal: str | None = None
    align: str | None = None
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    dropout_p: float = 0.0


def visible_keys(x: Operands, len_q: int, len_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which keys a query sees by causal and window, and |i + off - j|: both [len_q, len_k]."""
    alignment = x.causal or x.align or "bottom_right"
    offset = 0 if alignment == "top_left" else len_k - len_q
    i = torch.arange(len_q, device=x.q.device)[:, None]
    j = torch.arange(len_k, device=x.q.device)
    seen = torch.ones(len_q, len_k, dtype=torch.bool, device=x.q.device)
    left, right = x.window
    if x.causal:
        seen &= j <= i + offset
    if left >= 0:
        seen &= j >= i + offset - left
    if right >= 0:
        seen &= j <= i + offset + right
    return seen, (i + offset - j).abs().double()


def _largest(x: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """The maximum of what is not negative, kept in rank; 0 where there is nothing."""
    for dim in dims:
        x = x.amax(dim, keepdim=True) if x.shape[dim] else x.sum(dim, keepdim=True)
    return x


@dataclass
class _Block:
    """Sequences of equal lengths: where they lie in the operands, and what to add to the batch index."""

    batch: slice
    rows_q: slice
    rows_k: slice


def _blocks(x: Operands) -> Iterator[_Block]:
    everything = slice(None)
    if x.cu_seqlens_q is not None and x.cu_seqlens_k is not None:
        for b in range(len(x.cu_seqlens_q) - 1):
            first, end = x.cu_seqlens_k[b], x.cu_seqlens_k[b + 1]
            if x.seqused_k is not None:
                end = min(end, first + x.seqused_k[b])
            yield _Block(slice(b, b + 1), slice(x.cu_seqlens_q[b], x.cu_seqlens_q[b + 1]), slice(first, end))
    elif x.seqused_k is not None:
        for b, used in enumerate(x.seqused_k):
            yield _Block(slice(b, b + 1), everything, slice(0, used))
    else:
        yield _Block(slice(0, x.q.shape[0]), everything, everything)


def _take(x: torch.Tensor, dim: int, which: slice) -> torch.Tensor:
    """A slice of a tensor that may be broadcast along `dim`."""
    if x.shape[dim] == 1:
        return x
    index = [slice(None)] * x.ndim
    index[dim] = which
    return x[tuple(index)]


def _rank4(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x[(None,) * (4 - x.ndim)]


Results = dict[str, Reference]


def attention(x: Operands, stored_o: torch.dtype = torch.float64, computed_o: bool = False) -> Results:
    """References by the name of the output; the gradients where there is a `grad`.

    `stored_o`: the type of the O that the backward reads: |o| counts as no less than its smallest normal
    number, below which rounding is not relative. `computed_o`: whether a kernel wrote that O, so that its
    error is relative to the size of its terms; otherwise it is the exact O, rounded.
    """
    packed = x.cu_seqlens_q is not None
    q, k, v = (t[None] if packed else t for t in (x.q, x.k, x.v))
    grad = None if x.grad is None else x.grad[None] if packed else x.grad
    bias, mask = _rank4(x.bias), _rank4(x.mask)
    batch = len(x.cu_seqlens_q) - 1 if x.cu_seqlens_q is not None else q.shape[0]
    heads, group = q.shape[1], q.shape[1] // k.shape[1] if k.shape[1] else 1
    out = _Collected(q, k, v, x, bias, batch, grad is not None)
    scale = x.scale if x.scale is not None else 1 / math.sqrt(q.shape[-1])
    slopes = None if x.alibi_slopes is None else x.alibi_slopes.double().expand(batch, heads)

    for block in _blocks(x):
        at = slice(0, 1) if packed else block.batch
        bq = q[at, :, block.rows_q].double()
        bk = k[at, :, block.rows_k].double().repeat_interleave(group, 1)
        bv = v[at, :, block.rows_k].double().repeat_interleave(group, 1)
        len_q, len_k = bq.shape[2], bk.shape[2]
        seen, distance = visible_keys(x, len_q, len_k)
        seen = seen.expand(bq.shape[0], heads, len_q, len_k)

        z = scale * (bq @ bk.mT)
        size = abs(scale) * (bq.abs() @ bk.abs().mT)
        stretch = torch.ones((), dtype=torch.float64, device=q.device)  # d score / d (scale q k)
        if x.softcap > 0:
            squashed = torch.tanh(z / x.softcap)
            z, stretch = x.softcap * squashed, 1 - squashed * squashed
        if slopes is not None:
            lean = slopes[block.batch][..., None, None] * distance
            z, size = z - lean, size + lean.abs()
        if bias is not None:
            part = _take(_take(bias, 0, block.batch), 3, slice(0, len_k)).double()
            z, size = z + part, size + part.abs()
        if mask is not None:
            seen = seen & _take(_take(mask, 0, block.batch), 3, slice(0, len_k))
        z = z.masked_fill(~seen, -torch.inf)
        size = _largest(size.masked_fill(~seen, 0.0), [3])  # [N, H, len_q, 1]
        sink = torch.full_like(z[..., :1].sum(-1, keepdim=True), -torch.inf)
        if x.sink is not None:
            sink = x.sink.double()[:, None, None].expand_as(sink)
            size = torch.maximum(size, sink.abs())
        lse = torch.logsumexp(torch.cat([z, sink], -1), -1, keepdim=True)
        level = lse.masked_fill(lse == -torch.inf, 0.0)
        p, p_sink = torch.exp(z - level), torch.exp(sink - level)
        keep = torch.ones((), dtype=torch.float64, device=q.device)
        if x.rng_state is not None:
            index = torch.arange(batch * heads, device=q.device).view(batch, heads)[block.batch]
            keep = kept(x.rng_state, x.dropout_p, index, len_q, len_k).double()
            keep = keep * (65536 / keep_threshold(x.dropout_p))
        w = p * keep
        nothing = torch.zeros((), dtype=torch.float64, device=q.device)
        w_floor, p_floor, score_floor = nothing, nothing, nothing
        if q.is_cuda and q.dtype == torch.float16:
            w_floor, p_floor, score_floor = seen * keep * 2.0**-21, seen * 2.0**-29, seen * 2.0**-14
        elif q.is_cuda:
            w_floor, p_floor = seen * keep * 2.0**-118, seen * 2.0**-118
        # the oracle's own roundings: of sums over keys, queries and dimensions, and of exponentials
        own = (q.shape[-1] + v.shape[-1] + len_k + group * len_q + 64) * _UNIT * (1 + size)

        o, o_size = w @ bv, (w + w_floor) @ bv.abs()
        out.put("o", at, block.rows_q, o, o_size, own, size)
        out.put("lse", at, block.rows_q, lse, torch.ones_like(lse), own * (1 + level.abs()), size)
        if grad is None:
            continue
        g = grad[at, :, block.rows_q].double()
        delta = (g * o).sum(-1, keepdim=True)
        rounded = (o_size if computed_o else o.abs()).clamp(min=torch.finfo(stored_o).smallest_normal)
        delta_size = (g.abs() * rounded).sum(-1, keepdim=True)
        dz = p * (keep * (g @ bv.mT) - delta)
        dz_size = (p + p_floor) * (keep * (g.abs() @ bv.abs().mT) + delta_size)
        ds = dz * stretch
        across = _largest(size.expand_as(z).masked_fill(~seen, 0.0), [2]).mT  # [N, H, len_k, 1]
        ds_size = dz_size + score_floor
        out.put("dq", at, block.rows_q, scale * (ds @ bk), abs(scale) * (ds_size @ bk.abs()), own, size)
        own_of_keys = _largest(own, [2])
        for name, exact, magnitude in (
            ("dk", scale * (ds.mT @ bq), abs(scale) * (ds_size.mT @ bq.abs())),
            ("dv", w.mT @ g, (w + keep * p_floor).mT @ g.abs()),
        ):
            exact, magnitude, of_keys, own_here = (
                t.unflatten(1, (k.shape[1], group)) for t in (exact, magnitude, across, own_of_keys)
            )
            out.put(
                name,
                at,
                block.rows_k,
                exact.sum(2),
                magnitude.sum(2),
                _largest(own_here, [2])[:, :, 0],
                _largest(of_keys, [2])[:, :, 0],
            )
        if bias is not None:
            out.add_bias(block, dz, dz_size, own, size.expand_as(z).masked_fill(~seen, 0.0))
        if slopes is not None:
            lean, lean_size = -(dz * distance), dz_size * distance
            out.add_head("dalibi_slopes", block, lean, lean_size, own, size)
        if x.sink is not None:
            out.add_head("dsink", block, -(p_sink * delta), p_sink * delta_size, own, size)
    return out.results(packed)


class _Collected:
    """References of whole outputs, filled block by block."""

    def __init__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        x: Operands,
        bias: torch.Tensor | None,
        batch: int,
        backward: bool,
    ) -> None:
        self._x, self._device = x, q.device
        o_shape = (*q.shape[:3], v.shape[-1])
        shapes: dict[str, Sequence[int]] = {"o": o_shape, "lse": (*q.shape[:3], 1)}
        if backward:
            shapes |= {"dq": q.shape, "dk": k.shape, "dv": v.shape}
            if bias is not None:
                shapes["dbias"] = bias.shape
            if x.alibi_slopes is not None:
                shapes["dalibi_slopes"] = x.alibi_slopes.shape
            if x.sink is not None:
                shapes["dsink"] = x.sink.shape
        self._kept = {name: [self._zeros(shape) for _ in range(4)] for name, shape in shapes.items()}
        # a row of a packed operand that no sequence covers is nobody's; one without a key has this LSE
        self._kept["lse"][0].fill_(-torch.inf)

    def _zeros(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.zeros(tuple(shape), dtype=torch.float64, device=self._device)

    def put(
        self,
        name: str,
        batch: slice,
        rows: slice,
        exact: torch.Tensor,
        magnitude: torch.Tensor,
        own: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:
        for whole, part in zip(self._kept[name], (exact, magnitude, own * magnitude, scores), strict=True):
            whole[batch, :, rows] = part.expand_as(exact)

    def _accumulate(self, where: list[torch.Tensor], parts: Sequence[torch.Tensor]) -> None:
        exact, magnitude, error, scores = parts
        where[0] += exact
        where[1] += magnitude
        where[2] += error
        where[3].copy_(torch.maximum(where[3], scores.expand_as(where[3])))

    def _rounding(self, terms: torch.Tensor, summed: Sequence[int]) -> float:
        """Of float32, for each term of a sum on a GPU."""
        return math.prod(terms.shape[dim] for dim in summed) * 2.0**-24 if terms.is_cuda else 0.0

    def add_bias(
        self, block: _Block, dz: torch.Tensor, dz_size: torch.Tensor, own: torch.Tensor, scores: torch.Tensor
    ) -> None:
        whole = self._kept["dbias"]
        shape = whole[0].shape
        where = [_take(_take(t, 0, block.batch), 3, slice(0, dz.shape[3])) for t in whole]
        summed = [dim for dim in range(4) if shape[dim] == 1]
        own = own * 4 + self._rounding(dz, summed) if summed else own
        sums = [t.sum(summed, keepdim=True) if summed else t for t in (dz, dz_size, own * dz_size)]
        self._accumulate(where, [*sums, _largest(scores, summed)])

    def add_head(
        self,
        name: str,
        block: _Block,
        exact: torch.Tensor,
        magnitude: torch.Tensor,
        own: torch.Tensor,
        scores: torch.Tensor,
    ) -> None:
        whole = self._kept[name]
        per_batch = whole[0].ndim == 2
        where = [t[block.batch] for t in whole] if per_batch else whole
        summed = [2, 3] if per_batch else [0, 2, 3]
        own = own * 4 + self._rounding(exact, summed)
        parts = [t.sum(summed) for t in (exact, magnitude, own * magnitude)]
        largest = _largest(scores, summed)
        self._accumulate(where, [*parts, largest.reshape(parts[0].shape)])

    def results(self, packed: bool) -> Results:
        out = {}
        for name, tensors in self._kept.items():
            if name in ("o", "lse", "dq", "dk", "dv") and packed:
                tensors = [t[0] for t in tensors]
            if name == "lse":
                tensors = [t[..., 0] for t in tensors]
            if name == "dbias" and self._x.bias is not None:
                tensors = [t.view(self._x.bias.shape) for t in tensors]
            exact, magnitude, error, scores = tensors
            out[name] = Reference(exact, magnitude, error, scores)
        return out


@dataclass(frozen=True)
class Guarantee:
    """The bound of one output, where its type is not the one that the plan's figures are for."""

    lipschitz: float
    accumulation: float
    evaluation: float
    scores: float
    rounding: float
    smallest: float
    largest: float

    @staticmethod
    def of(guarantee: Any, stored: torch.dtype) -> Guarantee:
        info = torch.finfo(stored)
        tiny = info.smallest_normal * info.eps / 2 if stored == torch.float16 else info.smallest_normal
        return Guarantee(
            guarantee.lipschitz,
            guarantee.accumulation,
            guarantee.evaluation,
            guarantee.scores,
            info.eps / 2,
            max(guarantee.smallest, tiny),
            min(guarantee.largest, info.max),
        )
