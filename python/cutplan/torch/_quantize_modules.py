"""Linear layers of few bits, and the models that they are put into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .. import _core
from .._quantize import Quantized
from .._weights import PackedWeights
from ._matmul import _activate, linear
from ._modules import Linear, Replacement
from ._operators import plain
from ._quantized import check_grad_dtype, dequantize, float8_linear, quantize, unpack_weights

FORMATS = ("w4a16", "w8a8", "fp8")
_CODES = {"w8a8": torch.int8, "fp8": torch.float8_e4m3fn}
_WEIGHTS = ("int4", "uint4", "int8", "e4m3", "nf4", "e2m1")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


def _check_format(format: str, weights: str) -> None:
    for name, value, known in (("format", format, FORMATS), ("weights", weights, _WEIGHTS)):
        if value not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"{name}: must be one of {names}; got {value!r}")


class QuantizedLinear(Linear):
    """Linear of frozen codes, for inference and for adapters beside it: gradients are those of the input and
    of the bias.

    Formats, and what `state_dict()` holds beside `bias`:

    - "w4a16": `weight`, uint8, all of a PackedWeights, which says itself what it is: codes of few bits, in
      groups along in_features; the input keeps its type. A state whose `weight` is packed otherwise, in other
      groups or with zero points, is loaded, and the layer goes by what that says.
    - "w8a8": `weight` int8 [out_features, in_features], `weight_scale` float32 [out_features]; rows of the
      input are quantised to int8 in each call.
    - "fp8": the same in float8_e4m3fn.

    A scale [out_features, 1], or one for all, as other libraries store it, is loaded, too. Codes and scales
    keep their types under ``half()``, ``to(torch.bfloat16)`` and their kin.
    """

    format: str
    packing: tuple[Any, ...] | None = None  # what PackedWeights has beside `weight`
    weight: torch.Tensor
    weight_scale: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        format: str,
        weights: str = "int4",
        group_size: int = 128,
        activation: str = "none",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, activation=activation, device=device, dtype=dtype)
        _check_format(format, weights)
        why = _why_not(self, format, weights, group_size)
        if why is not None:
            raise _core.Unsupported(why)
        _quantize(self, format, weights, group_size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight: Quantized | PackedWeights
        if self.packing is not None:
            weight = PackedWeights(self.weight, *self.packing)
        else:
            weight = Quantized(self.weight, self.weight_scale, None, _name(self.format), "row")
        return linear(input, weight, self.bias, activation=self.activation)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The weight [out_features, in_features] that the codes stand for: float16, bfloat16 or float32."""
        if self.packing is not None:
            return unpack_weights(PackedWeights(self.weight, *self.packing), dtype).t()
        return dequantize(Quantized(self.weight, self.weight_scale, None, _name(self.format), "row"), dtype)

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, format={self.format}"
        if self.packing is None:
            return text
        weights, _, _, size, *_ = self.packing
        return f"{text}, weights={weights}, group_size={size or -1}"

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        held = [self._buffers.get(name) for name in ("weight", "weight_scale")]

        def keeping_types(x: torch.Tensor) -> torch.Tensor:
            made = fn(x)
            if made.dtype == x.dtype or all(x is not y for y in held):
                return made
            return x.to(made.device)

        return super()._apply(keeping_types, recurse)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        weight = state_dict.get(prefix + "weight")
        if isinstance(weight, torch.Tensor):
            why = self._fit(weight)
            if why is not None:
                error_msgs.append(f"{prefix}weight: {why}")
                return
        name = prefix + "weight_scale"
        scale = state_dict.get(name)
        if self.packing is None and isinstance(scale, torch.Tensor):
            own = self.weight_scale.shape
            if scale.shape in ((), (1,)) or scale.shape == (*own, 1):
                state_dict = {**state_dict, name: scale.float().reshape(-1).expand(own)}
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _fit(self, weight: torch.Tensor) -> str | None:
        """Makes room for a weight that is to be loaded, or says why it is none."""
        if weight.dtype != self.weight.dtype:
            codes, got = (str(x.dtype).removeprefix("torch.") for x in (self.weight, weight))
            return (
                f"{codes} of format {self.format!r} required, got {got}; load floats first, and "
                "quantize_module() then"
            )
        if self.packing is None or weight.is_meta:
            return None
        try:
            packed = PackedWeights.from_tensor(weight)
        except Exception as error:
            return str(error)
        required = (self.in_features, self.out_features)
        if packed.shape != required:
            return f"packed weights of shape {[*required]} required, got {[*packed.shape]}"
        self.packing = packed[1:]
        if self.weight.shape != weight.shape:
            self.weight = self.weight.new_empty(weight.shape)
        return None


class Float8Linear(Linear):
    """Linear whose three products, that of the layer and those of its two gradients, are of float8, by
    float8_linear(): `weight` stays a parameter of floats, as `state_dict()` has it."""

    grad_dtype: torch.dtype = torch.float8_e4m3fn

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        y = float8_linear(input, self.weight, self.bias, grad_dtype=self.grad_dtype)
        return _activate(y, self.activation)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, grad_dtype={str(self.grad_dtype).removeprefix('torch.')}"


def _name(format: str) -> str:
    return "int8" if format == "w8a8" else "float8_e4m3fn"


def _quantize(layer: Any, format: str, weights: str, group_size: int) -> None:
    """In place: codes for the weight of a torch.nn.Linear."""
    weight = layer.weight.detach()
    packing = scale = None
    if format == "w4a16":
        if weight.is_meta:
            packed = _packed_on_meta(weight, weights, group_size)
        else:
            packed = plain.pack_weights(weight.t(), weights, group_size=group_size)
        codes, *packing = packed
    else:
        q = quantize(weight, _CODES[format], granularity="row")
        codes, scale = q.data, q.scale
    del layer.weight
    layer.__class__ = QuantizedLinear
    layer.format, layer.packing = format, None if packing is None else tuple(packing)
    layer.register_buffer("weight", codes)
    if scale is not None:
        layer.register_buffer("weight_scale", scale)


def _packed_on_meta(weight: torch.Tensor, weights: Any, group_size: int) -> PackedWeights:
    n, k = weight.shape
    descriptor = _core.PackWeightsDescriptor(
        n=n, k=k, format=weights, group_size=max(group_size, 0), w="uint8", scale="float32",
        zero="float32" if weights == "uint4" else None,
    )  # fmt: skip
    size = 0 if descriptor.group_size >= k else descriptor.group_size
    data = weight.new_empty(_core.packed_weights_size(descriptor), dtype=torch.uint8)
    return PackedWeights(data, weights, n, k, size, "float32", weights == "uint4", False)


def _why_not(
    layer: torch.nn.Linear, format: str, weights: str, group_size: int, training: bool = False
) -> str | None:
    """What in a layer no kernel can do, of plans that are selected for it."""
    weight = layer.weight
    n, k = weight.shape
    name = str(weight.dtype).removeprefix("torch.")
    if weight.dtype not in _FLOATS:
        return f"operand weight: float16, bfloat16 or float32 required, got {name}"
    device = "cpu" if weight.is_meta else str(weight.device)
    try:
        if format != "w4a16":
            codes = _name(format)
            of_input: Any = "group" if training else "row"
            of_weight: Any = "block" if training else "column"
            _core.GemmPlan.select(
                _core.GemmDescriptor(
                    m=1, n=n, k=k, a=codes, d=name, layout="rcr", a_scale=of_input, b_scale=of_weight
                ),
                device,
            )
        elif group_size not in (32, 64, 128, -1) and group_size < k:
            return f"group_size: 32, 64, 128, or -1, for a whole row, required, got {group_size}"
        elif weights == "uint4" and k % 2:
            return f"in_features: an even number required with weights='uint4', got {k}; use int4"
    except (_core.Unsupported, _core.InvalidProblem) as error:
        return str(error)
    return None


def quantize_module(
    model: torch.nn.Module,
    format: str,
    *,
    skip: Sequence[str] | Callable[[str, torch.nn.Module], bool] | None = None,
    weights: str = "int4",
    group_size: int = 128,
    training: bool = False,
    grad_dtype: torch.dtype = torch.float8_e4m3fn,
    strict: bool = True,
) -> Replacement:
    """Puts layers of few bits in the place of torch.nn.Linear and Linear, in place, and says which.

    `format`: "w4a16" packs weights as `weights` ("int4", "uint4", "nf4", "e2m1", and of eight bits "int8" and
    "e4m3") with a scale for `group_size` elements along in_features (32, 64, 128, or -1 for all); "w8a8" and
    "fp8" quantise them to int8 and float8_e4m3fn, one scale a row, and inputs row by row in each call. These
    become QuantizedLinear, which is frozen. "fp8" with `training` makes them Float8Linear, which trains in
    float8, its gradients of `grad_dtype`.

    `skip`: names of modules, whole ("model.layers.0.mlp") or their ends ("lm_head"), which are left with all
    that is in them; or a predicate of name and module. None leaves "lm_head", whose errors go straight to the
    logits; ``skip=()`` leaves nothing. Weights that belong to several modules (tied embeddings) are left, and
    so are subclasses of torch.nn.Linear and layers whose weight is computed (pruned, parametrised).

    A module changes its class; hooks, attributes, bias and the names in `state_dict()` stay, "weight_scale"
    is new. On the meta device there are no values to quantise: what is made is of the right shapes, for
    load_state_dict(), with ``assign=True`` or after to_empty().

    Returns what was replaced by what, and what was left and why. Raises ValueError, before it changes
    anything, where layers cannot be quantised, and names them: weights of float64, int8 sums of more than
    131071 terms, an odd in_features with "uint4". With ``strict=False`` these are left.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: a torch.nn.Module required, got {model!r}")
    _check_format(format, weights)
    if training and format != "fp8":
        raise ValueError(f"training: goes with format 'fp8' alone, got {format!r}; other weights are frozen")
    if training:
        check_grad_dtype(grad_dtype)
    done, chosen, refused = Replacement({}, {}), {}, {}
    read = {
        id(layer)
        for module in model.modules()
        if isinstance(module, torch.nn.TransformerEncoderLayer) and not training
        for layer in (module.linear1, module.linear2)
    }
    holders = Counter(
        id(p) for module in model.modules() for p in module._parameters.values() if p is not None
    )
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or isinstance(module, (QuantizedLinear, Float8Linear)):
            continue
        why = "it is in skip" if _is_skipped(name, module, skip) else _why_left(module, holders)
        if why is None and id(module) in read:
            why = "torch.nn.TransformerEncoderLayer reads its weight, and does not always call it"
        if why is None:
            why = _why_not(module, format, weights, group_size, training)
            if why is not None:
                refused[name] = why
        if why is None:
            chosen[name] = module
        else:
            done.left[name] = why
    if refused and strict:
        lines = "\n".join(f"  {name}: {why}" for name, why in refused.items())
        raise ValueError(
            f"model: layers that {format!r} serves required, got\n{lines}\nLeave them with skip=, or with "
            "strict=False all such"
        )
    for name, module in chosen.items():
        if training:
            module.__class__ = Float8Linear
            module.grad_dtype = grad_dtype
        else:
            _quantize(module, format, weights, group_size)
        done.replaced[name] = type(module).__name__
    return done


def _is_skipped(name: str, module: torch.nn.Module, skip: Any) -> bool:
    if callable(skip):
        return bool(skip(name, module))
    names = ("lm_head",) if skip is None else (skip,) if isinstance(skip, str) else skip
    parts = name.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(path == x or path.endswith(f".{x}") for x in names for path in paths)


def _why_left(module: torch.nn.Linear, holders: Counter[int]) -> str | None:
    if type(module) not in (torch.nn.Linear, Linear):
        return f"a subclass of torch.nn.Linear, {type(module).__qualname__}, may compute otherwise"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is no parameter of its own"
    if "forward" in module.__dict__:
        return "its forward was replaced"
    if holders[id(weight)] > 1:
        return "its weight is another module's, too"
    return None
