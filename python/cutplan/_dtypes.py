"""Element types that a tensor's own library cannot name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from ._typing import DTypeLike, Tensor


def as_dtype(x: Tensor, dtype: DTypeLike) -> _core.TensorView:
    """Lets `x`, a tensor of raw integers, stand for elements of `dtype`, without a copy.

    For float8 held by CuPy, or packed int4 held by anybody: ``as_dtype(x, "float8_e4m3fn")`` of a uint8
    tensor. The integers have `dtype`'s width, except that int4 and uint4 are packed two to a byte, low half
    first: their last dimension must be contiguous and counts twice as many elements as it has bytes.

    Raises DTypeMismatch where the widths differ, LayoutMismatch where packed elements are strided,
    ExportRefused where `x` cannot lend its memory.
    """
    view = _core.TensorView(x, dtype=dtype)
    _core.inspect(view, "x")
    return view
