"""Products of few bits: codes with scales, packed weights, and linear layers of them with gradients.

Codes have no gradient. What has one is the input of a layer, as if it were not rounded (the straight-through
estimator of Bengio et al. 2013), and in float8_linear() the weight.
"""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _core
from .._quantize import Quantized
from .._weights import PackedWeights
from ._matmul import (
    ACTIVATIONS,
    CODES,
    _about,
    _activation_backward,
    _call,
    _check,
    _copies,
    _empty_result,
    _gradients,
    _is_column_major,
    _kept,
    _Operands,
    _Options,
    _run,
    matmul,
)
from ._operators import (
    REFUSED,
    check_shape,
    define,
    first_derivative,
    in_order,
    is_direct,
    is_traced,
    needed,
    plain,
    readable,
    records,
    schema,
    split,
)

_FLOATS = (torch.float16, torch.bfloat16, torch.float32)
_NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in (*CODES, *_FLOATS)}


def _name(dtype: Any) -> str:
    return _NAMES.get(dtype, dtype)


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: Any) -> torch.dtype:
    return name if isinstance(name, torch.dtype) else getattr(torch, str(name))


# ---- quantize and dequantize ----


class _Floats(NamedTuple):
    x: torch.Tensor
    scale: torch.Tensor | None = None
    zero: torch.Tensor | None = None


class _Codes(NamedTuple):
    data: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None = None


class _Sharing(NamedTuple):
    """Which elements share a scale, and what they become."""

    dtype: str = "int8"
    granularity: str = "tensor"
    group_size: int = 0
    axis: int = -1


class _Symmetry(NamedTuple):
    symmetric: bool = True


class _As(NamedTuple):
    out_dtype: torch.dtype | None = None  # float32


def _shape_of_scale(shape: Sequence[Any], s: _Sharing) -> list[Any]:
    *batch, rows, columns = shape
    g = s.group_size
    if s.granularity in ("group", "block") and not g:
        raise _core.InvalidProblem(f"group_size: required with granularity={s.granularity!r}, not given")
    match s.granularity:
        case "tensor":
            return [1]
        case "row":
            return [*batch, rows]
        case "column":
            return [*batch, columns]
        case "block":
            return [*batch, -(-rows // g), -(-columns // g)]
        case "group":
            return [*batch, rows, -(-columns // g)] if s.axis == -1 else [*batch, -(-rows // g), columns]
        case other:
            names = "'tensor', 'row', 'column', 'group', 'block'"
            raise ValueError(f"granularity: must be one of {names}; got {other!r}")


def _narrow(x: _Floats, s: _Sharing, symmetric: bool) -> Quantized:
    return readable(
        lambda x, scale, zero: plain.quantize(
            x, s.dtype, granularity=s.granularity, group_size=s.group_size or None, axis=s.axis,
            symmetric=symmetric, scale=scale, zero=zero,
        ),
        *x,
    )  # fmt: skip


def _run_quantize(*arguments: Any) -> list[torch.Tensor]:
    x, s, o = split(arguments, _Floats, _Sharing, _Symmetry)
    q = _narrow(x, s, o.symmetric)
    return [q.data] if x.scale is not None else [t for t in q[:3] if t is not None]


def _fake_quantize(*arguments: Any) -> list[torch.Tensor]:
    (x, scale, zero), s, o = split(arguments, _Floats, _Sharing, _Symmetry)
    if x.dim() < 2:
        raise _core.ShapeMismatch(f"operand x: shape [..., rows, columns] required, got {[*x.shape]}")
    if s.dtype not in ("int8", "int4", "float8_e4m3fn", "float8_e5m2"):
        raise _core.Unsupported(f"dtype: int8, int4 or float8 required, got {s.dtype}")
    shape = _shape_of_scale(x.shape, s)
    for name, given in (("scale", scale), ("zero", zero)):
        if given is not None:
            check_shape(name, given, shape)
    four = s.dtype == "int4"
    data = [*x.shape[:-1], x.shape[-1] // 2] if four else x.shape
    made = [x.new_empty(data, dtype=torch.uint8 if four else _dtype(s.dtype))]
    if scale is None:
        made.append(x.new_empty(shape, dtype=torch.float32))
        if not o.symmetric:
            made.append(x.new_empty(shape, dtype=torch.int32))
    return made


quantize_operator = define(
    "quantize",
    schema(_Floats, _Sharing, _Symmetry),
    "Tensor[]",
    _run_quantize,
    _fake_quantize,
)


def quantize(
    x: torch.Tensor,
    dtype: torch.dtype | str,
    *,
    granularity: str = "tensor",
    group_size: int | None = None,
    axis: int = -1,
    symmetric: bool = True,
    scale: torch.Tensor | None = None,
    zero: torch.Tensor | None = None,
) -> Quantized:
    """cutplan.quantize() as an operator: int8, "int4", float8_e4m3fn or float8_e5m2 and their scales.

    `x` [..., rows, columns], float16, bfloat16 or float32, of any strides. All else is as there, but for
    `amax`. The result has no gradient: x takes part as ``x.detach()``.
    """
    if scale is None and zero is not None:
        raise _core.MissingOperand("operand scale: required with zero, not given")
    size = group_size or (128 if granularity == "block" else 0)
    given, s = _Floats(x.detach(), scale, zero), _Sharing(_name(dtype), granularity, size, axis)
    if is_direct(x):
        return _narrow(given, s, symmetric)
    data, *found = quantize_operator(*given, *s, symmetric)
    if scale is None:
        scale, zero = found if not symmetric else (*found, None)
    return Quantized(data, scale, zero, *s)  # type: ignore[arg-type]


def _run_dequantize(*arguments: Any) -> torch.Tensor:
    x, s, o = split(arguments, _Codes, _Sharing, _As)
    return readable(
        lambda *codes: plain.dequantize(Quantized(*codes, *s), _name(o.out_dtype or torch.float32)), *x
    )


def _fake_dequantize(*arguments: Any) -> torch.Tensor:
    (data, scale, zero), s, o = split(arguments, _Codes, _Sharing, _As)
    shape = [*data.shape[:-1], data.shape[-1] * 2] if s.dtype == "int4" else [*data.shape]
    for name, given in (("scale", scale), ("zero", zero)):
        if given is not None:
            check_shape(name, given, _shape_of_scale(shape, s))
    return data.new_empty(shape, dtype=o.out_dtype or torch.float32)


dequantize_operator = define(
    "dequantize", schema(_Codes, _Sharing, _As), "Tensor", _run_dequantize, _fake_dequantize
)


def dequantize(q: Quantized, out_dtype: torch.dtype | str = torch.float32) -> torch.Tensor:
    """cutplan.dequantize() as an operator: ``(data - zero) * scale``, a float32 product, as `out_dtype`:
    float16, bfloat16 or float32. The result has no gradient."""
    call = _run_dequantize if is_direct(q.data, q.scale) else dequantize_operator
    return call(q.data.detach(), q.scale.detach(), *q[2:], _dtype(out_dtype))


# ---- Products of codes ----


class _Scales(NamedTuple):
    a_scale: torch.Tensor | None = None
    b_scale: torch.Tensor | None = None
    b2_scale: torch.Tensor | None = None
    a_zero: torch.Tensor | None = None
    b_zero: torch.Tensor | None = None
    out_scale: torch.Tensor | None = None


# What can stand beside an a of codes.
_BESIDE = {
    torch.int8: (torch.int8,),
    torch.float8_e4m3fn: (torch.float8_e4m3fn, torch.float8_e5m2),
    torch.float8_e5m2: (torch.float8_e4m3fn,),
}


def _run_codes(*arguments: Any) -> torch.Tensor:
    """Where a plan refuses the order of operands, copies in the one that all kernels read: along K."""
    x, s, o = split(arguments, _Operands, _Scales, _Options)
    try:
        return _call(x, o, **s._asdict())
    except REFUSED:
        turned = {"b": True, "b2": True} | dict.fromkeys(("c", "residual"), _is_column_major(x))
        copies, scales = (
            [
                None if t is None else in_order(t, turned.get(name, False))
                for name, t in fields._asdict().items()
            ]
            for fields in (x, s)
        )
        if all(t is y for t, y in zip((*copies, *scales), (*x, *s), strict=True)):
            raise
        return _call(_Operands(*copies), o, **_Scales(*scales)._asdict())


def _fake_codes(*arguments: Any) -> torch.Tensor:
    x, s, o = split(arguments, _Operands, _Scales, _Options)
    beside = _BESIDE.get(x.a.dtype)
    if beside is None:
        raise _core.Unsupported(
            f"scales and zeros: go with int8 and float8 operands, got {_said(x.a.dtype)} a; row_scale, "
            "column_scale and alpha go with all"
        )
    for name, t in (("b", x.b), ("b2", x.b2)):
        if t is not None and t.dtype not in beside:
            raise _core.Unsupported(
                f"operand {name}: dtype {' or '.join(map(_said, beside))} required beside a "
                f"{_said(x.a.dtype)}, got {_said(t.dtype)}"
            )
    _check(x, o)
    return _empty_result(x, o, o.out_dtype or _type_of_result(x, s, o))


def _type_of_result(x: _Operands, s: _Scales, o: _Options) -> torch.dtype:
    """Of sums alone what holds them exactly."""
    beside = (*x[2:], s.a_scale, s.b_scale)
    sums = x.a.dtype == torch.int8 and o.activation == "none" and all(t is None for t in (*beside, o.gate))
    return torch.int32 if sums else torch.bfloat16


def _flops(a: Any, n: Any, gates: int) -> int:
    return 2 * gates * _math.prod(a) * n


matmul_quantized_operator = define(
    "matmul_quantized",
    schema(_Operands, _Scales, _Options),
    "Tensor",
    _run_codes,
    _fake_codes,
    flops=lambda a, b, *rest, **_: _flops(a, b[-1], 2 if len(rest) > 2 and rest[2] is not None else 1),
)


def _matmul_of_codes(x: _Operands, s: _Scales, o: _Options) -> torch.Tensor:
    """`x.a`, `x.b` and `x.b2` may be Quantized."""
    fields: dict[str, Any] = {**x._asdict(), **s._asdict()}
    for name in ("a", "b", "b2"):
        q = fields[name]
        if isinstance(q, Quantized):
            for part, value in q.operands(name).items():
                if part != name and fields[part] is not None:
                    raise _core.InvalidProblem(
                        f"operand {part}: none required beside a Quantized {name}, which has its own, got one"
                    )
                fields[part] = value
    x = _Operands(**{name: fields[name] for name in x._fields})
    s = _Scales(**{name: fields[name] for name in s._fields})
    if is_direct(x.a, x.b) and not records(*x, *s):
        return _run_codes(*x, *s, *o)
    return matmul_quantized_operator(*x, *s, *o)


# ---- Products of packed weights ----


class _Packing(NamedTuple):
    """What PackedWeights has beside its tensor."""

    format: str = "int4"
    n: int = 0
    k: int = 0
    group_size: int = 128
    scale_dtype: str = "float32"
    has_zero: bool = False
    has_permutation: bool = False


def _run_packed(*arguments: Any) -> torch.Tensor:
    """What no kernel of packed weights serves (float32, say) is a product of what they unpack to."""
    x, p, o = split(arguments, _Operands, _Packing, _Options)

    def call(x: _Operands) -> torch.Tensor:
        held = (None if t is None else PackedWeights(t, *p) for t in (x.b, x.b2))
        return _call(x._replace(b=next(held), b2=next(held)), o)

    try:
        return call(x)
    except REFUSED:
        copies = _copies(x)
        if any(t is not y for t, y in zip(copies, x, strict=True)):
            return _run_packed(*copies, *p, *o)
        return _run(_unpacked(x, p, x.a.dtype), o)


def _unpacked(x: _Operands, p: _Packing, dtype: torch.dtype) -> _Operands:
    b, b2 = (
        None if t is None else unpack_weights(PackedWeights(t, *p), dtype if dtype in _FLOATS else None)
        for t in (x.b, x.b2)
    )
    assert b is not None
    return x._replace(b=b.to(dtype), b2=None if b2 is None else b2.to(dtype))


def _like_unpacked(x: _Operands, p: _Packing) -> _Operands:
    """Of the shapes that the product has, without memory."""
    b = x.a.new_empty((p.k, p.n), device="meta")
    return x._replace(b=b, b2=None if x.b2 is None else b)


def _fake_packed(*arguments: Any) -> torch.Tensor:
    x, p, o = split(arguments, _Operands, _Packing, _Options)
    for name in ("b", "b2"):
        t = getattr(x, name)
        if t is not None and (t.dtype != torch.uint8 or t.dim() != 1):
            got = f"{_said(t.dtype)} {[*t.shape]}"
            raise _core.ShapeMismatch(
                f"operand {name}: the uint8 tensor of PackedWeights required, got {got}"
            )
    _check(_like_unpacked(x, p), o)
    return _empty_result(_like_unpacked(x, p), o)


def _setup_packed(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, ctx.packing, ctx.options = split(inputs, _Operands, _Packing, _Options)
    ctx.about, ctx.dtype = _about(x), x.a.dtype
    ctx.save_for_backward(*_kept(x, ctx.options, needed(ctx, x._fields), False))


@first_derivative("cutplan::matmul_packed_backward")
def _packed_backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor) -> tuple[Any, ...]:
    """matmul()'s formulas, with the weights unpacked."""
    x, about, p = _Operands(*saved), ctx.about, ctx.packing
    if x.b is not None:
        x = _unpacked(x, p, ctx.dtype)
        shape = torch.Size((p.k, p.n))
        b2 = None if about.shapes.b2 is None else shape
        about = about._replace(shapes=about.shapes._replace(b=shape, b2=b2))
    made = _gradients(grad, x, about, ctx.options, needed(ctx, x._fields))
    return (*made, *[None] * (len(_Packing._fields) + len(_Options._fields)))


matmul_packed_operator = define(
    "matmul_packed",
    schema(_Operands, _Packing, _Options),
    "Tensor",
    _run_packed,
    _fake_packed,
    setup_context=_setup_packed,
    backward=_packed_backward,
    casts=("a", "bias", "c", "bias2", "residual"),
    flops=lambda a, *rest, out_shape=None, **_: _flops(
        a, rest[len(_Operands._fields)], 2 if len(rest) > 3 and rest[3] is not None else 1
    ),
)


class _Packed(NamedTuple):
    packed: torch.Tensor


def _run_unpack(*arguments: Any) -> torch.Tensor:
    x, p, o = split(arguments, _Packed, _Packing, _As)
    return plain.unpack_weights(PackedWeights(x.packed, *p), _name(o.out_dtype or torch.float32))


def _fake_unpack(*arguments: Any) -> torch.Tensor:
    x, p, o = split(arguments, _Packed, _Packing, _As)
    return x.packed.new_empty((p.k, p.n), dtype=o.out_dtype or torch.float32)


unpack_weights_operator = define(
    "unpack_weights", schema(_Packed, _Packing, _As), "Tensor", _run_unpack, _fake_unpack
)


def unpack_weights(packed: PackedWeights, out_dtype: torch.dtype | str | None = None) -> torch.Tensor:
    """cutplan.unpack_weights() as an operator: the weight [k, n] as `out_dtype`, float16, bfloat16 or
    float32 (None)."""
    dtype = torch.float32 if out_dtype is None else _dtype(out_dtype)
    call = _run_unpack if is_direct(packed.data) else unpack_weights_operator
    return call(*packed, dtype)


def matmul_of_few_bits(x: _Operands, scales: Sequence[Any], o: _Options) -> torch.Tensor:
    """`x.a`, `x.b` and `x.b2` are tensors, Quantized, or PackedWeights."""
    s, b = _Scales(*scales), x.b
    if not isinstance(b, PackedWeights):
        return _matmul_of_codes(x, s, o)
    for name, given in s._asdict().items():
        if given is not None:
            raise _core.Unsupported(
                f"operand {name}: none required with packed weights, which hold their own, got one"
            )
    if not isinstance(x.a, torch.Tensor) or not x.a.is_floating_point() or x.a.dtype in CODES:
        got = x.a.dtype if isinstance(x.a, (torch.Tensor, Quantized)) else type(x.a).__name__
        raise _core.Unsupported(f"operand a: floats required with packed weights, got {got}")
    if x.a.dim() == 1:
        return _matmul_of_packed(x._replace(a=x.a[None]), b, o).squeeze(-2)
    return _matmul_of_packed(x, b, o)


def _matmul_of_packed(x: _Operands, b: PackedWeights, o: _Options) -> torch.Tensor:
    b2: Any = x.b2
    if b2 is not None and (not isinstance(b2, PackedWeights) or b2[1:] != b[1:]):
        got = b2[1:] if isinstance(b2, PackedWeights) else type(b2).__name__
        raise _core.Unsupported(f"operand b2: packed weights as b, {b[1:]}, required, got {got}")
    if x.a.shape[-1] != b.k:
        raise _core.ShapeMismatch(
            f"operand b: {x.a.shape[-1]} rows required to match the last dimension of a, got {b.k}"
        )
    x = x._replace(b=b.data, b2=None if b2 is None else b2.data)
    if is_direct(x.a, x.b) and not records(*x):
        return _run_packed(*x, *b[1:], *o)
    return matmul_packed_operator(*x, *b[1:], *o)


# ---- Layers: weights of codes, and an input that is quantised on its way ----


class _Layer(NamedTuple):
    x: torch.Tensor
    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None = None


class _LayerOptions(NamedTuple):
    granularity: str = "row"
    group_size: int = 0
    activation: str = "none"


_OF_INPUT = {"tensor": "row", "row": "row", "group": "group", "block": "group"}


def _weight_of(x: _Layer, o: _LayerOptions) -> Quantized:
    name = _NAMES[x.weight.dtype]
    return Quantized(x.weight, x.scale, None, name, o.granularity, o.group_size)  # type: ignore[arg-type]


def _run_layer(*arguments: Any) -> torch.Tensor:
    x, o = split(arguments, _Layer, _LayerOptions)
    rows = x.x if x.x.dim() == 2 else x.x.reshape(-1, x.x.shape[-1])
    dtype = "int8" if x.weight.dtype == torch.int8 else "float8_e4m3fn"
    kind, size = _OF_INPUT[o.granularity], o.group_size or None
    q = readable(lambda x: plain.quantize(x, dtype, granularity=kind, group_size=size), rows)
    scale = x.scale if o.granularity in ("tensor", "row") else x.scale.t()
    y = _multiplied(q.data, x.weight.t(), q.scale, scale, x.bias, o.activation, x.x.dtype)
    return y if x.x.dim() == 2 else y.view(*x.x.shape[:-1], y.shape[-1])


def _multiplied(
    a: torch.Tensor,
    b: torch.Tensor,
    a_scale: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    out_dtype: torch.dtype,
) -> torch.Tensor:
    """In the kernels themselves: of tensors with memory."""
    try:
        return plain.matmul(
            a, b, a_scale=a_scale, b_scale=b_scale, bias=bias, activation=activation, out_dtype=out_dtype
        )
    except REFUSED:
        return _run_codes(
            *_Operands(a, b, bias), *_Scales(a_scale, b_scale), *_Options(activation, out_dtype=out_dtype)
        )


def _product(
    a: Quantized, b: Quantized, out_dtype: torch.dtype, bias: torch.Tensor | None = None
) -> torch.Tensor:
    x = {**a.operands("a"), **b.operands("b")}
    return _multiplied(x["a"], x["b"], x["a_scale"], x["b_scale"], bias, "none", out_dtype)


def _fake_layer(*arguments: Any) -> torch.Tensor:
    x, o = split(arguments, _Layer, _LayerOptions)
    _check_layer(x, o)
    return x.x.new_empty((*x.x.shape[:-1], x.weight.shape[0]))


def _check_layer(x: _Layer, o: _LayerOptions) -> None:
    _check_float("x", x.x)
    if x.weight.dtype not in CODES or x.weight.dim() != 2:
        got = f"{_said(x.weight.dtype)} {[*x.weight.shape]}"
        raise _core.DTypeMismatch(f"operand weight: int8 or float8 [n, k] required, got {got}")
    _check_columns("weight", x.weight.shape[1], x.x)
    check_shape("scale", x.scale, _shape_of_scale(x.weight.shape, _Sharing("", o.granularity, o.group_size)))
    if x.bias is not None:
        check_shape("bias", x.bias, [x.weight.shape[0]])
    if o.activation not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation: must be one of {names}; got {o.activation!r}")


def _check_float(name: str, x: torch.Tensor) -> None:
    if x.dtype not in _FLOATS:
        got = _said(x.dtype)
        raise _core.DTypeMismatch(f"operand {name}: float16, bfloat16 or float32 required, got {got}")


def _check_columns(name: str, k: Any, x: torch.Tensor) -> None:
    if x.dim() < 1 or x.shape[-1] != k:
        raise _core.ShapeMismatch(
            f"operand {name}: the last dimension of x {[*x.shape]} required, got {k} columns"
        )


def _setup_layer(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, o = split(inputs, _Layer, _LayerOptions)
    ctx.options, ctx.dtype = o, x.x.dtype
    again = o.activation != "none"
    needs_x = needed(ctx, _Layer._fields)[0]
    ctx.save_for_backward(
        x.x if again else None,
        x.weight if again or needs_x else None,
        x.scale if again or needs_x else None,
        x.bias if again else None,
    )


@first_derivative("cutplan::linear_quantized_backward")
def _layer_backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor) -> tuple[Any, ...]:
    """Straight through: of the rounding of x there is nothing in it. The value before an activation is
    computed again."""
    x, o = _Layer(*saved), ctx.options
    needs_x, _, _, needs_bias = needed(ctx, _Layer._fields)
    if o.activation != "none":
        before = _layer(x, o._replace(activation="none"))
        grad = _activation_backward(grad, before, o.activation)
    dx = matmul(grad, dequantize(_weight_of(x, o), ctx.dtype)) if needs_x else None
    db = grad.flatten(0, -2).sum(0) if needs_bias and grad.dim() > 1 else grad if needs_bias else None
    return (dx, None, None, db, *[None] * len(_LayerOptions._fields))


linear_quantized_operator = define(
    "linear_quantized",
    schema(_Layer, _LayerOptions),
    "Tensor",
    _run_layer,
    _fake_layer,
    setup_context=_setup_layer,
    backward=_layer_backward,
    casts=("x", "bias"),
    flops=lambda x, weight, *_, **__: _flops(x, weight[0], 1),
)


def _layer(x: _Layer, o: _LayerOptions) -> torch.Tensor:
    if is_direct(x.x, x.weight) and not records(*x):
        return _run_layer(*x, *o)
    return linear_quantized_operator(*x, *o)


def linear_of_few_bits(x: Any, weight: Any, bias: torch.Tensor | None, activation: str) -> torch.Tensor:
    if isinstance(weight, PackedWeights):
        if isinstance(x, torch.Tensor) and x.dim() > 1 and is_direct(x, weight.data) and not records(x, bias):
            try:
                return plain.matmul(x, weight, bias=bias, activation=activation)
            except _core.Error:  # what is below serves it, or says why not
                pass
        return matmul(x, weight, bias=bias, activation=activation)
    if not isinstance(weight, Quantized):
        raise TypeError(
            f"weight: a tensor, a Quantized or PackedWeights required, got {type(weight).__name__}"
            if isinstance(x, torch.Tensor)
            else f"weight: a Quantized required beside a Quantized x, got {type(weight).__name__}"
        )
    if isinstance(x, Quantized):
        return matmul(x, weight.T, bias=bias, activation=activation)
    if weight.granularity not in _OF_INPUT or weight.dtype == "int4" or weight.axis != -1:
        raise _core.Unsupported(
            "operand weight: int8 or float8 [n, k] with scales by 'tensor', 'row', 'group' along axis -1, or "
            f"'block' required, got {weight.dtype} by {weight.granularity!r}; pack_weights() takes others"
        )
    if weight.zero is not None:
        raise _core.Unsupported("operand weight: symmetric required with an input of floats, got a zero")
    layer = _Layer(x, weight.data, weight.scale, bias)
    o = _LayerOptions(weight.granularity, weight.group_size, activation)
    _check_layer(layer, o)
    return _layer(layer, o)


# ---- Layers in float8, with all gradients ----


class _Float8(NamedTuple):
    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None = None


class _Float8Options(NamedTuple):
    grad_dtype: torch.dtype | None = None  # float8_e4m3fn


def _along_rows(x: torch.Tensor, dtype: torch.dtype) -> Quantized:
    """Scales of 1 x 128."""
    return quantize(x, dtype, granularity="group", group_size=128)


def _in_blocks(x: torch.Tensor) -> Quantized:
    return quantize(x, torch.float8_e4m3fn, granularity="block", group_size=128)


def _along_columns(x: torch.Tensor, dtype: torch.dtype) -> Quantized:
    """Scales of 128 x 1, of a matrix whose rows are summed over: its codes lie along columns."""
    q = quantize(x, dtype, granularity="group", group_size=128, axis=-2)
    return q._replace(data=_turned(q.data))


def _turned(codes: torch.Tensor) -> torch.Tensor:
    """Column-major, for kernels of float8 read along K alone; columns start at multiples of 16 bytes, as
    those of Hopper want them."""
    rows, columns = codes.shape
    made = codes.new_empty(columns, -(-rows // 16) * 16)[:, :rows]
    return made.copy_(codes.t()).t()


def _run_float8(*arguments: Any) -> torch.Tensor:
    (x, weight, bias), _ = split(arguments, _Float8, _Float8Options)
    rows = _along_rows(x.reshape(-1, x.shape[-1]), torch.float8_e4m3fn)
    y = _product(rows, _in_blocks(weight).T, x.dtype, bias=bias)
    return y.view(*x.shape[:-1], y.shape[-1])


def _fake_float8(*arguments: Any) -> torch.Tensor:
    (x, weight, bias), o = split(arguments, _Float8, _Float8Options)
    _check_float8(x, weight, bias, o.grad_dtype or torch.float8_e4m3fn)
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _check_float8(x: torch.Tensor, weight: torch.Tensor, bias: Any, grad_dtype: Any) -> None:
    _check_float("x", x)
    _check_float("weight", weight)
    if weight.dim() != 2:
        raise _core.ShapeMismatch(f"operand weight: shape [n, k] required, got {[*weight.shape]}")
    _check_columns("weight", weight.shape[1], x)
    if bias is not None:
        check_shape("bias", bias, [weight.shape[0]])
    check_grad_dtype(grad_dtype)


def check_grad_dtype(grad_dtype: Any) -> None:
    if grad_dtype not in (torch.float8_e4m3fn, torch.float8_e5m2):
        raise ValueError(f"grad_dtype: must be one of float8_e4m3fn, float8_e5m2; got {_name(grad_dtype)}")


def _run_float8_backward(
    grad: torch.Tensor, x: Any, weight: Any, out_dtype: torch.dtype, grad_dtype: torch.dtype
) -> list[torch.Tensor]:
    """Of `weight` and `x`, each of which may be None, the gradient of the other. `out_dtype`: weight's."""
    g = grad.reshape(-1, grad.shape[-1])
    made = []
    if weight is not None:
        blocks = _in_blocks(weight)
        dx = _product(_along_rows(g, grad_dtype), blocks._replace(data=_turned(blocks.data)), grad.dtype)
        made.append(dx.view(*grad.shape[:-1], dx.shape[-1]))
    if x is not None:
        rows = x.reshape(-1, x.shape[-1])
        left, right = _along_columns(g, grad_dtype).T, _along_columns(rows, torch.float8_e4m3fn)
        made.append(_product(left, right, out_dtype))
    return made


def _fake_float8_backward(
    grad: torch.Tensor, x: Any, weight: Any, out_dtype: torch.dtype, grad_dtype: torch.dtype
) -> list[torch.Tensor]:
    made = []
    if weight is not None:
        made.append(grad.new_empty((*grad.shape[:-1], weight.shape[1])))
    if x is not None:
        made.append(grad.new_empty((grad.shape[-1], x.shape[-1]), dtype=out_dtype))
    return made


float8_linear_backward_operator = define(
    "float8_linear_backward",
    "Tensor grad, Tensor? x, Tensor? weight, ScalarType out_dtype, ScalarType grad_dtype",
    "Tensor[]",
    _run_float8_backward,
    _fake_float8_backward,
    flops=lambda grad, x, weight, *_, **__: sum(
        _flops(grad, other[-1], 1) for other in (x, weight) if other is not None
    ),
)


def _setup_float8(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    (x, weight, _), o = split(inputs, _Float8, _Float8Options)
    ctx.grad_dtype = o.grad_dtype or torch.float8_e4m3fn
    ctx.dtypes = x.dtype, weight.dtype
    needs_x, needs_weight, _ = needed(ctx, _Float8._fields)
    ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)


@first_derivative("cutplan::float8_linear_backward")
def _float8_backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor) -> tuple[Any, ...]:
    x, weight = saved
    dtype, of_weight = ctx.dtypes
    dx = dw = None
    if x is not None or weight is not None:
        call = float8_linear_backward_operator if is_traced(grad) else _run_float8_backward
        made = iter(call(grad.to(dtype), x, weight, of_weight, ctx.grad_dtype))
        dx = next(made) if weight is not None else None
        dw = next(made) if x is not None else None
    needs_bias = needed(ctx, _Float8._fields)[2]
    db = grad.flatten(0, -2).sum(0) if needs_bias and grad.dim() > 1 else grad if needs_bias else None
    return dx, dw, db, None


float8_linear_operator = define(
    "float8_linear",
    schema(_Float8, _Float8Options),
    "Tensor",
    _run_float8,
    _fake_float8,
    setup_context=_setup_float8,
    backward=_float8_backward,
    casts=("x", "bias"),
    flops=lambda x, weight, *_, **__: _flops(x, weight[0], 1),
)


def float8_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    grad_dtype: torch.dtype = torch.float8_e4m3fn,
) -> torch.Tensor:
    """``x weight^T + bias``, whose three products, those of both gradients too, are of float8.

    `x` [..., k], `weight` [n, k], float16, bfloat16 or float32, `bias` [n]. The result and the gradient of x
    have x's type, the gradient of weight has weight's: keep float32 weights, and autocast makes x bfloat16.

    Scales are found in each call, as DeepSeek-V3 has them (2024, section 3.3): x by 1 x 128 and weight by
    128 x 128, float8_e4m3fn; in the backward pass the gradient, of `grad_dtype`, by 1 x 128 along what is
    summed over, and x again, by 128 x 1. x and weight are kept as they came, and are quantised anew there.

    Raises DTypeMismatch, ShapeMismatch and ValueError for other arguments.
    """
    _check_float8(x, weight, bias, grad_dtype)
    if is_direct(x, weight) and not records(x, weight, bias):
        return _run_float8(x, weight, bias, grad_dtype)
    return float8_linear_operator(x, weight, bias, grad_dtype)
