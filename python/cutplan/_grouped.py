"""Products of different sizes as one call: describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from . import _core, _errors, _frameworks, _plans

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
    alpha: float | None
    math: MathLike | None
    deterministic: bool
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
    b: Tensor,
    offsets: Tensor,
    *,
    bias: Tensor | None = None,
    activation: ActivationLike = "none",
    b2: Tensor | None = None,
    bias2: Tensor | None = None,
    gate: GateLike | None = None,
    row_scale: Tensor | None = None,
    column_scale: Tensor | None = None,
    alpha: float | None = 1.0,
    math: MathLike | None = "tf32x3",
    deterministic: bool = False,
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

    With a 2-D `b` [k, n]: columns offsets[g] to offsets[g + 1] of `a` [m, k], times those rows of b, are
    result[g], of [groups, m, n]; zeros where a group is empty. `a` is column-major: pass ``x.T`` for x
    [k, m].

    Types, outputs, `alpha`, `activation`, `math`, `deterministic`, `preference` and `stream` are as in
    matmul(). Errors are those of GroupedGemmPlan.select and GroupedGemmPlan.run, in terms of these arguments.
    """
    if preference is not None:
        _plans.check_preference(preference)
    a_info, b_info = _core.inspect(a, "a"), _core.inspect(b, "b")
    offsets_info = _core.inspect(offsets, "offsets")
    for name, info, ranks in (("a", a_info, (2,)), ("b", b_info, (2, 3)), ("offsets", offsets_info, (1,))):
        if len(info.shape) not in ranks:
            raise _core.ShapeMismatch(
                f"operand {name}: rank {' or '.join(map(str, ranks))} required, got shape {info.shape}"
            )
    (m, k), (*groups, rows, n) = a_info.shape, b_info.shape
    if rows != k:
        raise _core.ShapeMismatch(_unequal_k(a_info.shape, b_info.shape))
    if groups and offsets_info.shape[0] != groups[0] + 1:
        raise _core.ShapeMismatch(
            f"operand offsets: shape ({groups[0] + 1},) required, groups + 1 offsets, starting with 0 and "
            f"then the end of each group, got {offsets_info.shape}"
        )
    if gate == "interleaved":
        if n % 2 != 0:
            raise _core.ShapeMismatch(
                f"operand b: shape [groups, k, 2 n] required with gate='interleaved', got {b_info.shape}"
            )
        n //= 2
    shape: tuple[int, ...] = (m, n) if groups else (max(offsets_info.shape[0] - 1, 0), m, n)
    target, target_info, lender, lender_info, allocates = _frameworks.target(
        a_info, a, shape, out, out_dtype, stream
    )
    try:
        descriptor = _core.describe_grouped(
            a_info,
            b_info,
            target_info,
            offsets_info,
            bias=bias,
            b2=b2,
            bias2=bias2,
            row_scale=row_scale,
            column_scale=column_scale,
            activation=activation,
            gate=gate,
        )
        generation = _core.tuning_generation()
        plan = _select(descriptor, a_info.device, allocates, math, deterministic, preference, generation)
        # Scratch may go as soon as run() returns: on a GPU its library reuses it in the order of the stream.
        plan.run(
            a,
            b,
            target,
            offsets,
            bias=bias,
            b2=b2,
            bias2=bias2,
            row_scale=row_scale,
            column_scale=column_scale,
            alpha=1.0 if alpha is None else alpha,
            stream=stream,
            workspace=_frameworks.scratch(lender_info, lender, plan.workspace_size, stream),
        )
    except _core.Error as error:
        _errors.reword(error, {"d": "out"})
        raise
    _plans.of_thread.plans = (plan,)
    return _frameworks.finish(a_info, a, target) if out is None else out


def _unequal_k(a: tuple[int, ...], b: tuple[int, ...]) -> str:
    text = (
        f"operand b: {a[-1]} rows required to match the last dimension of a, got {b[-2]} "
        f"(a has shape {a}, b {b})"
    )
    if len(b) == 3:
        return f"{text}; pass b.mT" if b[-1] == a[-1] else text
    return f"{text}; with a 2-D b the groups are over k{': pass a.T' if a[0] == b[0] else ''}"


@functools.lru_cache(maxsize=1024)
def _select(
    descriptor: _core.GroupedGemmDescriptor,
    device: str,
    scratch_allowed: bool,
    math: MathLike | None,
    deterministic: bool,
    preference: _core.PlanPreference | None,
    generation: int,  # of what is known of kernels: part of the key
) -> _core.GroupedGemmPlan:
    wanted = _plans.preference(preference, scratch_allowed, math, deterministic)
    return _plans.chosen(_core.GroupedGemmPlan.select(descriptor, device, wanted))
