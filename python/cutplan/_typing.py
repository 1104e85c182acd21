"""What the public functions take, in terms of typing. Nothing here exists at run time but names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Union

if TYPE_CHECKING:
    from ._core import DType, TensorView


class SupportsDLPack(Protocol):
    """Any array or tensor that can lend its memory: NumPy, torch, CuPy, JAX and others."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


class Array(Protocol):
    """An array as type checkers know it where its ``__dlpack__`` is not declared: jax.Array."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...


class SupportsCudaStream(Protocol):
    """A stream object of torch, cuda.core or another library."""

    def __cuda_stream__(self) -> Any: ...


Tensor = Union[SupportsDLPack, Array, "TensorView"]

StreamLike = int | SupportsCudaStream

# A name, or the dtype object of any library: these have no type in common.
DTypeLike = Union["DType", str, Any]

# "cpu", "cuda:0", a DLPack (type, id) pair, a tensor, or torch.device, which has no type in common with them.
DeviceLike = Union[str, "tuple[int, int]", Tensor, Any]
