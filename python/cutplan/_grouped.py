"""Products of different sizes as one call: describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from . import _core, _plans
from ._weights import PackedWeights, packings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import (
        ActivationLike,
        Array,
        DTypeLike,
        GateLike,
        MathLike,
        StreamLike,
        SupportsDLPack,
        Tensor,
    )

_TensorT = TypeVar("_TensorT", bound="SupportsDLPack | Array")


class _Options(TypedDict, total=False):
    """What grouped_matmul() takes beside its operands and output, for type checkers."""

    bias: Tensor | None
    activation: ActivationLike
    b2: Tensor | None
    bias2: Tensor | None
    gate: GateLike | None
    row_scale: Tensor | None
    column_scale: Tensor | None
    a_scale: Tensor | None
    b_scale: Tensor | None
    b2_scale: Tensor | None
    out_scale: Tensor | None
    amax: Tensor | None
    alpha: float | None
    math: MathLike | None
    deterministic: bool | None
    preference: _core.PlanPreference | None
    out_dtype: DTypeLike | None
    stream: StreamLike | None


@overload
def grouped_matmul(
    a: _core.TensorView,
    b: Tensor,
    offsets: Tensor,
    *,
    out: Tensor | None = None,
    **options: Unpack[_Options],
) -> Any: ...


@overload
def grouped_matmul(
    a: _TensorT, b: Tensor, offsets: Tensor, *, out: None = None, **options: Unpack[_Options]
) -> _TensorT: ...


@overload
def grouped_matmul(
    a: Tensor, b: Tensor, offsets: Tensor, *, out: _TensorT, **options: Unpack[_Options]
) -> _TensorT: ...


def grouped_matmul(
    a: Tensor,
    b: Tensor | PackedWeights,
    offsets: Tensor,
    *,
    bias: Tensor | None = None,
    activation: ActivationLike = "none",
    b2: Tensor | None = None,
    bias2: Tensor | None = None,
    gate: GateLike | None = None,
    row_scale: Tensor | None = None,
    column_scale: Tensor | None = None,
    a_scale: Tensor | None = None,
    b_scale: Tensor | None = None,
    b2_scale: Tensor | None = None,
    out_scale: Tensor | None = None,
    amax: Tensor | None = None,
    alpha: float | None = 1.0,
    math: MathLike | None = "tf32x3",
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    out: Tensor | None = None,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """One product per group of rows (or, for weight gradients, of the summed dimension), in one launch.

    `offsets`, int32 [groups + 1] on the operands' device, bounds the groups. A GPU's are never read by the
    host: a captured graph replays with whatever is there then. They may not decrease, and groups may be
    empty.

    With a 3-D `b` [groups, k, n]: rows offsets[g] to offsets[g + 1] of `a` [m, k], times b[g], are those rows
    of the result [m, n]. Rows outside the groups are not written: in a new result they hold anything. `bias`
    [groups, n] is added, and `row_scale` [m] and `column_scale` [groups, n], float32, multiply. `b2`, `bias2`
    and `gate` are as in matmul(), with the dimension of groups before theirs.

    int8 and float8 operands, with a 3-D `b`, and `a_scale`, `b_scale`, `b2_scale`, `out_scale` and `amax` are
    as in matmul(); scales of a are [1], [m] or [m, ceil(k / 128)], those of b [groups], [groups, n], [groups,
    ceil(k / 128), n] or [groups, ceil(k / 128), ceil(n / 128)].

    With a 2-D `b` [k, n]: columns offsets[g] to offsets[g + 1] of `a` [m, k], times those rows of b, are
    result[g], of [groups, m, n]; zeros where a group is empty. `a` is column-major: pass ``x.T`` for x
    [k, m].

    Packed weights of one packing are such a b, too: ``packed._replace(data=...)`` of their tensors, stacked.

    Types, outputs, `alpha`, `activation`, `math`, `deterministic`, `preference` and `stream` are as in
    matmul(). Errors are those of GroupedGemmPlan.select and GroupedGemmPlan.run, in terms of these arguments.
    """
    weights = None
    if isinstance(b, PackedWeights):
        weights, b, b2 = packings(b, b2)
    a_shape, b_shape = _core.inspect(a, "a").shape, _core.inspect(b, "b").shape
    offsets_shape = _core.inspect(offsets, "offsets").shape
    for name, shape, ranks in (
        ("a", a_shape, (2,)),
        ("b", b_shape, (2, 3)),
        ("offsets", offsets_shape, (1,)),
    ):
        if len(shape) not in ranks:
            raise _core.ShapeMismatch(
                f"operand {name}: rank {' or '.join(map(str, ranks))} required, got shape {[*shape]}"
            )
    if weights is None and b_shape[-2] != a_shape[1]:
        raise _core.ShapeMismatch(_unequal_k(a_shape, b_shape))
    plan, result, *_ = _core.call_grouped_gemm(
        a, b, out, offsets, bias, b2, bias2, row_scale, column_scale,
        a_scale, b_scale, b2_scale, out_scale, amax,
        alpha, activation, gate, weights, out_dtype, deterministic, preference, stream, math,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return result


def _unequal_k(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    text = (
        f"operand b: {a[-1]} rows required to match the last dimension of a, got {b[-2]} "
        f"(a has shape {[*a]}, b {[*b]})"
    )
    if len(b) == 3:
        return f"{text}; pass b.mT" if b[-1] == a[-1] else text
    return f"{text}; with a 2-D b the groups are over k{': pass a.T' if a[0] == b[0] else ''}"
