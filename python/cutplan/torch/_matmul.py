"""Matrix products with gradients."""

from __future__ import annotations

import math as _math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, overload

import torch

from .. import _core, _frameworks, _functional
from .._quantize import Quantized
from .._weights import PackedWeights
from ._operators import (
    REFUSED,
    applied,
    autocast_dtype,
    cast,
    check_type,
    define,
    first_derivative,
    in_order,
    is_direct,
    is_traced,
    is_turned,
    needed,
    one_by_one,
    plain,
    records,
    schema,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_CASTS = ("a", "b", "bias", "c", "b2", "bias2", "residual")


class _Operands(NamedTuple):
    a: torch.Tensor
    b: torch.Tensor
    bias: torch.Tensor | None = None
    c: torch.Tensor | None = None
    b2: torch.Tensor | None = None
    bias2: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    row_scale: torch.Tensor | None = None
    column_scale: torch.Tensor | None = None


class _Options(NamedTuple):
    activation: str = "none"
    alpha: float = 1.0
    beta: float | None = None
    gate: str | None = None
    math: str = "tf32x3"
    deterministic: bool = False
    out_dtype: torch.dtype | None = None


CODES = frozenset({torch.int8, torch.float8_e4m3fn, torch.float8_e5m2})
ACTIVATIONS = ("none", "relu", "gelu_erf", "gelu_tanh", "silu")


def _check(x: _Operands, o: _Options) -> None:
    """What a gate goes with, in training as elsewhere: then it is two products and no kernel's matter."""
    if o.activation not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation: must be one of {names}; got {o.activation!r}")
    if not _is_gated(x, o):
        return
    if x.b2 is not None:
        if o.gate == "interleaved":
            raise _core.InvalidProblem("operand b2: none required by gate='interleaved', got one")
        if x.b2.shape != x.b.shape:
            raise _core.ShapeMismatch(f"operand b2: b's shape {[*x.b.shape]} required, got {[*x.b2.shape]}")
        if (x.bias is None) != (x.bias2 is None):
            missing, given = ("bias", "bias2") if x.bias is None else ("bias2", "bias")
            raise _core.MissingOperand(f"operand {missing}: required beside {given}, not given")
    elif x.b.shape[-1] % 2 != 0:
        raise _core.ShapeMismatch(
            f"operand b: shape [..., k, 2 n] required with gate='interleaved', got {[*x.b.shape]}"
        )
    for name in ("c", "column_scale"):
        if getattr(x, name) is not None:
            raise _core.Unsupported(f"operand {name}: none required with a gate, got one")
    if x.bias is not None and x.bias.dim() != 1:
        raise _core.Unsupported(f"operand bias: shape [n] required with a gate, got {[*x.bias.shape]}")
    if x.residual is not None:
        shape = _result_shape(x, o)
        if torch.broadcast_shapes(x.residual.shape, shape) != torch.Size(shape):
            raise _core.ShapeMismatch(
                f"operand residual: a shape that broadcasts to {[*shape]} required, got {[*x.residual.shape]}"
            )


def _call(x: _Operands, o: _Options, aux: torch.Tensor | None = None, **further: Any) -> torch.Tensor:
    return plain.matmul(
        x.a, x.b, bias=x.bias, activation=o.activation, c=x.c, alpha=o.alpha, beta=o.beta, b2=x.b2,
        bias2=x.bias2, gate=o.gate, residual=x.residual, aux=aux, row_scale=x.row_scale,
        column_scale=x.column_scale, math=o.math, deterministic=o.deterministic, out_dtype=o.out_dtype,
        **further,
    )  # fmt: skip


def _run(x: _Operands, o: _Options, aux: torch.Tensor | None = None) -> torch.Tensor:
    """torch's own functions take any strides, and so does this: where a plan refuses the operands, copies. A
    gate that no one kernel serves is two products and what is between them."""
    try:
        return _call(x, o, aux)
    except REFUSED:
        copies = _copies(x)
        if any(t is not y for t, y in zip(copies, x, strict=True)):
            return _run(copies, o, aux)
        if not _is_gated(x, o):
            raise
        return _run_saving(x, o)[0]


def _copies(x: _Operands) -> _Operands:
    """Matrices in an order that is read, b2 in b's, c and residual in the result's; vectors contiguous."""
    turned = {"a": is_turned(x.a), "b": is_turned(x.b), "b2": is_turned(x.b)}
    turned |= dict.fromkeys(("c", "residual"), _is_column_major(x))
    return _Operands(
        *(
            None if t is None else in_order(t, turned.get(name, False) and t.dim() > 1)
            for name, t in zip(_Operands._fields, x, strict=True)
        )
    )


def _result_shape(x: _Operands, o: _Options) -> tuple[Any, ...]:
    columns = x.b.shape[-1] // 2 if o.gate == "interleaved" else None
    return _functional._result_shape(tuple(x.a.shape), tuple(x.b.shape), columns)


def _is_column_major(x: _Operands) -> bool:
    """Whether the result is: where residual or c is."""
    column_major = False
    for tensor in (x.residual, x.c):
        if tensor is not None:
            info: Any = SimpleNamespace(shape=tuple(tensor.shape), strides=tensor.stride())
            column_major = _frameworks.is_column_major(info, column_major)
    return column_major


def _empty_result(x: _Operands, o: _Options, dtype: torch.dtype | None = None) -> torch.Tensor:
    """As matmul() makes it."""
    shape = _result_shape(x, o)
    dtype = dtype or o.out_dtype or x.a.dtype
    if not _is_column_major(x):
        return x.a.new_empty(shape, dtype=dtype)
    return x.a.new_empty([*shape[:-2], shape[-1], shape[-2]], dtype=dtype).mT


# ---- What the backward pass reads: the value before the activation, of a gate both ----


def _run_saving(x: _Operands, o: _Options) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The result, x and, gated apart, x2; of columns in turn x holds both."""
    if _is_gated(x, o):
        first, second = _before_gate(x, o)
        h, other = (first, second) if second is not None else _columns_in_turn(first)
        y = _activate(h, o.activation) * other
        if x.residual is not None:
            y = y + x.residual
        return y.to(o.out_dtype or x.a.dtype), first, second
    if o.activation == "none":
        return _run(x, o), None, None
    aux = _empty_result(x, o, x.a.dtype)
    return _run(x, o, aux), aux, None


def _is_gated(x: _Operands, o: _Options) -> bool:
    return x.b2 is not None or o.gate == "interleaved"


def _before_gate(x: _Operands, o: _Options) -> tuple[torch.Tensor, torch.Tensor | None]:
    plain = o._replace(activation="none", gate=None, out_dtype=None)
    first = _matmul(x._replace(b2=None, bias2=None, residual=None), plain)
    if x.b2 is None:
        return first, None
    return first, _matmul(x._replace(b=x.b2, bias=x.bias2, b2=None, bias2=None, residual=None), plain)


def _columns_in_turn(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return first, second


def _activate(x: torch.Tensor, activation: str) -> torch.Tensor:
    functional = torch.nn.functional
    match activation:
        case "relu":
            return functional.relu(x)
        case "gelu_erf":
            return functional.gelu(x)
        case "gelu_tanh":
            return functional.gelu(x, approximate="tanh")
        case "silu":
            return functional.silu(x)
        case _:
            return x


def _activation_backward(grad: torch.Tensor, x: torch.Tensor, activation: str) -> torch.Tensor:
    match activation:
        case "relu":
            return torch.ops.aten.threshold_backward(grad, x, 0)
        case "gelu_erf":
            return torch.ops.aten.gelu_backward(grad, x)
        case "gelu_tanh":
            return torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
        case "silu":
            return torch.ops.aten.silu_backward(grad, x)
        case _:
            return grad


# ---- Gradients ----


def _product(a: torch.Tensor, b: torch.Tensor, math: str, deterministic: bool) -> torch.Tensor:
    try:
        return plain.matmul(a, b, math=math, deterministic=deterministic)
    except REFUSED:
        return _run(_Operands(a, b), _Options(math=math, deterministic=deterministic))


def _add_product(
    to: torch.Tensor, a: torch.Tensor, b: torch.Tensor, math: str, deterministic: bool
) -> torch.Tensor:
    """In place."""
    try:
        return plain.matmul(a, b, c=to, out=to, math=math, deterministic=deterministic)
    except REFUSED:
        return to.add_(_product(a, b, math, deterministic))


def _of_weight(
    left: torch.Tensor, right: torch.Tensor, turned: bool, math: str, deterministic: bool
) -> torch.Tensor:
    """left^T right over all rows; column-major where the weight is."""
    if left.dim() > 2:
        left, right = left.flatten(0, -2), right.flatten(0, -2)
    if turned:
        return _product(right.t(), left, math, deterministic).t()
    return _product(left.t(), right, math, deterministic)


def _run_backward(
    grad: torch.Tensor,
    a: torch.Tensor | None,
    b: torch.Tensor | None,
    da: bool,
    db: bool,
    of_rows: bool,
    turned: bool,
    math: str,
    deterministic: bool,
) -> list[torch.Tensor]:
    """Of a @ b those that are asked for. `of_rows`: b has two dimensions, and what is not read is None;
    `turned`: b is column-major, and so is db."""
    if of_rows:
        made = []
        if da:
            assert b is not None
            made.append(_product(grad, b.t(), math, deterministic))
        if db:
            assert a is not None
            made.append(_of_weight(a, grad, turned, math, deterministic))
        return made

    def call(grad: Any, a: Any, b: Any) -> list[torch.Tensor]:
        made = plain.matmul_backward(grad, a, b, da=da, db=db, math=math, deterministic=deterministic)
        return [x for x in made if x is not None]

    try:
        return call(grad, a, b)
    except REFUSED:
        matrices: Any = (grad, a, b)
        copies = [in_order(x, is_turned(x)) for x in matrices]
        if all(x is y for x, y in zip(copies, matrices, strict=True)):
            raise
        return call(*copies)


def _fake_backward(
    grad: torch.Tensor, a: Any, b: Any, da: bool, db: bool, of_rows: bool, turned: bool, *_: Any
) -> list[torch.Tensor]:
    def empty(shape: Sequence[Any], turned: bool) -> torch.Tensor:
        if turned:
            return grad.new_empty([*shape[:-2], shape[-1], shape[-2]]).mT
        return grad.new_empty(shape)

    made = []
    if da:
        made.append(
            empty([*grad.shape[:-1], b.shape[-2]], False) if of_rows else empty(a.shape, is_turned(a))
        )
    if db:
        made.append(empty([a.shape[-1], grad.shape[-1]] if of_rows else b.shape, turned))
    return made


def _product_backward(
    grad: torch.Tensor, a: Any, b: Any, shape: Sequence[Any], turned: bool, da: bool, db: bool, o: _Options
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """`shape` and `turned`: of b, which may be None where it is not read."""
    if not (da or db):
        return None, None
    call = matmul_backward_operator if is_traced(grad) else _run_backward
    dtype = (b if a is None else a).dtype
    made = iter(call(grad.to(dtype), a, b, da, db, len(shape) == 2, turned, o.math, o.deterministic))
    return (next(made) if da else None), (next(made) if db else None)


class _About(NamedTuple):
    """What the backward pass has to know of operands that are not kept."""

    shapes: _Operands
    turned: dict[str, bool]  # of b and b2: column-major


def _about(x: _Operands) -> _About:
    shapes: Any = (None if t is None else t.shape for t in x)
    return _About(_Operands(*shapes), {"b": is_turned(x.b), "b2": x.b2 is not None and is_turned(x.b2)})


def _sum_to(x: torch.Tensor, shape: Any) -> torch.Tensor:
    return x if x.shape == shape else x.sum_to_size(shape)


def _gradients(
    grad: torch.Tensor,
    saved: Sequence[torch.Tensor | None],
    about: _About,
    o: _Options,
    needs: Sequence[bool],
) -> list[torch.Tensor | None]:
    """One for each operand that needs one. `saved`: operands, as far as _kept() keeps them, and what
    _run_saving() gave beside the result; None is computed again."""
    x = _Operands(*saved[: len(_Operands._fields)])
    shape_of, turned = about
    gate = o.gate or ("separate" if shape_of.b2 is not None else None)
    before, before2 = saved[len(x) :] if len(saved) > len(x) else (None, None)
    need = dict(zip(_Operands._fields, needs, strict=True))
    made: dict[str, Any] = dict.fromkeys(_Operands._fields)
    if need["residual"]:
        made["residual"] = _sum_to(grad, shape_of.residual)
    products = [("b", "bias")]
    if gate is not None:
        if before is None:
            before, before2 = _before_gate(x, o)
        first, second = (before, before2) if before2 is not None else _columns_in_turn(before)
        grad = grad.to(first.dtype)
        dx, dx2 = (
            _activation_backward(grad * second, first, o.activation),
            grad * _activate(first, o.activation),
        )
        if gate == "interleaved":
            dz = [torch.stack([dx, dx2], -1).flatten(-2)]
        else:
            dz = [dx, dx2]
            products.append(("b2", "bias2"))
    elif o.activation != "none":
        if before is None:
            before = _matmul(x._replace(residual=None), o._replace(activation="none", out_dtype=None))
        dz = [_activation_backward(grad.to(before.dtype), before, o.activation)]
    else:
        dz = [grad]
    if need["c"]:
        made["c"] = _sum_to(dz[0] if o.beta in (None, 1) else dz[0] * o.beta, shape_of.c)
    scale: Any = None if o.alpha == 1 else o.alpha
    rows: Any = None if x.row_scale is None else x.row_scale[:, None]
    for vector in (rows, x.column_scale):
        if vector is not None:
            scale = vector if scale is None else scale * vector
    for (b_name, bias_name), d in zip(products, dz, strict=True):
        b = getattr(x, b_name)
        if need[bias_name]:
            made[bias_name] = _sum_to(d, getattr(shape_of, bias_name))
        scaled = d if scale is None else (d * scale).to(d.dtype)
        da, db = _product_backward(
            scaled, x.a, b, getattr(shape_of, b_name), turned[b_name], need["a"], need[b_name], o
        )
        made[b_name] = db
        if da is not None:
            made["a"] = da if made["a"] is None else made["a"] + da
        if need["row_scale"] or need["column_scale"]:
            wide = torch.float64 if x.a.dtype == torch.float64 else torch.float32
            plain = _Options(alpha=o.alpha, math=o.math, deterministic=o.deterministic, out_dtype=wide)
            product = d * _matmul(_Operands(x.a, b), plain)
            name: str
            own: Any
            for name, own, other in (
                ("row_scale", x.row_scale, x.column_scale),
                ("column_scale", x.column_scale, rows),
            ):
                if need[name]:
                    of_rows = product if other is None else product * other
                    vector = own[:, None] if name == "row_scale" else own
                    part = _sum_to(of_rows, vector.shape).reshape(own.shape)
                    made[name] = part if made[name] is None else made[name] + part
    return [made[name] for name in _Operands._fields]


def _kept(x: _Operands, o: _Options, needs: Sequence[bool], saves: bool) -> tuple[Any, ...]:
    """The operands that the backward pass reads. `saves`: it is given the values before the activation."""
    need = _Operands(*needs)
    scales = need.row_scale or need.column_scale
    again = not saves and (o.activation != "none" or _is_gated(x, o))
    both = again or scales or (x.b.dim() > 2 and (need.a or need.b or need.b2))
    a = both or need.b or need.b2
    b = both or need.a
    return _Operands(
        x.a if a else None, x.b if b else None, x.bias if again else None, x.c if again else None,
        x.b2 if b else None, x.bias2 if again else None, None, x.row_scale, x.column_scale,
    )  # fmt: skip


# ---- The operators ----


def _split(arguments: Sequence[Any]) -> tuple[_Operands, _Options]:
    count = len(_Operands._fields)
    return _Operands(*arguments[:count]), _Options(*arguments[count:])


def _checked(arguments: Sequence[Any]) -> tuple[_Operands, _Options]:
    """What can be said of a call without memory."""
    x, o = _split(arguments)
    for name in ("b", "b2"):
        check_type(name, getattr(x, name), "a", x.a)
    _check(x, o)
    return x, o


def _fake(*arguments: Any) -> torch.Tensor:
    x, o = _checked(arguments)
    return _empty_result(x, o)


def _fake_saving(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, o = _checked(arguments)
    _check_saving(x, o)
    return _empty_result(x, o), _empty_result(x, o, x.a.dtype)


def _real_saving(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x, o = _split(arguments)
    _check_saving(x, o)
    y, before, _ = _run_saving(x, o)
    assert before is not None
    return y, before


def _check_saving(x: _Operands, o: _Options) -> None:
    if _is_gated(x, o):
        raise _core.Unsupported("operand b2, gate: none required by matmul_saving, got one; use matmul")
    if o.activation == "none":
        raise _core.InvalidProblem("activation: one required by matmul_saving, got 'none'; use matmul")


def _setup(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, ctx.options = _split(inputs)
    ctx.about = _about(x)
    ctx.save_for_backward(*_kept(x, ctx.options, needed(ctx, x._fields), False))


def _setup_saving(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
    x, ctx.options = _split(inputs)
    ctx.about = _about(x)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*_kept(x, ctx.options, needed(ctx, x._fields), True), output[1], None)


@first_derivative("cutplan::matmul_backward")
def _operator_backward(ctx: Any, saved: Sequence[Any], grad: torch.Tensor, *_: Any) -> tuple[Any, ...]:
    made = _gradients(grad, saved, ctx.about, ctx.options, needed(ctx, _Operands._fields))
    return (*made, *[None] * len(_Options._fields))


def _flops(a: Any, b: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    shape = out_shape[0] if isinstance(out_shape[0], (tuple, list, torch.Size)) else out_shape
    gates = 2 if len(rest) > 2 and rest[2] is not None else b[-1] // shape[-1]
    return 2 * gates * _math.prod(shape) * a[-1]


def _lift(x: torch.Tensor, dim: int | None, batch: int, rank: int) -> torch.Tensor:
    """The batch first, then as many ones as make `rank` dimensions of the rest."""
    x = x.expand(batch, *x.shape) if dim is None else x.movedim(dim, 0)
    return x.reshape(batch, *[1] * (rank - x.dim() + 1), *x.shape[1:])


def _vmap(operator: Any, outputs: int) -> Any:
    """The batch becomes the first of the kernel's batch dimensions. Vectors have none: that of a bias goes
    the way of c."""
    each = one_by_one(operator)

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        x, o = _split(arguments)
        dims = _Operands(*in_dims[: len(x)])
        bias_goes = dims.bias is not None and x.c is None and not _is_gated(x, o)
        stays = {"row_scale", "column_scale", "bias2", *(() if bias_goes else ("bias",))}
        if any(getattr(dims, name) is not None for name in stays):
            return each(info, in_dims, *arguments)
        rank = max(t.dim() - (dim is not None) for t, dim in ((x.a, dims.a), (x.b, dims.b)))
        made = {
            name: t if dim is None and name != "a" else _lift(t, dim, info.batch_size, rank)
            for name, t, dim in zip(_Operands._fields, x, dims, strict=True)
            if t is not None
        }
        if bias_goes:
            made["c"], o = made.pop("bias"), o._replace(beta=1.0)
        result = operator(*_Operands(**made), *o)
        if outputs == 1:
            return result, 0
        return result, (0,) * outputs

    return rule


def _vmap_backward(operator: Any) -> Any:
    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        grad, a, b, da, db, of_rows, _, math, deterministic = arguments
        size, dims = info.batch_size, in_dims[:3]
        made: list[torch.Tensor] = []
        shapes: list[Any] = []
        if of_rows:
            options = _Options(math=math, deterministic=deterministic)
            grad = _lift(grad, dims[0], size, grad.dim() - (dims[0] is not None))
            rows = grad.shape[1:-1]
            grad = grad.flatten(1, -2)
            if da:
                b = _lift(b, dims[2], size, 2)
                made.append(matmul_operator(*_Operands(grad, b.mT), *options))
                shapes.append((*rows, b.shape[-2]))
            if db:
                a = _lift(a, dims[1], size, a.dim() - (dims[1] is not None)).flatten(1, -2)
                made.append(matmul_operator(*_Operands(a.mT, grad), *options))
                shapes.append((a.shape[-1], grad.shape[-1]))
        else:
            matrices = (grad, a, b)
            own = [
                [n for i, n in enumerate(t.shape) if i != dim] for t, dim in zip(matrices, dims, strict=True)
            ]
            rank = max(map(len, own))
            lifted = [_lift(t, dim, size, rank) for t, dim in zip(matrices, dims, strict=True)]
            turned = is_turned(lifted[2])
            made = operator(*lifted, da, db, False, turned, math, deterministic)
            shapes = [shape for shape, wanted in zip(own[1:], (da, db), strict=True) if wanted]
        result = [t.reshape(size, *shape) for t, shape in zip(made, shapes, strict=True)]
        return result, [0] * len(result)

    return rule


matmul_backward_operator = define(
    "matmul_backward",
    "Tensor grad, Tensor? a, Tensor? b, bool da, bool db, bool of_rows, bool turned, str math, "
    "bool deterministic",
    "Tensor[]",
    _run_backward,
    _fake_backward,
    vmap=_vmap_backward,
    flops=lambda grad, a, b, da, db, *_, **__: (
        (da + db) * 2 * _math.prod(grad) * (a[-1] if a is not None else b[-2])
    ),
)

matmul_operator = define(
    "matmul",
    schema(_Operands, _Options),
    "Tensor",
    lambda *arguments: _run(*_split(arguments)),
    _fake,
    setup_context=_setup,
    backward=_operator_backward,
    vmap=lambda operator: _vmap(operator, 1),
    casts=_CASTS,
    flops=_flops,
)

# Also the values before an activation, which the backward pass reads, so that they need not be computed
# again.
matmul_saving_operator = define(
    "matmul_saving",
    schema(_Operands, _Options),
    "(Tensor, Tensor)",
    _real_saving,
    _fake_saving,
    setup_context=_setup_saving,
    backward=_operator_backward,
    vmap=lambda operator: _vmap(operator, 2),
    casts=_CASTS,
    flops=_flops,
)


# ---- The direct way ----


class _Matmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, o: _Options, *operands: Any) -> torch.Tensor:
        x = _Operands(*operands)
        y, *before = _run_saving(x, o)
        ctx.options, ctx.about = o, _about(x)
        ctx.save_for_backward(*_kept(x, o, ctx.needs_input_grad[1:], True), *before)
        return y

    @staticmethod
    @first_derivative("cutplan::matmul_backward")
    def backward(ctx: Any, saved: Sequence[Any], *grads: torch.Tensor) -> Any:
        return (None, *_gradients(grads[0], saved, ctx.about, ctx.options, ctx.needs_input_grad[1:]))


_apply_matmul = applied(_Matmul)


def _matmul(x: _Operands, o: _Options) -> torch.Tensor:
    _check(x, o)
    if is_traced(x.a, x.b):
        if records(*x) and _is_gated(x, o):
            return _run_saving(x, o)[0]  # in operators that a compiler can join
        if records(*x) and o.activation != "none":
            return matmul_saving_operator(*x, *o)[0]
        return matmul_operator(*x, *o)
    dtype = autocast_dtype(x.a)
    if dtype is not None:
        x = _Operands(
            *(cast(t, dtype) if n in _CASTS else t for n, t in zip(_Operands._fields, x, strict=True))
        )
    if records(*x):
        return _apply_matmul(o, *x)
    return _run(x, o)


class _MatmulOptions(TypedDict, total=False):
    """What matmul() takes beside its operands, for type checkers."""

    bias: torch.Tensor | None
    activation: str
    c: torch.Tensor | None
    alpha: float
    beta: float | None
    b2: torch.Tensor | Quantized | PackedWeights | None
    bias2: torch.Tensor | None
    gate: str | None
    residual: torch.Tensor | None
    row_scale: torch.Tensor | None
    column_scale: torch.Tensor | None
    a_scale: torch.Tensor | None
    b_scale: torch.Tensor | None
    b2_scale: torch.Tensor | None
    a_zero: torch.Tensor | None
    b_zero: torch.Tensor | None
    out_scale: torch.Tensor | None
    math: str
    deterministic: bool
    out_dtype: torch.dtype | None


@overload
def matmul(
    a: torch.Tensor | Quantized,
    b: torch.Tensor | Quantized | PackedWeights,
    *,
    out_columns: None = None,
    **options: Unpack[_MatmulOptions],
) -> torch.Tensor: ...


@overload
def matmul(
    a: torch.Tensor | Quantized,
    b: torch.Tensor | Quantized | PackedWeights,
    *,
    out_columns: Sequence[int],
    **options: Unpack[_MatmulOptions],
) -> tuple[torch.Tensor, ...]: ...


def matmul(
    a: torch.Tensor | Quantized,
    b: torch.Tensor | Quantized | PackedWeights,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    c: torch.Tensor | None = None,
    alpha: float = 1.0,
    beta: float | None = None,
    b2: torch.Tensor | Quantized | PackedWeights | None = None,
    bias2: torch.Tensor | None = None,
    gate: str | None = None,
    residual: torch.Tensor | None = None,
    row_scale: torch.Tensor | None = None,
    column_scale: torch.Tensor | None = None,
    a_scale: torch.Tensor | None = None,
    b_scale: torch.Tensor | None = None,
    b2_scale: torch.Tensor | None = None,
    a_zero: torch.Tensor | None = None,
    b_zero: torch.Tensor | None = None,
    out_scale: torch.Tensor | None = None,
    math: str = "tf32x3",
    deterministic: bool = False,
    out_columns: Sequence[int] | None = None,
    out_dtype: torch.dtype | None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """cutplan.matmul() with gradients, for every tensor of floats that is an operand.

    All is as there, but for what torch's own functions do otherwise: autocast casts operands (not the
    scales), and an operand whose strides no kernel reads is copied. With an activation the value before it is
    kept for the backward pass, with a gate both factors. Gradients have the types and the order of their
    operands; they cannot be differentiated again.

    Products of int8 and float8 have no gradient. Of packed weights all other operands have theirs, by the
    weight unpacked, and so has the product itself where no kernel serves it: with a of float32, for one.

    With `out_columns` the results are tensors of their own where nothing is recorded or traced; elsewhere
    they are columns of one, so that one backward product has the gradients of all.
    """
    if out_columns is not None:
        options: dict[str, Any] = {
            "bias": bias, "activation": activation, "c": c, "alpha": alpha, "beta": beta, "b2": b2,
            "bias2": bias2, "gate": gate, "residual": residual, "row_scale": row_scale,
            "column_scale": column_scale, "a_scale": a_scale, "b_scale": b_scale, "b2_scale": b2_scale,
            "a_zero": a_zero, "b_zero": b_zero, "out_scale": out_scale, "math": math,
            "deterministic": deterministic, "out_dtype": out_dtype,
        }  # fmt: skip
        tensors = [x for x in (a, b, bias, c, b2, bias2, residual) if isinstance(x, torch.Tensor)]
        if (
            isinstance(a, torch.Tensor)
            and isinstance(b, torch.Tensor)
            and is_direct(a, b)
            and not records(*tensors, row_scale, column_scale)
        ):
            try:
                return plain.matmul(a, b, out_columns=out_columns, **options)
            except REFUSED:
                pass
        return _in_columns(matmul(a, b, **options), b, out_columns)
    if (
        not isinstance(b, torch.Tensor)
        or not isinstance(a, torch.Tensor)
        or a.dtype in CODES
        or not (a_scale is b_scale is b2_scale is a_zero is b_zero is out_scale is None)
    ):
        from ._quantized import matmul_of_few_bits

        return matmul_of_few_bits(
            _Operands(a, b, bias, c, b2, bias2, residual, row_scale, column_scale),
            (a_scale, b_scale, b2_scale, a_zero, b_zero, out_scale),
            _Options(activation, alpha, beta, gate, math, deterministic, out_dtype),
        )
    assert b2 is None or isinstance(b2, torch.Tensor)
    if is_direct(a, b):
        if not records(a, b, bias, c, b2, bias2, residual, row_scale, column_scale):
            try:
                return plain.matmul(
                    a, b, bias=bias, activation=activation, c=c, alpha=alpha, beta=beta, b2=b2, bias2=bias2,
                    gate=gate, residual=residual, row_scale=row_scale, column_scale=column_scale, math=math,
                    deterministic=deterministic, out_dtype=out_dtype,
                )  # fmt: skip
            except REFUSED:
                pass
        elif (
            c is b2 is residual is row_scale is column_scale is gate is out_dtype is None
            and alpha == 1
            and a.dim() > 1
            and b.dim() == 2
            and (bias is None or bias.dim() == 1)
        ):
            return _apply_linear(a, b, bias, False, activation, math, deterministic)
        elif (
            b2 is not None
            and c is residual is row_scale is column_scale is out_dtype is None
            and gate in (None, "separate")
            and alpha == 1
            and activation in ACTIVATIONS
            and a.dim() > 1
            and b.dim() == 2
            and b.shape == b2.shape
            and (bias is None if bias2 is None else bias is not None and bias.dim() == 1)
        ):
            return _apply_gated(a, b, b2, bias, bias2, activation, math, deterministic)
    column = b.dim() == 1
    row = a.dim() == 1
    x = _Operands(
        a[None] if row else a,
        b[:, None] if column else b,
        bias,
        c,
        b2,
        bias2,
        residual,
        row_scale,
        column_scale,
    )
    y = _matmul(x, _Options(activation, alpha, beta, gate, math, deterministic, out_dtype))
    if column:
        y = y.squeeze(-1)
    return y.squeeze(-1 if column else -2) if row else y


def _in_columns(
    y: torch.Tensor, b: torch.Tensor | Quantized | PackedWeights, columns: Sequence[int]
) -> tuple[torch.Tensor, ...]:
    if isinstance(b, torch.Tensor) and b.dim() < 2:
        raise _core.ShapeMismatch(
            f"operand b: two dimensions or more required of several outputs, got {[*b.shape]}"
        )
    n = y.shape[-1]
    if sum(columns) != n or min(columns, default=0) < 1:
        raise _core.InvalidProblem(
            f"out_columns: n = {n} columns required in all, at least 1 of each output, got {[*columns]}"
        )
    return tuple(y.split([*columns], dim=-1))


class _Linear(torch.autograd.Function):
    """activation(x w + bias), or with w transposed (`turned`, as torch.nn.Linear has it). Rows are counted
    through, so that all of a step is products of two dimensions."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        w: torch.Tensor,
        bias: torch.Tensor | None,
        turned: bool,
        activation: str,
        math: str,
        deterministic: bool,
    ) -> torch.Tensor:
        before = None
        if activation != "none":
            before = x.new_empty(*x.shape[:-1], w.shape[0 if turned else 1])
        b = w.t() if turned else w
        try:
            y = plain.matmul(
                x, b, bias=bias, activation=activation, aux=before, math=math, deterministic=deterministic
            )
        except REFUSED:
            o = _Options(activation=activation, math=math, deterministic=deterministic)
            y = _run(_Operands(x, b, bias), o, before)
        needs = ctx.needs_input_grad
        ctx.options = (turned, is_turned(w), activation, math, deterministic)
        ctx.save_for_backward(x if needs[1] else None, w if needs[0] else None, before)
        return y

    @staticmethod
    @first_derivative("cutplan::matmul_backward")
    def backward(ctx: Any, saved: Sequence[Any], *grads: torch.Tensor) -> Any:
        x, w, before = saved
        turned, in_columns, activation, *how = ctx.options
        needs_x, needs_w, needs_bias = ctx.needs_input_grad[:3]
        dz = grads[0] if before is None else _activation_backward(grads[0], before, activation)
        dx = _product(dz, w if turned else w.t(), *how) if needs_x else None
        dw = None
        if needs_w:
            left, right = (dz, x) if turned else (x, dz)
            dw = _of_weight(left, right, in_columns, *how)
        db = (dz.flatten(0, -2) if dz.dim() > 2 else dz).sum(0) if needs_bias else None
        return dx, dw, db, None, None, None, None


_apply_linear = applied(_Linear)


class _Gated(torch.autograd.Function):
    """activation(x a + bias) (x b + bias2), a and b of two dimensions. The two products are kept, and what is
    between them is computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        bias: torch.Tensor | None,
        bias2: torch.Tensor | None,
        activation: str,
        math: str,
        deterministic: bool,
    ) -> torch.Tensor:
        plain = _Options(math=math, deterministic=deterministic)
        first, second = _run(_Operands(x, a, bias), plain), _run(_Operands(x, b, bias2), plain)
        needs = ctx.needs_input_grad
        ctx.options = (is_turned(a), is_turned(b), activation, math, deterministic)
        kept = x if needs[1] or needs[2] else None
        ctx.save_for_backward(kept, *((a, b) if needs[0] else (None, None)), first, second)
        return _activate(first, activation) * second

    @staticmethod
    @first_derivative("cutplan::matmul_backward")
    def backward(ctx: Any, saved: Sequence[Any], *grads: torch.Tensor) -> Any:
        x, a, b, first, second = saved
        a_in_columns, b_in_columns, activation, *how = ctx.options
        needs = ctx.needs_input_grad
        grad = grads[0]
        dz = _activation_backward(grad * second, first, activation)
        dz2 = grad * _activate(first, activation)
        dx = _add_product(_product(dz, a.t(), *how), dz2, b.t(), *how) if needs[0] else None
        da = _of_weight(x, dz, a_in_columns, *how) if needs[1] else None
        db = _of_weight(x, dz2, b_in_columns, *how) if needs[2] else None
        bias, bias2 = (
            d.flatten(0, -2).sum(0) if needed else None
            for d, needed in zip((dz, dz2), needs[3:5], strict=True)
        )
        return dx, da, db, bias, bias2, None, None, None


_apply_gated = applied(_Gated)


def _check_weight(name: str, weight: torch.Tensor, x: torch.Tensor) -> None:
    """Before it is turned: matmul() would speak of what it is then."""
    if x.shape[-1:] != weight.shape[-1:]:
        raise _core.ShapeMismatch(
            f"operand {name}: the last dimension of x {[*x.shape]} required, got shape {[*weight.shape]}"
        )


def linear(
    x: torch.Tensor | Quantized,
    weight: torch.Tensor | Quantized | PackedWeights,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "none",
    math: str = "tf32x3",
    deterministic: bool = False,
) -> torch.Tensor:
    """``activation(x weight^T + bias)``: torch.nn.functional.linear() with an activation, in one kernel.

    `x` [..., k], `weight` [n, k], `bias` [n]. `activation`, `math` and `deterministic` are matmul()'s.

    `weight` may be a Quantized [n, k], int8 or float8, symmetric, with scales by "row", "tensor", "block" or
    "group" along axis -1, groups and blocks of 128: x is then quantised on its way, to int8 or
    float8_e4m3fn, by rows, or in groups of 128 where weight has groups or blocks. It may be PackedWeights,
    whose shape is (k, n), as pack_weights(weight.T) makes them. Gradients are then those of x and bias, as if
    nothing had been rounded but the weight.
    """
    if not isinstance(weight, torch.Tensor) or not isinstance(x, torch.Tensor):
        from ._quantized import linear_of_few_bits

        return linear_of_few_bits(x, weight, bias, activation)
    if is_direct(x, weight) and x.dim() > 1 and weight.dim() == 2:
        try:
            if records(x, weight, bias):
                return _apply_linear(x, weight, bias, True, activation, math, deterministic)
            return plain.matmul(
                x, weight.t(), bias=bias, activation=activation, math=math, deterministic=deterministic
            )
        except REFUSED:
            pass
        except _core.ShapeMismatch:
            _check_weight("weight", weight, x)
            raise
    _check_weight("weight", weight, x)
    w = weight.t() if weight.dim() == 2 else weight
    return matmul(x, w, bias=bias, activation=activation, math=math, deterministic=deterministic)


def gated_mlp(
    x: torch.Tensor,
    gate_weight: torch.Tensor,
    up_weight: torch.Tensor,
    down_weight: torch.Tensor,
    *,
    gate_bias: torch.Tensor | None = None,
    up_bias: torch.Tensor | None = None,
    down_bias: torch.Tensor | None = None,
    activation: str = "silu",
    math: str = "tf32x3",
    deterministic: bool = False,
) -> torch.Tensor:
    """``(activation(x gate_weight^T) * (x up_weight^T)) down_weight^T``, weights as torch.nn.Linear has them
    (Shazeer 2020, "GLU Variants Improve Transformer"). Without gradients the first two products and the gate
    are one kernel."""
    _check_weight("gate_weight", gate_weight, x)
    if up_weight.shape != gate_weight.shape:
        raise _core.ShapeMismatch(
            f"operand up_weight: shape {[*gate_weight.shape]} of gate_weight required, "
            f"got {[*up_weight.shape]}"
        )
    if (gate_bias is None) != (up_bias is None):
        weight = gate_weight if gate_bias is None else up_weight
        nothing = weight.new_zeros(weight.shape[0])
        gate_bias, up_bias = (nothing if t is None else t for t in (gate_bias, up_bias))
    h = matmul(
        x, gate_weight.t(), bias=gate_bias, activation=activation, b2=up_weight.t(), bias2=up_bias,
        gate="separate", math=math, deterministic=deterministic,
    )  # fmt: skip
    return linear(h, down_weight, down_bias, math=math, deterministic=deterministic)
