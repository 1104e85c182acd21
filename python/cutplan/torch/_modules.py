"""Modules that take the place of torch's, with the parameters and the names that those have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ._attention import scaled_dot_product_attention
from ._matmul import ACTIVATIONS, _activate, gated_mlp, linear

# What torch and Hugging Face call the activations that a product can end in.
_ACTIVATIONS: dict[Any, str] = {
    torch.nn.ReLU: "relu",
    torch.nn.SiLU: "silu",
    torch.nn.GELU: "gelu_erf",
    "SiLUActivation": "silu",
    "GELUActivation": "gelu_erf",
    "GELUTanh": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
}


def activation_of(module: Any) -> str | None:
    """The name of an activation module; None: it is none of cutplan's."""
    if type(module) is torch.nn.GELU and module.approximate == "tanh":
        return "gelu_tanh"
    return _ACTIVATIONS.get(type(module)) or _ACTIVATIONS.get(type(module).__name__)


def _check_activation(activation: str) -> None:
    if activation not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation: must be one of {names}; got {activation!r}")


class Linear(torch.nn.Linear):
    """torch.nn.Linear, followed by an activation, in one kernel."""

    activation: str = "none"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        activation: str = "none",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        _check_activation(activation)
        self.activation = activation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(input, self.weight, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        of_torch = super().extra_repr()
        return of_torch if self.activation == "none" else f"{of_torch}, activation={self.activation}"


class GatedMLP(torch.nn.Module):
    """``down_proj(activation(gate_proj(x)) * up_proj(x))``, by gated_mlp() where the three are plain Linear
    layers; where they are more (hooks, parametrizations, adapters), by what they are."""

    activation: str

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        bias: bool = False,
        *,
        activation: str = "silu",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_activation(activation)
        self.gate_proj = Linear(hidden_size, intermediate_size, bias, device=device, dtype=dtype)
        self.up_proj = Linear(hidden_size, intermediate_size, bias, device=device, dtype=dtype)
        self.down_proj = Linear(intermediate_size, hidden_size, bias, device=device, dtype=dtype)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = self.gate_proj, self.up_proj, self.down_proj
        if _is_plain(gate) and _is_plain(up) and _is_plain(down):
            return gated_mlp(
                x, gate.weight, up.weight, down.weight, gate_bias=gate.bias, up_bias=up.bias,
                down_bias=down.bias, activation=self.activation,
            )  # fmt: skip
        return down(_activate(gate(x), self.activation) * up(x))

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


def _is_plain(layer: torch.nn.Module) -> bool:
    """Whether calling it is its product and nothing else."""
    return (
        type(layer) is Linear
        and layer.activation == "none"
        and "forward" not in layer.__dict__
        and not _hooks(layer)
    )


def _hooks(module: torch.nn.Module) -> bool:
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


class MultiheadAttention(torch.nn.MultiheadAttention):
    """torch.nn.MultiheadAttention whose products and attention are cutplan's wherever nobody asks for the
    weights.

    With need_weights, bias_k, add_zero_attn, or an input without a batch it is torch's own.
    """

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if need_weights or self.bias_k is not None or self.add_zero_attn or query.dim() != 3:
            made: tuple[torch.Tensor, torch.Tensor | None] = super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
            return made
        if is_causal and attn_mask is None:
            raise RuntimeError("attn_mask: required with is_causal=True, which is a hint about it; got None")
        projected = (x if self.batch_first else x.transpose(0, 1) for x in self._project(query, key, value))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected)
        o = scaled_dot_product_attention(
            q, k, v, _as_mask(key_padding_mask, attn_mask, q), self.dropout if self.training else 0.0
        )
        o = o.transpose(1, 2).flatten(-2)
        o = linear(o, self.out_proj.weight, self.out_proj.bias)
        return (o if self.batch_first else o.transpose(0, 1)), None

    def _project(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        biases: Any = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if not self._qkv_same_embed_dim:
            weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif all(x is inputs[0] for x in inputs):
            return linear(inputs[0], self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
        return [linear(x, w, bias) for x, w, bias in zip(inputs, weights, biases, strict=True)]


def _as_mask(padding: torch.Tensor | None, mask: torch.Tensor | None, q: torch.Tensor) -> torch.Tensor | None:
    """Of torch.nn.MultiheadAttention's two masks, whose True leaves a key out, one whose True takes it in."""
    masks = []
    if padding is not None:
        masks.append(padding[:, None, None, :])
    if mask is not None:
        masks.append(mask if mask.dim() == 2 else mask.unflatten(0, (q.shape[0], -1)))
    if all(x.dtype == torch.bool for x in masks):
        masks = [~x for x in masks]
        return None if not masks else masks[0] if len(masks) == 1 else masks[0] & masks[1]
    floats = [
        torch.zeros_like(x, dtype=q.dtype).masked_fill(x, -torch.inf)
        if x.dtype == torch.bool
        else x.to(q.dtype)
        for x in masks
    ]
    return floats[0] if len(floats) == 1 else floats[0] + floats[1]


class Replacement(NamedTuple):
    """What replace_modules() or quantize_module() did: by module, what it is now, or why it was left."""

    replaced: dict[str, str]
    left: dict[str, str]


def replace_modules(model: torch.nn.Module) -> Replacement:
    """Puts cutplan's modules in the place of torch.nn.Linear, of gated MLPs made of three of these, and of
    torch.nn.MultiheadAttention.

    In place: a module changes its class, and its parameters, buffers, hooks, attributes and the names in
    state_dict() stay. A gated MLP is a module whose children are gate_proj, up_proj, down_proj and an
    activation (those of Hugging Face's Llama and its kin) and that has no parameters of its own; its result
    for random rows, training or not, must be that of GatedMLP, or it is left, but for its projections.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model: a torch.nn.Module required, got {model!r}")
    done = Replacement({}, {})
    for name, module in list(model.named_modules()):
        if isinstance(module, (Linear, GatedMLP, MultiheadAttention)):
            continue
        if {"gate_proj", "up_proj", "down_proj"} <= dict(module.named_children()).keys():
            activation, why_not = _as_gated(module)
            if why_not is not None:
                done.left[name] = why_not
            else:
                module.__class__ = GatedMLP
                module.activation = activation
                done.replaced[name] = "GatedMLP"
        elif type(module) is torch.nn.Linear:
            module.__class__ = Linear
            done.replaced[name] = "Linear"
        elif isinstance(module, torch.nn.Linear):
            done.left[name] = (
                f"a subclass of torch.nn.Linear, {type(module).__qualname__}, may compute otherwise"
            )
        elif type(module) is torch.nn.MultiheadAttention:
            module.__class__ = MultiheadAttention
            done.replaced[name] = "MultiheadAttention"
    return done


def _as_gated(module: torch.nn.Module) -> tuple[str, str | None]:
    """The activation of a gated MLP, or why the module is none."""
    children = dict(module.named_children())
    projections = [children.pop(name) for name in ("gate_proj", "up_proj", "down_proj")]
    if any(type(x) is not torch.nn.Linear for x in projections):
        return "", "a projection is no torch.nn.Linear"
    activations = [activation_of(x) for x in children.values()]
    if len(activations) != 1 or activations[0] is None:
        names = ", ".join(type(x).__qualname__ for x in children.values()) or "none"
        return "", f"one activation of {', '.join(ACTIVATIONS[1:])} required, got {names}"
    if any(True for _ in module.parameters(recurse=False)) or any(
        True for _ in module.buffers(recurse=False)
    ):
        return "", "it has parameters or buffers of its own"
    if "forward" in module.__dict__:
        return "", "its forward was replaced"
    weight = projections[0].weight
    if weight.device.type == "meta":
        return "", "its weights are not there yet (they are on the meta device)"
    try:
        is_one = _computes_as_gated(module, weight, activations[0])
    except Exception as error:
        return "", f"called with rows of its input it raises {type(error).__name__}: {error}"
    return activations[0], None if is_one else "it computes something else than a gated MLP"


def _computes_as_gated(module: torch.nn.Module, weight: Any, activation: str) -> bool:
    """In float64, so that a factor near 1 shows, and with nothing of the module or of torch's generators
    changed."""
    tensors = {
        name: x.detach().double() if x.is_floating_point() else x
        for name, x in (*module.named_parameters(), *module.named_buffers())
    }
    source = torch.Generator().manual_seed(0)
    x = torch.randn(4, weight.shape[1], generator=source, dtype=torch.float64).to(weight.device)
    devices = [weight.device] if weight.is_cuda else []

    def project(name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    flags = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            gate, up = project("gate_proj", x), project("up_proj", x)
            expected = project("down_proj", _activate(gate, activation) * up)
            for training in (False, True):
                module.train(training)
                got = torch.func.functional_call(module, tensors, (x,))
                if got.shape != expected.shape or not torch.allclose(got, expected, rtol=1e-9, atol=1e-9):
                    return False
    finally:
        for part, flag in flags.items():
            part.training = flag
    return True
