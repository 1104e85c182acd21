"""Quantisation as calls: each describes its problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _plans

if TYPE_CHECKING:
    from ._typing import DTypeLike, GranularityLike, StreamLike, Tensor


class Quantized(NamedTuple):
    """What quantize() returns: x ~= (data - zero) * scale, and what dequantize() has to know of it.

    `zero` is None where there is none. `dtype` is the type of the elements: packed "int4" is uint8 in
    `data`.
    """

    data: Any
    scale: Any
    zero: Any = None
    dtype: str = "int8"
    granularity: GranularityLike = "tensor"
    group_size: int = 0
    axis: int = -1

    @property
    def T(self) -> Quantized:
        """The same of the transposed matrix: of weights [n, k] what matmul() takes as b."""
        if self.dtype == "int4":
            raise _core.Unsupported(
                "int4: two elements to a byte cannot be transposed; pack_weights() takes it"
            )
        turned = {"row": "column", "column": "row"}.get(self.granularity, self.granularity)
        whole = turned in ("tensor", "row", "column")
        return self._replace(
            data=_transposed(self.data),
            scale=self.scale if whole else _transposed(self.scale),
            zero=self.zero if whole or self.zero is None else _transposed(self.zero),
            granularity=turned,  # type: ignore[arg-type]
            axis=-3 - self.axis if turned == "group" else self.axis,
        )

    def operands(self, operand: str) -> dict[str, Any]:
        """As arguments of a product: the data, its scale and its zero, by the name of the operand."""
        along_k = self.axis == (-1 if operand == "a" else -2)
        fits = {
            "tensor": True,
            "row": operand == "a",
            "column": operand != "a",
            "group": along_k and self.group_size == 128,
            "block": operand != "a" and self.group_size == 128,
        }[self.granularity]
        if self.dtype == "int4" or not fits:
            kinds = "'row' or 'group'" if operand == "a" else "'column', 'group' or 'block'"
            got = f"{self.granularity!r} of {self.group_size} along axis {self.axis}"
            got = "int4" if self.dtype == "int4" else got
            advice = "pack_weights() takes int4" if self.dtype == "int4" else "of weights [n, k] pass q.T"
            raise _core.Unsupported(
                f"operand {operand}: int8 or float8 with scales by 'tensor', {kinds}, groups and blocks of "
                f"128 along k, required, got {got}; {advice}"
            )
        named = {operand: self.data, f"{operand}_scale": self.scale}
        return named if self.zero is None else {**named, f"{operand}_zero": self.zero}


def quantize(
    x: Tensor,
    dtype: DTypeLike,
    *,
    granularity: GranularityLike = "tensor",
    group_size: int | None = None,
    axis: int = -1,
    symmetric: bool | None = True,
    scale: Tensor | None = None,
    zero: Tensor | None = None,
    amax: Tensor | None = None,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Quantized:
    """Narrows `x` to `dtype`, "int8", "int4", "float8_e4m3fn" or "float8_e5m2", with scales of float32.

    `x` [..., rows, columns], float16, bfloat16 or float32, its last dimension contiguous. Leading dimensions
    beyond one are taken for one, as their strides have to allow. `data` has x's shape; of "int4" it is
    uint8 [..., rows, columns / 2], two to a byte, the first in the low half.

    `granularity` says which elements share a scale, and so the shape of `scale`: all, batches too ("tensor",
    [1]); those of a row ("row", [..., rows]) or of a column ("column", [..., columns]); `group_size` of them
    along `axis` ("group", -1: [..., rows, ceil(columns / g)], -2: [..., ceil(rows / g), columns]); squares of
    group_size x group_size, 128 if it is None ("block", [..., ceil(rows / g), ceil(columns / g)]).

    Symmetric: scale = amax / 127 (int4: 7, fp8: 448 and 57344), data = x / scale. Otherwise, for integers
    alone, scale = (max(x, 0) - min(x, 0)) / 255 (int4: 15, and nibbles are unsigned) and `zero`, int32 of
    scale's shape, is what 0 becomes. Data is rounded to nearest even and saturated. NaN stays NaN in fp8 and
    is 0 in integers; it counts for no scale, and infinity counts as the largest float32.

    `scale`, of that shape, quantises with what it holds; without `symmetric` `zero` goes with it. `amax`,
    float32 of that shape, is written with the greatest ``abs(x)`` of each scale. Errors are those of
    QuantizePlan.select and QuantizePlan.run.
    """
    if scale is None and zero is not None:
        raise _core.MissingOperand("operand scale: required with zero, not given")
    symmetric = True if symmetric is None else symmetric
    kept = _dimensions_of_scale(granularity)
    x, batch = _folded("x", x, 2)
    given = {"scale": scale, "zero": zero, "amax": amax}
    if len(batch) > 1 and kept:
        given = {n: t if t is None else _folded_like(batch, "x", n, t, kept) for n, t in given.items()}
    plan, data, *rest = _core.call_quantize(
        x, None, given["scale"], given["zero"], given["amax"], dtype, granularity, group_size, axis,
        symmetric, scale is not None, None, None, preference, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    if scale is None:
        scale = _unfolded(rest[0], batch) if kept else rest[0]
        if not symmetric:
            zero = _unfolded(rest[1], batch) if kept else rest[1]
    d = plan.descriptor
    return Quantized(_unfolded(data, batch), scale, zero, str(d.dtype), d.granularity, d.group_size, d.axis)


def dequantize(
    q: Quantized,
    out_dtype: DTypeLike,
    *,
    granularity: GranularityLike | None = None,
    group_size: int | None = None,
    axis: int | None = None,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """``(data - zero) * scale``, a float32 product, as `out_dtype`: float16, bfloat16 or float32.

    `q` is what quantize() returned, or a Quantized made of tensors of its shapes. `granularity`, `group_size`
    and `axis` that are None are q's. Errors are those of DequantizePlan.select and DequantizePlan.run.
    """
    if not isinstance(q, Quantized):
        raise TypeError(f"q: a Quantized required, as quantize() returns it, got {type(q).__name__}")
    if q.zero is not None and str(q.dtype).startswith("float8"):
        raise _core.Unsupported(f"operand zero: none required with {q.dtype}, got one")
    granularity = q.granularity if granularity is None else granularity
    kept = _dimensions_of_scale(granularity)
    data, batch = _folded("data", q.data, 2)
    scale, zero = q.scale, q.zero
    if len(batch) > 1 and kept:
        scale = _folded_like(batch, "data", "scale", scale, kept)
        zero = zero if zero is None else _folded_like(batch, "data", "zero", zero, kept)
    plan, out = _core.call_dequantize(
        data, scale, None, zero, q.dtype, granularity, q.group_size if group_size is None else group_size,
        q.axis if axis is None else axis, q.zero is None, out_dtype, None, preference, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return _unfolded(out, batch)


def _transposed(x: Any) -> Any:
    return x.T if getattr(x, "ndim", 2) == 2 else x.mT


def _dimensions_of_scale(granularity: GranularityLike) -> int:
    """Beside those of the batch; of one for all there are none. What is no granularity, the plan refuses."""
    kept = {"tensor": 0, "None": 0, "row": 1, "column": 1}
    return kept.get(str(granularity), 2)


def _folded(operand: str, tensor: Tensor, kept: int) -> tuple[Tensor, tuple[int, ...]]:
    """One dimension of all but the last `kept`, where there are more; and what these are."""
    info = _core.inspect(tensor, operand)
    batch, strides = info.shape[:-kept], info.strides[:-kept]
    if len(batch) < 2:
        return tensor, batch
    stride, reach = 0, None
    for size, step in zip(reversed(batch), reversed(strides), strict=True):
        if size == 1:
            continue
        if reach is None:
            stride = step
        elif step != reach and 0 not in info.shape:
            raise _core.LayoutMismatch(
                f"operand {operand}: leading dimensions that one stride steps through required, got strides "
                f"{[*info.strides]} of {[*info.shape]}; pass a contiguous copy, or one of three dimensions"
            )
        reach = step * size if reach is None else reach * size
    shape = (math.prod(batch), *info.shape[-kept:])
    return _core.TensorView(tensor, shape=shape, strides=(stride, *info.strides[-kept:])), batch


def _folded_like(batch: tuple[int, ...], like: str, operand: str, tensor: Tensor, kept: int) -> Tensor:
    """_folded() of what has these leading dimensions, `like`'s."""
    folded, own = _folded(operand, tensor, kept)
    if own != batch:
        raise _core.ShapeMismatch(
            f"operand {operand}: the leading dimensions {[*batch]} of {like} required, got {[*own]}"
        )
    return folded


def _unfolded(result: Any, batch: tuple[int, ...]) -> Any:
    return result.reshape((*batch, *result.shape[1:])) if len(batch) > 1 else result
