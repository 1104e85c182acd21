"""Outputs and scratch in the caller's own framework, which is imported only where the caller has done so."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from ._typing import DTypeLike, StreamLike, Tensor

# NumPy itself has no names for these.
_ML_DTYPES = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})


def unwrap(x: Any) -> Any:
    """The framework's own tensor behind as_dtype()."""
    while isinstance(x, _core.TensorView):
        x = x.tensor
    return x


def _numpy_dtype(dtype: _core.DType) -> Any:
    import numpy

    name = str(dtype)
    if name in _ML_DTYPES:
        try:
            import ml_dtypes
        except ImportError as error:
            raise _core.Unsupported(
                f"operand out: NumPy has no {name} of its own and ml_dtypes is not installed; "
                "install ml_dtypes, or choose another out_dtype"
            ) from error
        return numpy.dtype(getattr(ml_dtypes, name))
    return numpy.dtype(name)


def as_member(dtype: DTypeLike, argument: str) -> _core.DType:
    """The element type that an argument names."""
    try:
        return _core.DType(dtype)
    except ValueError as error:
        raise TypeError(f"{argument}: {error}") from None


def _stream_handle(stream: StreamLike) -> int:
    return stream if isinstance(stream, int) else int(stream.__cuda_stream__()[1])


def on_stream(
    info: _core.TensorInfo, tensor: Any, stream: StreamLike | None
) -> contextlib.AbstractContextManager[Any]:
    """Makes `stream` the current one of `tensor`'s library, on its device."""
    scope: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if info.framework == "torch" and stream is not None and info.device != "cpu":
        import torch

        scope = torch.cuda.stream(torch.cuda.ExternalStream(_stream_handle(stream), device=tensor.device))
    elif info.framework == "cupy":
        import cupy

        stack = contextlib.ExitStack()
        stack.enter_context(tensor.device)
        if stream is not None:
            stack.enter_context(cupy.cuda.ExternalStream(_stream_handle(stream)))
        scope = stack
    return scope


def empty(
    info: _core.TensorInfo,
    like: Tensor,
    shape: tuple[int, ...],
    dtype: _core.DType,
    stream: StreamLike | None,
) -> Any:
    """An uninitialised, contiguous tensor of `like`'s framework and device, its memory ordered with `stream`.

    For JAX, whose arrays nobody may write, the memory comes from NumPy; finish() turns it into a JAX array.
    """
    tensor = unwrap(like)
    on_host = info.device == "cpu"
    if info.framework == "torch":
        import torch

        # The tensor's own type needs no look-up by name.
        own = tensor is like and dtype is info.dtype
        kind = tensor.dtype if own else getattr(torch, str(dtype))
        if stream is None or on_host:
            return torch.empty(shape, dtype=kind, device=tensor.device)
        with on_stream(info, tensor, stream):
            return torch.empty(shape, dtype=kind, device=tensor.device)
    if info.framework == "cupy":
        import cupy

        with on_stream(info, tensor, stream):
            return cupy.empty(shape, dtype=_numpy_dtype(dtype))
    if info.framework == "numpy" or (info.framework == "jax" and on_host):
        return _aligned(shape, _numpy_dtype(dtype), 64)
    if info.framework == "jax":
        raise _core.Unsupported(
            "operand out: JAX arrays are immutable and cutplan allocates no GPU memory, so there is nothing "
            "to write to; call cutplan.jax, where XLA allocates results, or pass out=, a tensor of a library "
            "that lends its memory for writing (torch, CuPy)"
        )
    raise _core.MissingOperand(
        f"operand out: required, because cutplan does not know how to allocate a {type(tensor).__module__}."
        f"{type(tensor).__qualname__}; known are NumPy, torch, CuPy and JAX"
    )


def is_column_major(info: _core.TensorInfo, otherwise: bool = False) -> bool:
    """Whether the last two dimensions are; `otherwise` where both orders fit them, or neither does."""
    if len(info.shape) < 2 or min(info.shape) == 0:
        return otherwise
    (rows, columns), (down, right) = info.shape[-2:], info.strides[-2:]
    if min(rows, columns) == 1 or 0 in (down, right) or bool(down == 1) == bool(right == 1):
        return otherwise
    return down == 1


def ordered_like(
    info: _core.TensorInfo,
    like: Tensor,
    operand: _core.TensorInfo,
    dtype: _core.DType,
    stream: StreamLike | None,
) -> Any:
    """empty() of `operand`'s shape and order. (JAX has no column-major tensors.)"""
    shape, strides = operand.shape, operand.strides
    turned = len(shape) > 1 and min(shape) > 0 and shape[-1] > 1 and strides[-2] == 1 and strides[-1] > 1
    return _ordered(info, like, shape, turned and info.framework != "jax", dtype, stream)


def _ordered(
    info: _core.TensorInfo,
    like: Tensor,
    shape: tuple[int, ...],
    column_major: bool,
    dtype: _core.DType,
    stream: StreamLike | None,
) -> Any:
    if not column_major:
        return empty(info, like, shape, dtype, stream)
    return empty(info, like, (*shape[:-2], shape[-1], shape[-2]), dtype, stream).swapaxes(-1, -2)


def apart(
    info: _core.TensorInfo, tensor: Tensor, inner: int, stream: StreamLike | None
) -> tuple[_core.TensorInfo, Tensor]:
    """`tensor`, or a contiguous copy where elements of its `inner` last dimensions share memory.

    No kernel multiplies with such an operand, and gradients are often one number expanded to a shape.
    """
    reach = 1
    for stride, size in sorted(zip(info.strides[-inner:], info.shape[-inner:], strict=True)):
        if size > 1 and 0 <= stride < reach:
            break
        reach += (size - 1) * abs(stride)
    else:
        return info, tensor
    if isinstance(tensor, _core.TensorView) or info.framework not in ("torch", "numpy", "cupy"):
        return info, tensor  # the plan says what it cannot read
    with on_stream(info, tensor, stream):
        if info.framework == "torch":
            tensor = tensor.contiguous()  # type: ignore[union-attr]
        elif info.framework == "numpy":
            import numpy

            tensor = numpy.ascontiguousarray(tensor)
        else:
            import cupy

            tensor = cupy.ascontiguousarray(tensor)
    return _core.inspect(tensor, "grad"), tensor


def ones(
    info: _core.TensorInfo, like: Tensor, size: int, dtype: _core.DType, stream: StreamLike | None
) -> Any:
    """A vector of ones, made as empty() makes it."""
    vector = empty(info, like, (size,), dtype, stream)
    with on_stream(info, unwrap(like), stream):
        if info.framework == "torch":
            vector.fill_(1)
        else:
            vector.fill(1)
    return vector


def int32_values(info: _core.TensorInfo, like: Tensor, values: list[int]) -> Any:
    """A vector of these, of `like`'s framework and on its device."""
    tensor = unwrap(like)
    if info.framework == "torch":
        import torch

        return torch.tensor(values, dtype=torch.int32, device=tensor.device)
    if info.framework == "cupy":
        import cupy

        with on_stream(info, tensor, None):
            return cupy.asarray(values, dtype="int32")
    import numpy

    made = numpy.asarray(values, dtype="int32")
    if info.framework != "jax":
        return made
    import jax

    (device,) = tensor.devices()
    return jax.device_put(made, device)


def quiet(tensor: Any) -> contextlib.AbstractContextManager[Any]:
    """NumPy alone warns of results that are not finite, which who calls this looks for."""
    if type(tensor).__module__.split(".")[0] != "numpy":
        return contextlib.nullcontext()
    import numpy

    return numpy.errstate(all="ignore")


def target(
    info: _core.TensorInfo,
    like: Tensor,
    shape: tuple[int, ...],
    column_major: bool,
    out: Tensor | None,
    out_dtype: DTypeLike | None,
    stream: StreamLike | None,
    called: str = "out",
) -> tuple[Any, _core.TensorInfo]:
    """Where a result of `shape` goes: `out`, or a new tensor beside `like`; and what that is. `called`: what
    errors call it."""
    if out is None:
        dtype = info.dtype if out_dtype is None else as_member(out_dtype, "out_dtype")
        made = _ordered(info, like, shape, column_major, dtype, stream)
        return made, _core.inspect(made, called)
    out_info = _core.inspect(out, called)
    if out_info.shape != shape:
        raise _core.ShapeMismatch(f"operand {called}: shape {[*shape]} required, got {[*out_info.shape]}")
    if out_dtype is not None and out_info.dtype != (wanted := as_member(out_dtype, "out_dtype")):
        raise _core.DTypeMismatch(f"operand {called}: out_dtype {wanted} required, got {out_info.dtype}")
    return out, out_info


def _aligned(shape: tuple[int, ...], dtype: Any, alignment: int) -> Any:
    """JAX takes over a NumPy array without a copy only where it starts on a cache line."""
    import numpy

    size = math.prod(shape) * dtype.itemsize
    raw = numpy.empty(size + alignment, dtype="uint8")
    start = -raw.ctypes.data % alignment
    return raw[start : start + size].view(dtype).reshape(shape)


def finish(info: _core.TensorInfo, like: Tensor, out: Any) -> Any:
    """What empty() made, as an array of the framework that it was made for."""
    if info.framework != "jax":
        return out
    import jax

    (device,) = unwrap(like).devices()
    result = jax.device_put(out, device, may_alias=True)
    if result.dtype != out.dtype:
        raise _core.Unsupported(
            f"operand out: JAX holds no {out.dtype} while jax_enable_x64 is off; "
            "choose another out_dtype, or enable it"
        )
    return result


def scratch(
    info: _core.TensorInfo, like: Tensor, size: int, stream: StreamLike | None
) -> _core.TensorView | None:
    """`size` bytes, aligned as every plan asks for; None for none."""
    if size == 0:
        return None
    alignment = 256
    raw = empty(info, like, (size + alignment,), _core.DType.uint8, stream)
    start = -_core.inspect(raw, "workspace").data % alignment
    return _core.TensorView(raw, shape=(size,), strides=(1,), offset=start)
