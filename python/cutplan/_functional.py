"""The functional face: one call that describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from . import _core, _frameworks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._typing import Array, DTypeLike, StreamLike, SupportsDLPack, Tensor

_TensorT = TypeVar("_TensorT", bound="SupportsDLPack | Array")


@overload
def matmul(
    a: _core.TensorView,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | _core.Activation = "none",
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float | None = None,
    out: Tensor | None = None,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> Any: ...


@overload
def matmul(
    a: _TensorT,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | _core.Activation = "none",
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float | None = None,
    out: None = None,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> _TensorT: ...


@overload
def matmul(
    a: Tensor,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | _core.Activation = "none",
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float | None = None,
    out: _TensorT,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> _TensorT: ...


def matmul(
    a: Tensor,
    b: Tensor,
    *,
    bias: Tensor | None = None,
    activation: str | _core.Activation = "none",
    c: Tensor | None = None,
    alpha: float = 1.0,
    beta: float | None = None,
    out: Tensor | None = None,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """``activation(alpha * a @ b + beta * c + bias)`` with the shape rules of ``numpy.matmul``.

    Shapes: `a` [..., m, k] and `b` [..., k, n], whose leading dimensions broadcast; a 1-D `a` is a row and a
    1-D `b` a column, and that dimension is left out of the result; `c` broadcasts to the result's shape;
    `bias` is [n].

    Types: `a` and `b` share one floating-point type; the result has `out_dtype`, or `a`'s type. `beta` is 1
    if `c` is given. `activation` is "none", "relu", "gelu_erf", "gelu_tanh" or "silu".

    Operands are read through their strides: transposed and sliced tensors are neither copied nor cast. The
    result is a new tensor of `a`'s library (NumPy, torch, CuPy, or JAX on the host), or `out`. `stream` is
    None (the current stream of the output's library), an integer, or an object with ``__cuda_stream__``; the
    call does not wait for the GPU.

    The plan is chosen once per kind of problem and kept. Errors are those of GemmPlan.select and
    GemmPlan.run.
    """
    a_info = _core.inspect(a, "a")
    b_info = _core.inspect(b, "b")
    a_shape, b_shape = a_info.shape, b_info.shape
    if not a_shape or not b_shape:
        raise _core.ShapeMismatch(
            f"operand {'b' if a_shape else 'a'}: at least one dimension required, got a scalar"
        )
    k = b_shape[-2] if len(b_shape) > 1 else b_shape[0]
    if a_shape[-1] != k:
        raise _core.ShapeMismatch(
            f"operand b: {a_shape[-1]} rows required to match the last dimension of a, got {k} (a has shape "
            f"{a_shape}, b {b_shape})"
        )
    shape = (
        _broadcast(a_shape[:-2], b_shape[:-2])
        + (a_shape[-2:-1] if len(a_shape) > 1 else ())
        + (b_shape[-1:] if len(b_shape) > 1 else ())
    )
    target, lender, lender_info = _frameworks.target(a_info, a, shape, out, out_dtype, stream)
    scratch_allowed = _frameworks.allocates(lender_info)

    # Scratch may go as soon as run() returns: on a GPU its library reuses it in the order of the stream.
    plain = len(a_shape) == len(b_shape) == 2 and c is None
    for operands in (
        [_Operands(a, b, target, c)] if plain else _batches(a_info, b_info, a, b, target, c, shape)
    ):
        descriptor = _core.describe(
            operands.a, operands.b, operands.d, c=operands.c, bias=bias, activation=activation
        )
        plan = _select(descriptor, a_info.device, scratch_allowed)
        plan.run(
            operands.a,
            operands.b,
            operands.d,
            c=operands.c,
            bias=bias,
            alpha=alpha,
            beta=beta,
            stream=stream,
            workspace=_frameworks.scratch(lender_info, lender, plan.workspace_size, stream),
        )
    return _frameworks.finish(a_info, a, target) if out is None else out


@functools.lru_cache(maxsize=256)
def _select(descriptor: _core.GemmDescriptor, device: str, scratch_allowed: bool) -> _core.GemmPlan:
    preference = None if scratch_allowed else _core.PlanPreference(max_workspace_bytes=0)
    return _core.GemmPlan.select(descriptor, device, preference)


class _Operands(NamedTuple):
    a: Tensor
    b: Tensor
    d: Tensor
    c: Tensor | None


def _broadcast(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    shape: list[int] = []
    for p, q in itertools.zip_longest(reversed(x), reversed(y), fillvalue=1):
        if p != q and p != 1 and q != 1:
            raise _core.ShapeMismatch(
                f"operand b: batch dimensions that broadcast with a's {x} required, got {y}"
            )
        shape.append(q if p == 1 else p)
    return tuple(reversed(shape))


class _Axis:
    """One dimension of the whole problem: its extent, and each operand's stride along it."""

    __slots__ = ("size", "strides")

    def __init__(self, size: int, strides: tuple[int, ...]) -> None:
        self.size = size
        self.strides = strides

    def continues(self, inner: _Axis) -> bool:
        """Whether a step here is `inner.size` steps of `inner` for every operand: the two are one axis."""
        return all(x == y * inner.size for x, y in zip(self.strides, inner.strides, strict=True))


def _strides_over(info: _core.TensorInfo, shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """The strides with which a tensor broadcasts to `shape`."""
    missing = len(shape) - len(info.shape)
    if missing < 0 or any(
        have not in (1, want) for have, want in zip(info.shape, shape[missing:], strict=True)
    ):
        raise _core.ShapeMismatch(
            f"operand {name}: a shape that broadcasts to {shape} required, got {info.shape}"
        )
    return (0,) * missing + tuple(
        0 if have == 1 else stride for have, stride in zip(info.shape, info.strides, strict=True)
    )


def _batches(
    a_info: _core.TensorInfo,
    b_info: _core.TensorInfo,
    a: Tensor,
    b: Tensor,
    d: Tensor,
    c: Tensor | None,
    shape: tuple[int, ...],
) -> Iterator[_Operands]:
    """Lays the problem out as few strided batches as its strides allow; most often one.

    Batch dimensions that step evenly through every operand are one. Where all batches share B, they are
    further rows of A. Of what is left, the longest dimension is the batch and the others are looped over.
    """
    tensors = [a, b, d]
    infos = [a_info, b_info, _core.inspect(d, "out")]
    if c is not None:
        tensors.append(c)
        infos.append(_core.inspect(c, "c"))
    a_vector, b_vector = len(a_info.shape) == 1, len(b_info.shape) == 1
    batch = shape[: len(shape) - (not a_vector) - (not b_vector)]
    m = 1 if a_vector else a_info.shape[-2]
    n = 1 if b_vector else b_info.shape[-1]
    k = a_info.shape[-1]

    # Per operand: the strides along the batch dimensions and along its own two.
    a_strides = (0,) + a_info.strides if a_vector else a_info.strides
    b_strides = b_info.strides + (0,) if b_vector else b_info.strides
    outer: list[tuple[int, ...]] = [
        _strides_of_batch(info, strides, batch)
        for info, strides in ((a_info, a_strides), (b_info, b_strides))
    ]
    inner = [(a_strides[-2], a_strides[-1]), (b_strides[-2], b_strides[-1])]
    for info, name in zip(infos[2:], ("out", "c"), strict=False):
        strides = list(_strides_over(info, shape, name))
        if a_vector:
            strides.insert(len(batch), 0)
        if b_vector:
            strides.append(0)
        outer.append(tuple(strides[: len(batch)]))
        inner.append((strides[-2], strides[-1]))

    axes: list[_Axis] = []
    for size, *strides in zip(batch, *outer, strict=True):
        axis = _Axis(size, tuple(strides))
        if size == 1:
            continue
        if axes and axes[-1].continues(axis):
            axis.size *= axes.pop().size
        axes.append(axis)

    # Rows of a batch that shares B are rows of one taller A.
    rows = _Axis(m, tuple(strides[0] for strides in inner))
    if axes and axes[-1].strides[1] == 0:
        last = axes[-1]
        others = [i for i in range(len(tensors)) if i != 1]
        if m == 1 or all(last.strides[i] == m * rows.strides[i] for i in others):
            axes.pop()
            m *= last.size
            if rows.size == 1:
                rows.strides = last.strides
            for i in others:
                inner[i] = (rows.strides[i], inner[i][1])

    forward = [i for i, axis in enumerate(axes) if min(axis.strides) >= 0]  # no kernel steps backwards
    longest = max(forward, key=lambda i: axes[i].size, default=None)
    batched = axes.pop(longest) if longest is not None else None
    matrices = [(m, k), (k, n), (m, n), (m, n)]
    for index in itertools.product(*(range(axis.size) for axis in axes)):
        views = [
            _view(
                tensors[i],
                matrices[i],
                inner[i],
                (batched.size, batched.strides[i]) if batched is not None else None,
                sum(step * axis.strides[i] for step, axis in zip(index, axes, strict=True)),
            )
            for i in range(len(tensors))
        ]
        yield _Operands(views[0], views[1], views[2], views[3] if c is not None else None)


def _strides_of_batch(
    info: _core.TensorInfo, strides: Sequence[int], batch: tuple[int, ...]
) -> tuple[int, ...]:
    own = info.shape[:-2]
    return (0,) * (len(batch) - len(own)) + tuple(
        0 if size == 1 else stride for size, stride in zip(own, strides, strict=False)
    )


def _view(
    tensor: Tensor,
    shape: tuple[int, int],
    strides: tuple[int, int],
    batch: tuple[int, int] | None,
    offset: int,
) -> _core.TensorView:
    if batch is None:
        return _core.TensorView(tensor, shape=shape, strides=strides, offset=offset)
    return _core.TensorView(tensor, shape=(batch[0], *shape), strides=(batch[1], *strides), offset=offset)
