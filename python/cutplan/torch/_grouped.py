"""Products of different sizes with gradients."""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ._matmul import _activate, _activation_backward, _columns_in_turn
from ._operators import (
    REFUSED,
    applied,
    autocast_dtype,
    cast,
    define,
    first_derivative,
    in_order,
    is_traced,
    is_turned,
    needed,
    plain,
    records,
    schema,
)

_CASTS = ("a", "b", "bias", "b2", "bias2")


class _Operands(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor
    offsets: torch.Tensor
    bias: torch.Tensor | None = None
    b2: torch.Tensor | None = None
    bias2: torch.Tensor | None = None
    row_scale: torch.Tensor | None = None
    column_scale: torch.Tensor | None = None


class _Options(NamedTuple):
    activation: str = "none"
    alpha: float = 1.0
    gate: str | None = None
    math: str = "tf32x3"
    deterministic: bool = False
    out_dtype: torch.dtype | None = None
    zeros: bool = False  # rows outside the groups are zero, and not just anything


def _empty_result(x: _Operands, o: _Options) -> torch.Tensor:
    dtype = o.out_dtype or x.a.dtype
    columns = x.b.shape[-1] // 2 if o.gate == "interleaved" else x.b.shape[-1]
    groups = [x.offsets.shape[0] - 1] if x.b.dim() == 2 else []
    return x.a.new_empty([*groups, x.a.shape[0], columns], dtype=dtype)


def _call(x: _Operands, o: _Options) -> torch.Tensor:
    return plain.grouped_matmul(
        x.a, x.b, x.offsets, bias=x.bias, activation=o.activation, b2=x.b2, bias2=x.bias2, gate=o.gate,
        row_scale=x.row_scale, column_scale=x.column_scale, alpha=o.alpha, math=o.math,
        deterministic=o.deterministic, out_dtype=o.out_dtype,
        out=_empty_result(x, o).zero_() if o.zeros else None,
    )  # fmt: skip


def _run(x: _Operands, o: _Options) -> torch.Tensor:
    """As matmul() does it: where a plan refuses the operands, copies in the order that kernels read; a gate
    that no one kernel serves is two products."""
    try:
        return _call(x, o)
    except REFUSED:
        turned = {"a": x.b.dim() == 2, "b": x.b.dim() > 2 and is_turned(x.b)}
        turned["b2"] = turned["b"]
        copies = _Operands(
            *(
                None if t is None else in_order(t, turned.get(name, False))
                for name, t in zip(_Operands._fields, x, strict=True)
            )
        )
        if any(t is not y for t, y in zip(copies, x, strict=True)):
            return _run(copies, o)
        if not _is_gated(x, o):
            raise
        first, second = _before_gate(x, o)
        return (_activate(first, o.activation) * second).to(o.out_dtype or x.a.dtype)


def _is_gated(x: _Operands, o: _Options) -> bool:
    return x.b2 is not None or o.gate == "interleaved"


def _before_gate(x: _Operands, o: _Options) -> tuple[torch.Tensor, torch.Tensor]:
    before = o._replace(activation="none", gate=None, out_dtype=None)
    first = _grouped(x._replace(b2=None, bias2=None), before)
    if x.b2 is None:
        return _columns_in_turn(first)
    return first, _grouped(x._replace(b=x.b2, bias=x.bias2, b2=None, bias2=None), before)


def _grouped(x: _Operands, o: _Options) -> torch.Tensor:
    if is_traced(x.a, x.b):
        return grouped_matmul_operator(*x, *o)
    dtype = autocast_dtype(x.a)
    if dtype is not None:
        x = _Operands(
            *(cast(t, dtype) if n in _CASTS else t for n, t in zip(_Operands._fields, x, strict=True))
        )
    if records(*x):
        return _apply_grouped(o, *x)
    return _run(x, o)


def _gradients(grad: torch.Tensor, x: _Operands, o: _Options, needs: Sequence[bool]) -> list[Any]:
    """Values before an activation or a gate are computed again."""
    need = dict(zip(_Operands._fields, needs, strict=True))
    made: dict[str, Any] = dict.fromkeys(_Operands._fields)
    plain = _Options(math=o.math, deterministic=o.deterministic)
    grad = grad.to(x.a.dtype)

    def product(a: torch.Tensor, b: torch.Tensor, zeros: bool = False) -> torch.Tensor:
        return _grouped(_Operands(a, b, x.offsets), plain._replace(zeros=zeros))

    if x.b.dim() == 2:
        grad = grad if o.alpha == 1 else grad * o.alpha
        if need["a"]:
            made["a"] = product(x.b, grad.mT, zeros=True).t()
        if need["b"]:
            made["b"] = product(x.a.t(), grad, zeros=True)
        return list(made.values())

    products = [("b", "bias")]
    if _is_gated(x, o):
        first, second = _before_gate(x, o)
        dz = [_activation_backward(grad * second, first, o.activation), grad * _activate(first, o.activation)]
        if x.b2 is None:
            dz = [torch.stack(dz, -1).flatten(-2)]
        else:
            products.append(("b2", "bias2"))
    elif o.activation != "none":
        first = _grouped(x, o._replace(activation="none", out_dtype=None))
        dz = [_activation_backward(grad, first, o.activation)]
    else:
        dz = [grad]

    rows = x.a.shape[0]
    group = columns = None
    if x.column_scale is not None or need["row_scale"]:
        numbers = torch.arange(rows, device=x.a.device, dtype=x.offsets.dtype)
        inside = (numbers >= x.offsets[0]) & (numbers < x.offsets[-1])
        group = torch.searchsorted(x.offsets[1:], numbers, right=True).clamp(max=x.offsets.shape[0] - 2)
        if x.column_scale is not None:
            columns = x.column_scale[group]
    scale: Any = None if o.alpha == 1 else o.alpha
    of_rows = None if x.row_scale is None else x.row_scale[:, None]
    for factor in (of_rows, columns):
        if factor is not None:
            scale = factor if scale is None else scale * factor
    for (b_name, bias_name), d in zip(products, dz, strict=True):
        b = getattr(x, b_name)
        if need[bias_name]:
            ones = d.new_ones(rows, 1)
            made[bias_name] = product(ones.t(), d).squeeze(1)
        scaled = d if scale is None else (d * scale).to(d.dtype)
        if need["a"]:
            of_a = product(scaled, b.mT, zeros=True)
            made["a"] = of_a if made["a"] is None else made["a"] + of_a
        if need[b_name]:
            is_turned = b.stride(-2) == 1 and b.stride(-1) > 1  # in its order
            made[b_name] = product(scaled.t(), x.a).mT if is_turned else product(x.a.t(), scaled)
        if need["row_scale"] or need["column_scale"]:
            assert group is not None
            of_product = d.float() * _grouped(
                _Operands(x.a, b, x.offsets),
                plain._replace(alpha=o.alpha, out_dtype=torch.float32, zeros=True),
            )
            of_product = torch.where(inside[:, None], of_product, 0)  # d holds anything outside
            if need["row_scale"]:
                part = (of_product if columns is None else of_product * columns).sum(-1)
                made["row_scale"] = part if made["row_scale"] is None else made["row_scale"] + part
            if need["column_scale"]:
                part = of_product if of_rows is None else of_product * of_rows
                part = torch.zeros_like(x.column_scale).index_add(0, group, part)
                made["column_scale"] = part if made["column_scale"] is None else made["column_scale"] + part
    return list(made.values())


def _split(arguments: Sequence[Any]) -> tuple[_Operands, _Options]:
    count = len(_Operands._fields)
    return _Operands(*arguments[:count]), _Options(*arguments[count:])


def _setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, ctx.options = _split(inputs)
    ctx.save_for_backward(*x)


@first_derivative("cutplan::grouped_matmul_backward")
def _backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor) -> tuple[Any, ...]:
    x = _Operands(*saved)
    made = _gradients(grad, x, ctx.options, needed(ctx, x._fields))
    return (*made, *[None] * len(_Options._fields))


def _flops(a: Any, b: Any, offsets: Any, bias: Any = None, b2: Any = None, *_: Any, **__: Any) -> int:
    gates = 1 if b2 is None else 2
    return 2 * gates * _math.prod(a) * b[-1]


grouped_matmul_operator = define(
    "grouped_matmul",
    schema(_Operands, _Options),
    "Tensor",
    lambda *arguments: _run(*_split(arguments)),
    lambda *arguments: _empty_result(*_split(arguments)),
    setup_context=_setup,
    backward=_backward,
    casts=_CASTS,
    flops=_flops,
)


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: _Options, *operands: Any) -> torch.Tensor:
        x = _Operands(*operands)
        ctx.options = o
        ctx.save_for_backward(*x)
        return _run(x, o)

    @staticmethod
    @first_derivative("cutplan::grouped_matmul_backward")
    def backward(ctx: Any, saved: Sequence[Any], *grads: torch.Tensor) -> Any:
        x = _Operands(*saved)
        made = _gradients(grads[0], x, ctx.options, ctx.needs_input_grad[1:])
        return (None, *made)


_apply_grouped = applied(_Grouped)


def grouped_matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    offsets: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    b2: torch.Tensor | None = None,
    bias2: torch.Tensor | None = None,
    gate: str | None = None,
    row_scale: torch.Tensor | None = None,
    column_scale: torch.Tensor | None = None,
    alpha: float = 1.0,
    math: str = "tf32x3",
    deterministic: bool = False,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """cutplan.grouped_matmul() with gradients for all operands but `offsets`. The gradient of rows outside
    the groups is 0. Values before an activation or a gate are computed again in the backward pass."""
    x = _Operands(a, b, offsets, bias, b2, bias2, row_scale, column_scale)
    return _grouped(x, _Options(activation, alpha, gate, math, deterministic, out_dtype))
