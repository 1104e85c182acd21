"""Products of tensors with any batch dimensions, laid out as few strided batches as their strides allow."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, NamedTuple

from . import _core

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ._typing import Tensor


class Matrix(NamedTuple):
    """One operand of a product: its strides along each batch dimension (0: broadcast) and along its own two.

    `extents` names these two: "mk" of a, "kj" of b, "mn" of the result and of what has its shape. j is n, or
    2 n where the columns of two matrices take turns in b; o, p, q and r are those of several results. Scales
    have "m" or "j", g, groups of 128 along k, and h, of 128 along j.
    """

    operand: str
    tensor: Tensor
    extents: str
    outer: tuple[int, ...]
    inner: tuple[int, ...]

    def transposed(self) -> Matrix:
        return self._replace(inner=self.inner[::-1])

    def whole(self, extents: dict[str, int], batch: tuple[int, ...]) -> _core.TensorView:
        shape = (*batch, *(extents[extent] for extent in self.extents))
        return _core.TensorView(self.tensor, shape=shape, strides=(*self.outer, *self.inner))


class Piece(NamedTuple):
    """One run of a plan. Of the runs that add up to one result, the first starts it and the last ends it.

    `whole`: of the first of runs that write different results, the operands of all of them.
    """

    views: dict[str, _core.TensorView]
    first: bool
    last: bool
    whole: dict[str, _core.TensorView] | None


def broadcast(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a's and b's batches together."""
    if x == y:
        return x
    shape: list[int] = []
    for p, q in itertools.zip_longest(reversed(x), reversed(y), fillvalue=1):
        if p != q and p != 1 and q != 1:
            raise _core.ShapeMismatch(
                f"operand b: batch dimensions that broadcast with a's {[*x]} required, got {[*y]}"
            )
        shape.append(q if p == 1 else p)
    return tuple(reversed(shape))


def _strides(info: _core.TensorInfo, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A tensor's strides, or those of its shape where it has no elements: CuPy says 0 there."""
    if all(shape):
        return info.strides
    steps = itertools.accumulate((max(size, 1) for size in shape[:0:-1]), operator.mul, initial=1)
    return tuple(steps)[::-1]


def factor(
    operand: str, tensor: Tensor, info: _core.TensorInfo, extents: str, batch: tuple[int, ...]
) -> Matrix:
    """a or b, or a result of the shape of either; a vector is a row ("mk") or a column ("kj")."""
    shape = info.shape
    strides = _strides(info, shape)
    if len(shape) == 1:
        inner = (0, strides[0]) if extents == "mk" else (strides[0], 0)
        return Matrix(operand, tensor, extents, (0,) * len(batch), inner)
    own = (0 if size == 1 else stride for size, stride in zip(shape[:-2], strides, strict=False))
    outer = (0,) * (len(batch) - len(shape) + 2) + tuple(own)
    return Matrix(operand, tensor, extents, outer, (strides[-2], strides[-1]))


def coding(
    operand: str,
    tensor: Tensor,
    info: _core.TensorInfo,
    owner: tuple[int, ...],
    sizes: dict[str, int],
    batch: tuple[int, ...],
) -> Matrix:
    """Scales or zeros, other than one for all, of a or b of shape `owner`; adds their extents to `sizes`."""
    of_a = operand.startswith("a")
    sizes |= {"g": -(-sizes["k"] // 128), "h": -(-sizes["j"] // 128)}
    kinds = ("m", "mg") if of_a else ("j", "gj", "gh")
    outer_shape = owner[:-2]
    shape, strides = info.shape, _strides(info, info.shape)
    lines, across = (-2, -1) if of_a else (-1, -2)
    if 1 < len(owner) == len(shape) and shape[across] == 1 and shape[lines] == owner[lines]:
        # What a reduction with keepdim=True leaves.
        kept = [i for i in range(len(shape)) if i != len(shape) + across]
        shape, strides = tuple(shape[i] for i in kept), tuple(strides[i] for i in kept)
    required = []
    for extents in kinds if not operand.endswith("zero") else kinds[:1]:
        own = tuple(sizes[extent] for extent in extents)
        if len(owner) == 1:  # a vector has no lines
            own = tuple(sizes[extent] for extent in extents if extent in "gh")
        required.append((*outer_shape, *own))
        if shape not in (required[-1], own):
            continue
        named = [extent for extent in extents if len(owner) > 1 or extent in "gh"]
        steps = dict(zip(reversed(named), reversed(strides), strict=False))
        leading = shape[: len(shape) - len(own)]
        lent = tuple(0 if size == 1 else step for size, step in zip(leading, strides, strict=False))
        outer = (0,) * (len(batch) - len(lent)) + lent
        return Matrix(operand, tensor, extents, outer, tuple(steps.get(extent, 0) for extent in extents))
    raise _core.ShapeMismatch(
        f"operand {operand}: shape [1] or {' or '.join(str([*shape]) for shape in required)} required, "
        f"got {[*info.shape]}"
    )


def result(
    operand: str,
    tensor: Tensor,
    info: _core.TensorInfo,
    shape: tuple[int, ...],
    batch: tuple[int, ...],
    a_is_vector: bool,
) -> Matrix:
    """The product, of this `shape`, or what broadcasts to it."""
    own = info.shape
    missing = len(shape) - len(own)
    if own != shape and (
        missing < 0 or any(have not in (1, want) for have, want in zip(own, shape[missing:], strict=True))
    ):
        raise _core.ShapeMismatch(
            f"operand {operand}: a shape that broadcasts to {[*shape]} required, got {[*own]}"
        )
    steps = _strides(info, own)
    strides = [0] * missing + [0 if have == 1 else step for have, step in zip(own, steps, strict=True)]
    if a_is_vector:
        strides.insert(len(batch), 0)
    strides += [0] * (len(batch) + 2 - len(strides))  # b is a vector
    return Matrix(operand, tensor, "mn", tuple(strides[: len(batch)]), (strides[-2], strides[-1]))


class _Axis(NamedTuple):
    """A dimension of the whole problem: its extent, and each operand's stride along it."""

    size: int
    strides: tuple[int, ...]

    def continues(self, inner: _Axis) -> bool:
        """Whether a step here is `inner.size` steps of `inner` for every operand: the two are one axis."""
        return all(x == y * inner.size for x, y in zip(self.strides, inner.strides, strict=True))


def _batch_axes(matrices: Sequence[Matrix], batch: tuple[int, ...]) -> list[_Axis]:
    """From the outermost on; those that step evenly through every operand are one."""
    axes: list[_Axis] = []
    for size, *strides in zip(batch, *(matrix.outer for matrix in matrices), strict=True):
        axis = _Axis(size, tuple(strides))
        if size == 1:
            continue
        if axes and axes[-1].continues(axis):
            axis = axis._replace(size=size * axes.pop().size)
        axes.append(axis)
    return axes


class _Run:
    """What one run of a plan computes: its extents, and each operand's strides along those of its own."""

    def __init__(self, matrices: Sequence[Matrix], extents: dict[str, int]) -> None:
        self.matrices = matrices
        self.sizes = dict(extents)
        self.strides = [dict(zip(matrix.extents, matrix.inner, strict=True)) for matrix in matrices]
        self.batch: _Axis | None = None

    def absorb(self, axis: _Axis, extent: str) -> bool:
        """Makes `axis` part of m or k where every operand steps through it so; whether it has."""
        size = self.sizes[extent]
        for stride, own in zip(axis.strides, self.strides, strict=True):
            continues = (size == 1 or stride == own[extent] * size) if extent in own else stride == 0
            if stride < 0 or not continues:
                return False
        for stride, own in zip(axis.strides, self.strides, strict=True):
            if extent in own and size == 1:
                own[extent] = stride
        self.sizes[extent] = size * axis.size
        return True

    def take_batch(self, axes: list[_Axis]) -> None:
        """The longest of these is from now on the batch of a run. No kernel steps backwards."""
        forward = [axis for axis in axes if min(axis.strides) >= 0]
        if forward:
            self.batch = max(forward, key=lambda axis: axis.size)
            axes.remove(self.batch)

    def views(self, axes: Sequence[_Axis], at: tuple[int, ...]) -> dict[str, _core.TensorView]:
        """The operands at one place of the dimensions that are looped over."""
        views = {}
        for i, (matrix, own) in enumerate(zip(self.matrices, self.strides, strict=True)):
            shape, strides = tuple(self.sizes[extent] for extent in own), tuple(own.values())
            if self.batch is not None:
                shape, strides = (self.batch.size, *shape), (self.batch.strides[i], *strides)
            offset = 0
            for x, axis in zip(at, axes, strict=True):
                offset += x * axis.strides[i]
            views[matrix.operand] = _core.TensorView(
                matrix.tensor, shape=shape, strides=strides, offset=offset
            )
        return views


def _places(axes: Sequence[_Axis]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(axis.size) for axis in axes))


def lay_out(
    matrices: Sequence[Matrix],
    extents: dict[str, int],
    batch: tuple[int, ...],
    *,
    rows_are_fixed: bool = False,
    sums: bool = False,
) -> tuple[_Run, list[_Axis], list[_Axis]]:
    """One run, and the dimensions that are left to loop over: of the result, and of what is summed."""
    run = _Run(matrices, extents)
    d = next(i for i, matrix in enumerate(matrices) if matrix.operand == "d")
    kept: list[_Axis] = []
    summed: list[_Axis] = []
    for axis in reversed(_batch_axes(matrices, batch)):
        is_summed = sums and axis.strides[d] == 0
        if (is_summed or not rows_are_fixed) and run.absorb(axis, "k" if is_summed else "m"):
            continue
        (summed if is_summed else kept).insert(0, axis)
    if any(axis.size == 0 for axis in summed):  # a sum of nothing, which is written nevertheless
        run.sizes["k"] = 0
        summed.clear()
    run.take_batch(kept)
    return run, kept, summed


def pieces(
    matrices: Sequence[Matrix],
    extents: dict[str, int],
    batch: tuple[int, ...],
    *,
    rows_are_fixed: bool = False,
    sums: bool = False,
) -> Iterator[Piece]:
    """Cuts a product into runs: most often one. "d" is the result.

    Batch dimensions that step evenly through every operand are one. A batch that shares b is further rows of
    a, unless `rows_are_fixed`. With `sums`, the result is summed over the batch dimensions that it has not,
    which makes k longer where the strides allow. Of what is left, the longest dimension is the batch of a
    run, and the others are looped over.
    """
    run, kept, summed = lay_out(matrices, extents, batch, rows_are_fixed=rows_are_fixed, sums=sums)
    terms = list(_places(summed))
    whole = {x.operand: x.whole(extents, batch) for x in matrices} if kept and not sums else None
    for place in _places(kept):
        for number, term in enumerate(terms):
            views = run.views(kept + summed, place + term)
            yield Piece(views, number == 0, number == len(terms) - 1, whole)
            whole = None
