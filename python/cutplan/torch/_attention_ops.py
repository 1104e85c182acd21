"""What stands around attention: rotary embedding, ALiBi and merged states with gradients, and caches, which
have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _core
from ._operators import (
    applied,
    define,
    first_derivative,
    is_traced,
    plain,
    readable,
    records,
    refuse_derivative,
    schema,
)

# ---- Rotary embedding: its gradient turns the other way, and is as easily differentiated again ----

_STRETCH = (
    "factor", "original_max_position", "beta_fast", "beta_slow", "attention_factor", "low_freq_factor",
    "high_freq_factor",
)  # fmt: skip


def _fields(scaling: _core.RopeScaling) -> tuple[str, list[float]]:
    return str(scaling.kind), [float(getattr(scaling, name)) for name in _STRETCH]


_UNSCALED = _fields(_core.RopeScaling("none"))
_fields_of: Any = torch.compiler.assume_constant_result(_fields)  # torch.compile cannot look into one


class _Rope(NamedTuple):
    cos: torch.Tensor | None
    sin: torch.Tensor | None
    positions: torch.Tensor | None
    offsets: torch.Tensor | None
    cu_seqlens: torch.Tensor | None
    base: float
    scaling: str
    stretch: list[float]
    rotary_dim: int
    interleaved: bool
    layout: str


def _run_rope(x: torch.Tensor, k: torch.Tensor | None, o: _Rope, backward: bool) -> list[torch.Tensor]:
    stretch: Any = dict(zip(_STRETCH, o.stretch, strict=True))
    stretch["original_max_position"] = int(stretch["original_max_position"])
    scaling = _core.RopeScaling(o.scaling, **stretch)  # type: ignore[arg-type]
    function = plain.rope_backward if backward else plain.rope

    def call(x: Any, k: Any, cos: Any, sin: Any, positions: Any, offsets: Any, cu_seqlens: Any) -> Any:
        made = function(
            x if k is None else (x, k), cos=cos, sin=sin, positions=positions, offsets=offsets,
            cu_seqlens=cu_seqlens, base=o.base, scaling=scaling, rotary_dim=o.rotary_dim,
            interleaved=o.interleaved, layout=o.layout,
        )  # fmt: skip
        return [made] if k is None else list(made)

    return readable(call, x, k, *o[:5])


def _fake_rope(x: torch.Tensor, k: torch.Tensor | None, *_: Any) -> list[torch.Tensor]:
    return [t.new_empty(t.shape) for t in (x, k) if t is not None]


def _setup_rope(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, k, *rest = inputs
    o = _Rope(*rest)
    ctx.save_for_backward(*o[:5])
    ctx.options = o[5:]


def _rope_gradient(backward: bool) -> Any:
    def gradient(ctx: Any, *grads: Any) -> Any:
        dx, *rest = grads[0] if isinstance(grads[0], (list, tuple)) else grads  # of an operator one list
        made = _turn(dx, rest[0] if rest else None, _Rope(*ctx.saved_tensors, *ctx.options), not backward)
        return (*made, *[None] * (2 - len(made)), *[None] * len(_Rope._fields))

    return gradient


_rope_operators = {
    backward: define(
        "rope_backward" if backward else "rope",
        "Tensor x, Tensor? k, " + schema(_Rope),
        "Tensor[]",
        lambda x, k, *rest, way=backward: _run_rope(x, k, _Rope(*rest), way),
        _fake_rope,
        setup_context=_setup_rope,
        backward=_rope_gradient(backward),
    )
    for backward in (False, True)
}


class _RopeFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: _Rope, backward: bool, x: torch.Tensor, k: torch.Tensor | None) -> Any:
        ctx.save_for_backward(*o[:5])
        ctx.options, ctx.way = o[5:], backward
        return tuple(_run_rope(x, k, o, backward))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        o = _Rope(*ctx.saved_tensors, *ctx.options)
        made = _turn(grads[0], grads[1] if len(grads) > 1 else None, o, not ctx.way)
        return (None, None, *made, *[None] * (2 - len(made)))


_apply_ropefunction = applied(_RopeFunction)


def _turn(x: torch.Tensor, k: torch.Tensor | None, o: _Rope, backward: bool) -> Any:
    if is_traced(x):
        return _rope_operators[backward](x, k, *o)
    if records(x, k):
        return _apply_ropefunction(o, backward, x, k)
    return _run_rope(x, k, o, backward)


def rope(
    x: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
    *,
    cos: torch.Tensor | None = None,
    sin: torch.Tensor | None = None,
    base: float = 10000.0,
    scaling: _core.RopeScaling | None = None,
    positions: torch.Tensor | None = None,
    offsets: torch.Tensor | None = None,
    rotary_dim: int = 0,
    interleaved: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    layout: str = "bhsd",
) -> Any:
    """cutplan.rope() with gradients for `x`, one tensor or (q, k); tables have none."""
    for name, table in (("cos", cos), ("sin", sin)):
        if records(table):
            raise RuntimeError(
                f"operand {name}: no gradient required, got a tensor that requires grad; pass {name}.detach()"
            )
    kind, stretch = _UNSCALED if scaling is None else _fields_of(scaling)
    o = _Rope(
        cos, sin, positions, offsets, cu_seqlens, base, kind, stretch, rotary_dim, interleaved, layout,
    )  # fmt: skip
    q, k = x if isinstance(x, (tuple, list)) else (x, None)
    made = _turn(q, k, o, False)
    return made[0] if k is None else tuple(made)


# ---- ALiBi ----


def _fake_alibi_backward(grad: torch.Tensor, slopes: torch.Tensor, distance: str, align: str) -> torch.Tensor:
    return slopes.new_empty(slopes.shape)


alibi_slopes_operator = define(
    "alibi_backward",
    "Tensor grad, Tensor slopes, str distance, str align",
    "Tensor",
    lambda grad, slopes, distance, align: _slopes_gradient(grad, distance, align),
    _fake_alibi_backward,
)


def _slopes_gradient(grad: torch.Tensor, distance: str, align: str) -> Any:
    return plain.alibi_backward(grad, distance=distance, align=align, dscores=False).dslopes


def _setup_alibi(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    _, slopes, *ctx.options = inputs
    ctx.save_for_backward(slopes)


def _alibi_gradients(ctx: Any, saved: Any, grad: torch.Tensor, needs_slopes: bool) -> tuple[Any, Any]:
    """That of scores is the result's, itself."""
    (slopes,) = saved
    dslopes = None
    if needs_slopes:
        call = (
            alibi_slopes_operator if is_traced(grad) else lambda g, _, *options: _slopes_gradient(g, *options)
        )
        dslopes = call(grad, slopes, *ctx.options)
    return grad, dslopes


@first_derivative("cutplan::alibi_backward")
def _alibi_operator_backward(ctx: Any, saved: Any, grad: torch.Tensor) -> Any:
    return (*_alibi_gradients(ctx, saved, grad, ctx.needs_input_grad[1]), None, None)


alibi_operator = define(
    "alibi",
    "Tensor scores, Tensor slopes, str distance, str align",
    "Tensor",
    lambda scores, slopes, distance, align: plain.alibi(scores, slopes, distance=distance, align=align),
    lambda scores, *_: scores.new_empty(scores.shape),
    setup_context=_setup_alibi,
    backward=_alibi_operator_backward,
)


class _Alibi(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, slopes: torch.Tensor, distance: str, align: str) -> Any:
        ctx.options = (distance, align)
        ctx.save_for_backward(slopes)
        return plain.alibi(scores, slopes, distance=distance, align=align)

    @staticmethod
    @first_derivative("cutplan::alibi_backward")
    def backward(ctx: Any, saved: Any, *grads: torch.Tensor) -> Any:
        return (*_alibi_gradients(ctx, saved, grads[0], ctx.needs_input_grad[1]), None, None)


_apply_alibi = applied(_Alibi)


def alibi(
    scores: torch.Tensor, slopes: torch.Tensor, *, distance: str = "signed", align: str = "top_left"
) -> torch.Tensor:
    """cutplan.alibi() with gradients for both."""
    if is_traced(scores, slopes):
        return alibi_operator(scores, slopes, distance, align)
    if records(scores, slopes):
        return _apply_alibi(scores, slopes, distance, align)
    return plain.alibi(scores, slopes, distance=distance, align=align)


# ---- Merged states ----


def _run_merge(o: torch.Tensor, lse: torch.Tensor, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    merged, merged_lse = readable(
        lambda o, lse: plain.merge_states(o, lse, layout=layout),
        o, lse,
    )  # fmt: skip
    return merged, merged_lse


def _setup_merge(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    o, lse, ctx.layout = inputs
    ctx.save_for_backward(o, lse, *output)


def _merge_gradients(ctx: Any, grad: torch.Tensor, grad_lse: torch.Tensor) -> tuple[Any, Any, None]:
    """With w_p = exp(lse_p - lse): do_p = w_p do, dlse_p = w_p (do . (o_p - o) + dlse)."""
    o, lse, merged, merged_lse = ctx.saved_tensors
    weights = torch.where(lse == -torch.inf, 0, torch.exp(lse - merged_lse))

    def as_rows(x: torch.Tensor) -> torch.Tensor:  # of o, whose heads and rows the layout may swap
        return (x.transpose(-1, -2) if ctx.layout == "bshd" else x)[..., None]

    grad = grad.float()
    d_o = torch.where(as_rows(weights) > 0, as_rows(weights) * grad, 0).to(o.dtype)
    beyond = torch.where(as_rows(weights) > 0, grad * (o.float() - merged.float()), 0).sum(-1)
    d_lse = weights * ((beyond.transpose(-1, -2) if ctx.layout == "bshd" else beyond) + grad_lse)
    return d_o, d_lse, None


merge_states_operator = define(
    "merge_states",
    "Tensor o, Tensor lse, str layout",
    "(Tensor, Tensor)",
    lambda o, lse, layout: _run_merge(o, lse, layout),
    lambda o, lse, layout: (o.new_empty(o.shape[1:]), lse.new_empty(lse.shape[1:])),
    setup_context=_setup_merge,
    backward=_merge_gradients,
)


class _Merge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: torch.Tensor, lse: torch.Tensor, layout: str) -> Any:
        ctx.layout = layout
        made = _run_merge(o, lse, layout)
        ctx.save_for_backward(o, lse, *made)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return _merge_gradients(ctx, *grads)


_apply_merge = applied(_Merge)


def merge_states(
    o: torch.Tensor | Sequence[torch.Tensor],
    lse: torch.Tensor | Sequence[torch.Tensor],
    *,
    layout: str = "bhsd",
) -> tuple[torch.Tensor, torch.Tensor]:
    """cutplan.merge_states() of stacked parts, `o` [P, B, H, S, D] and `lse` [P, B, H, S], with gradients for
    both; or of lists of them, which are stacked first."""
    o, lse = (x if isinstance(x, torch.Tensor) else torch.stack(tuple(x)) for x in (o, lse))
    if is_traced(o, lse):
        return merge_states_operator(o, lse, layout)
    if records(o, lse):
        return _apply_merge(o, lse, layout)
    return _run_merge(o, lse, layout)


# ---- Caches ----


class _Append(NamedTuple):
    k: torch.Tensor
    v: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    offsets: torch.Tensor
    block_table: torch.Tensor | None = None
    page_layout: str = "nhd"
    cu_seqlens: torch.Tensor | None = None
    cache_batch_idx: torch.Tensor | None = None
    cos: torch.Tensor | None = None
    sin: torch.Tensor | None = None
    interleaved: bool = False
    q: torch.Tensor | None = None
    q_out: torch.Tensor | None = None
    k_scale: torch.Tensor | None = None
    v_scale: torch.Tensor | None = None
    lengths_out: torch.Tensor | None = None
    rejected: torch.Tensor | None = None
    layout: str = "bhsd"


def _run_append(*arguments: Any) -> None:
    plain.kv_cache_append(**_Append(*arguments)._asdict())


kv_cache_append_operator = define(
    "kv_cache_append",
    schema(_Append, writes=("k_cache", "v_cache", "q_out", "lengths_out", "rejected")),
    "()",
    _run_append,
    lambda *_: None,
)


def kv_cache_append(
    k: torch.Tensor,
    v: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    offsets: torch.Tensor,
    **options: Any,
) -> None:
    """cutplan.kv_cache_append(), which writes in place and has no gradient."""
    x = _Append(k, v, k_cache, v_cache, offsets, **options)
    if records(k, v, x.q):
        refuse_derivative("cutplan::kv_cache_append")
    if is_traced(k, v, k_cache, v_cache):
        kv_cache_append_operator(*x)
    else:
        _run_append(*x)
