"""Attention with gradients."""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _core
from ._operators import (
    REFUSED,
    applied,
    autocast_dtype,
    cast,
    check_shape,
    check_type,
    define,
    first_derivative,
    is_direct,
    is_traced,
    needed,
    one_by_one,
    plain,
    readable,
    records,
    schema,
)

_CASTS = ("q", "k", "v", "bias")


class _Operands(NamedTuple):
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    bias: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    alibi_slopes: torch.Tensor | None = None
    sink: torch.Tensor | None = None
    seqused_k: torch.Tensor | None = None
    cu_seqlens_q: torch.Tensor | None = None
    cu_seqlens_k: torch.Tensor | None = None
    rng_state: torch.Tensor | None = None


class _Options(NamedTuple):
    causal: str | None = None
    scale: float | None = None
    left: int = -1
    right: int = -1
    softcap: float = 0.0
    align: str | None = None
    dropout_p: float = 0.0
    layout: str = "bhsd"
    out_dtype: torch.dtype | None = None
    deterministic: bool = False  # of the gradients


def _call(
    o: _Options,
    wants_lse: bool,
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    mask: Any,
    slopes: Any,
    sink: Any,
    seqused_k: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    rng_state: Any,
) -> Any:
    return plain.attention(
        q, k, v, bias=bias, mask=mask, alibi_slopes=slopes, sink=sink, seqused_k=seqused_k,
        cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, rng_state=rng_state, causal=o.causal,
        scale=o.scale, window=(o.left, o.right), softcap=o.softcap, align=o.align, dropout_p=o.dropout_p,
        layout=o.layout, out_dtype=o.out_dtype, return_lse=wants_lse,
    )  # fmt: skip


def _run(x: Sequence[Any], o: _Options, wants_lse: bool = True) -> Any:
    try:
        return _call(o, wants_lse, *x)
    except REFUSED:
        return readable(lambda *operands: _call(o, wants_lse, *operands), *x)


def _call_backward(
    options: _Options,
    wanted: Sequence[bool],
    lse: torch.Tensor,
    grad: Any,
    o: Any,
    q: Any,
    k: Any,
    v: Any,
    bias: Any,
    mask: Any,
    slopes: Any,
    sink: Any,
    seqused_k: Any,
    cu_seqlens_q: Any,
    cu_seqlens_k: Any,
    rng_state: Any,
) -> Any:
    return plain.attention_backward(
        grad, q, k, v, o, lse, bias=bias, mask=mask, alibi_slopes=slopes, sink=sink, seqused_k=seqused_k,
        cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, rng_state=rng_state, causal=options.causal,
        scale=options.scale, window=(options.left, options.right), softcap=options.softcap,
        align=options.align, dropout_p=options.dropout_p, layout=options.layout, dbias=wanted[0],
        dalibi_slopes=wanted[1], dsink=wanted[2], deterministic=options.deterministic,
    )  # fmt: skip


def _run_backward(
    grad: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    wanted: Sequence[bool],
    x: Sequence[Any],
    options: _Options,
) -> Any:
    """dq, dk, dv, dbias, dalibi_slopes and dsink, of these three None where they are not wanted."""
    if grad.dtype != x[0].dtype:
        grad = grad.to(x[0].dtype)
    try:
        return _call_backward(options, wanted, lse, grad, o, *x)
    except REFUSED:
        return readable(lambda *tensors: _call_backward(options, wanted, lse, *tensors), grad, o, *x)


def _fake(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, o = _split(arguments)
    rank = 4 if x.cu_seqlens_q is None else 3
    for name, t in (("q", x.q), ("k", x.k), ("v", x.v)):
        if t.dim() != rank:
            raise _core.ShapeMismatch(
                f"operand {name}: rank {rank} required, got {t.dim()}, of shape {[*t.shape]}"
            )
        check_type(name, t, "q", x.q)
    check_shape("k", x.k, [*x.q.shape[: rank - 3], *x.k.shape[rank - 3 : -1], x.q.shape[-1]])
    check_shape("v", x.v, [*x.k.shape[:-1], x.v.shape[-1]])
    heads = -2 if o.layout == "bshd" else -3
    if x.q.shape[heads] % x.k.shape[heads] != 0:
        raise _core.ShapeMismatch(
            f"operand q: a multiple of k's {x.k.shape[heads]} heads required, got {x.q.shape[heads]}"
        )
    shape = [*x.q.shape[:-1], x.v.shape[-1]]
    rows = shape[:-1]
    if o.layout == "bshd":
        rows[-2:] = rows[-1], rows[-2]
    return x.q.new_empty(shape, dtype=o.out_dtype or x.q.dtype), x.q.new_empty(rows, dtype=torch.float32)


def _split(arguments: Sequence[Any]) -> tuple[_Operands, _Options]:
    count = len(_Operands._fields)
    return _Operands(*arguments[:count]), _Options(*arguments[count:])


def _real_backward(
    grad: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    dbias: bool,
    dalibi_slopes: bool,
    dsink: bool,
    *rest: Any,
) -> list[torch.Tensor]:
    made = _run_backward(grad, o, lse, (dbias, dalibi_slopes, dsink), *_split(rest))
    return [t for t in made if t is not None]


def _fake_backward(
    grad: torch.Tensor,
    o: torch.Tensor,
    lse: torch.Tensor,
    dbias: bool,
    dalibi_slopes: bool,
    dsink: bool,
    *rest: Any,
) -> list[torch.Tensor]:
    x, _ = _split(rest)
    further = ((x.bias, dbias), (x.alibi_slopes, dalibi_slopes), (x.sink, dsink))
    there: list[Any] = [x.q, x.k, x.v, *(t for t, wanted in further if wanted)]
    return [t.new_empty(t.shape) for t in there]


# ---- FLOPs: two products forward, five backward ----


def _product_flops(q: Any, k: Any, v: Any, layout: str) -> int:
    """Of one product with D and one with Dv, all keys for all queries; packed rows as one sequence."""
    *batch, heads, rows, dim = q if layout == "bhsd" else [*q[:-3], q[-2], q[-3], q[-1]]
    keys = k[-2] if layout == "bhsd" else k[-3]
    return 2 * _math.prod(batch) * heads * rows * keys * (dim + v[-1])


_LAYOUT = len(_Operands._fields) + _Options._fields.index("layout")


def _flops(*arguments: Any, **_: Any) -> int:
    q, k, v = arguments[:3]
    return _product_flops(q, k, v, _layout(arguments, _LAYOUT))


def _flops_backward(*arguments: Any, **_: Any) -> int:
    q, k, v = arguments[6:9]
    layout = _layout(arguments, 6 + _LAYOUT)
    return 2 * _product_flops(q, k, v, layout) + _product_flops(q, k, q, layout) // 2


def _layout(arguments: Sequence[Any], place: int) -> str:
    return arguments[place] if len(arguments) > place else "bhsd"


# ---- vmap: the batch is part of B ----


def _fold(x: torch.Tensor, dim: int | None, batch: int) -> torch.Tensor:
    """[B, ...] as [batch B, ...]."""
    x = x.expand(batch, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.reshape(-1, *x.shape[2:])


def _can_fold(x: _Operands, dims: _Operands) -> bool:
    return x.cu_seqlens_q is None and dims.sink is None and dims.rng_state is None


def _fold_operands(x: _Operands, dims: _Operands, batch: int) -> _Operands:
    entries = x.q.shape[0] if dims.q is None else x.q.movedim(dims.q, 0).shape[1]
    made: dict[str, Any] = {}
    for name, t, dim in zip(_Operands._fields, x, dims, strict=True):
        if t is None or name in ("sink", "rng_state"):
            made[name] = t
            continue
        rank = t.dim() - (dim is not None)
        if name in ("bias", "mask", "alibi_slopes"):
            whole = 2 if name == "alibi_slopes" else 4
            if dim is None and (rank < whole or t.shape[0] == 1):
                made[name] = t  # for all
                continue
            t = t.movedim(dim, 0) if dim is not None else t.expand(batch, *t.shape)
            t = t.reshape(batch, *[1] * (whole - rank), *t.shape[1:])
            t, dim = t.expand(batch, entries, *t.shape[2:]), 0
        made[name] = _fold(t, dim, batch)
    return _Operands(**made)


def _vmap(operator: Any) -> Any:
    each = one_by_one(operator)

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        x, o = _split(arguments)
        dims = _Operands(*in_dims[: len(x)])
        if not _can_fold(x, dims) or o.dropout_p > 0:
            return each(info, in_dims, *arguments)
        made = operator(*_fold_operands(x, dims, info.batch_size), *o)
        return tuple(t.unflatten(0, (info.batch_size, -1)) for t in made), (0, 0)

    return rule


def _vmap_backward(operator: Any) -> Any:
    each = one_by_one(operator)

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        count = len(_Operands._fields)
        x, o = _split(arguments[6:])
        dims = _Operands(*in_dims[6 : 6 + count])
        wanted = arguments[3:6]
        if (
            not _can_fold(x, dims) or o.dropout_p > 0 or any(wanted)
        ):  # whose gradients are sums over the batch
            return each(info, in_dims, *arguments)
        outer = [_fold(t, dim, info.batch_size) for t, dim in zip(arguments[:3], in_dims[:3], strict=True)]
        made = operator(*outer, *wanted, *_fold_operands(x, dims, info.batch_size), *o)
        return [t.unflatten(0, (info.batch_size, -1)) for t in made], [0] * len(made)

    return rule


# ---- The operators ----

attention_backward_operator = define(
    "attention_backward",
    "Tensor grad, Tensor o, Tensor lse, bool dbias, bool dalibi_slopes, bool dsink, "
    + schema(_Operands, _Options),
    "Tensor[]",
    _real_backward,
    _fake_backward,
    vmap=_vmap_backward,
    flops=_flops_backward,
)


def _setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, ctx.options = _split(inputs)
    o, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(*x, o, lse)


def _wanted(needs: Sequence[bool]) -> tuple[bool, ...]:
    """Whether gradients of bias, slopes and sink are, by what is of the operands."""
    return tuple(needs[_Operands._fields.index(name)] for name in ("bias", "alibi_slopes", "sink"))


def _gradients(
    saved: Sequence[Any], grad: torch.Tensor, needs: Sequence[bool], options: _Options
) -> tuple[Any, ...]:
    """One for each operand."""
    *x, o, lse = saved
    wanted = _wanted(needs)
    if is_traced(grad, x[0]):
        made = iter(attention_backward_operator(grad, o, lse, *wanted, *x, *options))
        of_all = [next(made), next(made), next(made), *(next(made) if w else None for w in wanted)]
    else:
        of_all = _run_backward(grad, o, lse, wanted, x, options)
    dq, dk, dv, dbias, dalibi_slopes, dsink = of_all
    return (dq, dk, dv, dbias, None, dalibi_slopes, dsink, None, None, None, None)


@first_derivative("cutplan::attention_backward")
def _operator_backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor, _: Any) -> tuple[Any, ...]:
    made = _gradients(saved, grad, needed(ctx, _Operands._fields), ctx.options)
    return (*made, *[None] * len(_Options._fields))


attention_operator = define(
    "attention",
    schema(_Operands, _Options),
    "(Tensor, Tensor)",
    lambda *arguments: _run(*_split(arguments)),
    _fake,
    setup_context=_setup,
    backward=_operator_backward,
    vmap=_vmap,
    casts=_CASTS,
    flops=_flops,
)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, options: _Options, *operands: Any) -> Any:
        o, lse = made = _run(operands, options)
        ctx.options = options
        ctx.mark_non_differentiable(lse)
        ctx.save_for_backward(*operands, o, lse)
        return made

    @staticmethod
    @first_derivative("cutplan::attention_backward")
    def backward(ctx: Any, saved: Sequence[Any], *grads: torch.Tensor) -> Any:
        return (None, *_gradients(saved, grads[0], ctx.needs_input_grad[1:], ctx.options))


_apply_attention = applied(_Attention)


def _attention(x: _Operands, o: _Options, wants_lse: bool) -> Any:
    """o, or (o, lse)."""
    if is_traced(x.q, x.k, x.v):
        made = attention_operator(*x, *o)
        return made if wants_lse else made[0]
    dtype = autocast_dtype(x.q)
    if dtype is not None:
        x = _Operands(
            *(cast(t, dtype) if n in _CASTS else t for n, t in zip(_Operands._fields, x, strict=True))
        )
    if records(x.q, x.k, x.v, x.bias, x.alibi_slopes, x.sink):
        made = _apply_attention(o, *x)
        return made if wants_lse else made[0]
    return _run(x, o, wants_lse)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: str | None = None,
    scale: float | None = None,
    window: tuple[int, int] | None = (-1, -1),
    softcap: float = 0.0,
    align: str | None = None,
    alibi_slopes: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    sink: torch.Tensor | None = None,
    seqused_k: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    rng_state: torch.Tensor | None = None,
    return_lse: bool = False,
    out_dtype: torch.dtype | None = None,
    deterministic: bool = False,
    layout: str = "bhsd",
) -> Any:
    """cutplan.attention() with gradients for q, k, v, `bias`, `alibi_slopes` and `sink`; lse has none.

    All is as there, but for what torch's own functions do otherwise: autocast casts q, k, v and the bias,
    operands whose strides no kernel reads are copied, and without `rng_state` dropout takes a seed from
    torch's generator of q's device. `deterministic` is that of the gradients. They cannot be differentiated
    again.
    """
    if dropout_p > 0 and rng_state is None:
        rng_state = torch.randint(0, 2**62, (2,), dtype=torch.int64, device=q.device)
    x = _Operands(q, k, v, bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state)
    if is_direct(q, k, v) and not records(q, k, v, bias, alibi_slopes, sink):
        try:
            return plain.attention(
                q, k, v, causal=causal, scale=scale, window=window, softcap=softcap, align=align,
                alibi_slopes=alibi_slopes, bias=bias, mask=mask, sink=sink, seqused_k=seqused_k,
                cu_seqlens_q=cu_seqlens_q, cu_seqlens_k=cu_seqlens_k, dropout_p=dropout_p,
                rng_state=rng_state, return_lse=return_lse, out_dtype=out_dtype, layout=layout,
            )  # fmt: skip
        except REFUSED:
            pass
    left, right = (-1, -1) if window is None else window
    o = _Options(causal, scale, left, right, softcap, align, dropout_p, layout, out_dtype, deterministic)
    return _attention(x, o, return_lse)


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """torch.nn.functional.scaled_dot_product_attention(), argument for argument.

    `query` [..., Hq, L, E], `key` [..., H, S, E], `value` [..., H, S, Ev]; `attn_mask` broadcasts to [...,
    Hq, L, S], bool (True takes part) or floating (is added); `is_causal` aligns at the top left. A row that
    sees no key gives 0. Where the heads of a row of `query` lie side by side, so do those of the result.
    """
    if min(query.dim(), key.dim(), value.dim()) < 2:
        raise RuntimeError(
            "scaled_dot_product_attention: at least 2 dimensions of query, key and value required, got "
            f"{query.dim()}, {key.dim()} and {value.dim()}"
        )
    if not 0 <= dropout_p < 1:
        raise RuntimeError(
            f"scaled_dot_product_attention: dropout_p from 0 to below 1 required, got {dropout_p}"
        )
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: no attn_mask required with is_causal=True, got one")
    outer = None
    of_query, of_key = query.shape[:-2], key.shape[:-2]
    as_they_are = len(of_query) == 2 and of_key == value.shape[:-2]
    if not as_they_are or (of_query[:1] != of_key[:1] if enable_gqa else of_query != of_key):
        heads, of_keys = (x[-1] if x else 1 for x in (of_query, of_key))
        if not enable_gqa and heads != of_keys and heads != 1 and of_keys != 1:
            raise RuntimeError(
                f"scaled_dot_product_attention: {heads} heads of key required, query's, got {of_keys}; "
                "pass enable_gqa=True where query's are a multiple"
            )
        query, key, value, attn_mask, outer = _four_dimensions(query, key, value, attn_mask, enable_gqa)
    bias = mask = None
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            mask = attn_mask
        elif attn_mask.dtype in (query.dtype, torch.float32) or autocast_dtype(query) is not None:
            bias = attn_mask
        else:
            raise RuntimeError(
                f"scaled_dot_product_attention: attn_mask of torch.bool or {query.dtype}, query's type, "
                f"required, got {attn_mask.dtype}"
            )
    if dropout_p > 0:
        rng_state = torch.randint(0, 2**62, (2,), dtype=torch.int64, device=query.device)
    else:
        rng_state = None
    causal = "top_left" if is_causal else None
    # Of a projection's result, whose heads lie side by side, the result is ordered so too: torch's is, and
    # what comes after takes the heads of a row together.
    rows_first = (
        query.stride(1) < query.stride(2)
        and query.shape[3] == key.shape[3]
        and key.shape[:3] == value.shape[:3]
    )
    layout = "bhsd"
    if rows_first:
        query, key, value, layout = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), "bshd"
    result = None
    if is_direct(query, key, value) and not records(query, key, value, bias):
        try:
            result = plain.attention(
                query, key, value, causal=causal, scale=scale, bias=bias, mask=mask, dropout_p=dropout_p,
                rng_state=rng_state, layout=layout,
            )  # fmt: skip
        except REFUSED:
            result = None
    if result is None:
        x = _Operands(query, key, value, bias, mask, None, None, None, None, None, rng_state)
        result = _attention(x, _Options(causal, scale, dropout_p=dropout_p, layout=layout), False)
    if rows_first:
        result = result.transpose(1, 2)
    return result if outer is None else result.reshape(*outer, *result.shape[-2:])


def _four_dimensions(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, gqa: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, Any]:
    """Batches that broadcast, and all that are more or fewer than one, as one; also the result's without its
    rows."""
    if gqa:
        batch = torch.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
        outer = (*batch, q.shape[-3])
        q, k, v = (x.expand(*batch, *x.shape[-3:]) for x in (q, k, v))
    else:
        outer = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        q, k, v = (x.expand(*outer, *x.shape[-2:]) for x in (q, k, v))
    if mask is not None and len(outer) != 2:
        rank = len(outer) + 2
        mask = mask.reshape(*[1] * (rank - mask.dim()), *mask.shape)
        if len(outer) < 2:
            mask = mask.reshape(*[1] * (4 - rank), *mask.shape)
        else:
            of_batch = mask.shape[: len(outer) - 1]
            if any(size != 1 for size in of_batch):
                mask = mask.expand(*outer[:-1], *mask.shape[-3:])
                mask = mask.flatten(0, -4)
            else:
                mask = mask.reshape(1, *mask.shape[-3:])
    if len(outer) < 2:
        q, k, v = (x.reshape(*[1] * (4 - x.dim()), *x.shape) for x in (q, k, v))
    elif len(outer) > 2:
        q, k, v = (x.flatten(0, -4) for x in (q, k, v))
    return q, k, v, mask, outer
