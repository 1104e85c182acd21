"""What the public functions take, in terms of typing. Nothing here exists at run time but names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, Union

if TYPE_CHECKING:
    from ._core import (
        Activation,
        Align,
        Arch,
        Causal,
        DType,
        FmhaLayout,
        GemmLayout,
        Math,
        TensorView,
        Tune,
    )


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

# Options: a member, or its name. No activation may be None, too.
ActivationLike = Union["Activation", Literal["none", "relu", "gelu_erf", "gelu_tanh", "silu"], None]
AlignLike = Union["Align", Literal["bottom_right", "top_left"]]
ArchLike = Union["Arch", Literal["host", "sm80", "sm89", "sm90"]]
CausalLike = Union["Causal", Literal["top_left", "bottom_right"]]
FmhaLayoutLike = Union["FmhaLayout", Literal["bhsd", "bshd"]]
GemmLayoutLike = Union["GemmLayout", Literal["rcr", "rrr", "crr", "ccr", "rcc", "rrc", "crc", "ccc"]]
MathLike = Union["Math", Literal["fast", "tf32", "tf32x3", "strict"]]
TuneLike = Union["Tune", Literal["off", "cached", "measure"]]

# Options that have names alone.
AuxLike = Literal["store", "gradient"]
CodeOrderLike = Literal["linear", "awq", "high_first"]
DistanceLike = Literal["signed", "absolute"]
GranularityLike = Literal["tensor", "row", "column", "group", "block"]
PageLayoutLike = Literal["nhd", "hnd"]
PackedAlongLike = Literal["none", "k", "n"]
RopeScalingLike = Literal["none", "linear", "ntk", "yarn", "llama3"]
WeightFormatLike = Literal["int4", "uint4", "int8", "e4m3", "nf4", "e2m1"]
BiasLike = bool | Literal["n", "m"]
GateLike = Literal["separate", "interleaved"]
GroupedOverLike = Literal["m", "k"]
