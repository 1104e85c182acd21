"""Modules that take the place of torch's, with the parameters and the names that those have."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from ._matmul import gated_mlp, linear

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
        self.activation = activation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return linear(input, self.weight, self.bias, activation=self.activation)

    def extra_repr(self) -> str:
        of_torch = super().extra_repr()
        return of_torch if self.activation == "none" else f"{of_torch}, activation={self.activation}"


class GatedMLP(torch.nn.Module):
    """``down_proj(activation(gate_proj(x)) * up_proj(x))``, by gated_mlp(). The three are torch.nn.Linear."""

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
        self.gate_proj = Linear(hidden_size, intermediate_size, bias, device=device, dtype=dtype)
        self.up_proj = Linear(hidden_size, intermediate_size, bias, device=device, dtype=dtype)
        self.down_proj = Linear(intermediate_size, hidden_size, bias, device=device, dtype=dtype)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up, down = self.gate_proj, self.up_proj, self.down_proj
        return gated_mlp(
            x, gate.weight, up.weight, down.weight, gate_bias=gate.bias, up_bias=up.bias, down_bias=down.bias,
            activation=self.activation,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


class Replacement(NamedTuple):
    """What replace_modules() did: by the module's name, what it is now, or why it was left."""

    replaced: dict[str, str]
    left: dict[str, str]


def replace_modules(model: torch.nn.Module) -> Replacement:
    """Puts cutplan's modules in the place of torch.nn.Linear and of gated MLPs made of three of these.

    Parameters, buffers, hooks and the names in state_dict() stay as they are: a Linear changes its class and
    nothing else. A gated MLP is a module whose children are gate_proj, up_proj, down_proj and an activation
    (those of Hugging Face's Llama and its kin); its result for random rows must be that of GatedMLP, or it is
    left as it is, but for its three projections.
    """
    done = Replacement({}, {})
    for name, module in list(model.named_modules()):
        if isinstance(module, (Linear, GatedMLP)) or any(
            name.startswith(f"{mlp}.") for mlp, kind in done.replaced.items() if kind == "GatedMLP"
        ):
            continue
        if {"gate_proj", "up_proj", "down_proj"} <= dict(module.named_children()).keys():
            mlp = _gated(module)
            if isinstance(mlp, str):
                done.left[name] = mlp
            else:
                parent, _, own = name.rpartition(".")
                setattr(model.get_submodule(parent), own, mlp)
                done.replaced[name] = "GatedMLP"
        elif type(module) is torch.nn.Linear:
            module.__class__ = Linear
            done.replaced[name] = "Linear"
        elif isinstance(module, torch.nn.Linear):
            done.left[name] = (
                f"a subclass of torch.nn.Linear, {type(module).__qualname__}, may compute otherwise"
            )
        elif isinstance(module, torch.nn.MultiheadAttention):
            done.left[name] = (
                "torch.nn.MultiheadAttention calls torch's attention; call cutplan.torch.attention instead"
            )
    return done


def _gated(module: torch.nn.Module) -> GatedMLP | str:
    """The same as a GatedMLP, or why there is none."""
    children = dict(module.named_children())
    projections = [children[name] for name in ("gate_proj", "up_proj", "down_proj")]
    others = {name: child for name, child in children.items() if child not in projections}
    if any(type(x) is not torch.nn.Linear for x in projections):
        return "a projection is no torch.nn.Linear"
    activations = [activation_of(x) for x in others.values()]
    if len(activations) != 1 or activations[0] is None:
        names = ", ".join(type(x).__qualname__ for x in others.values()) or "none"
        return f"one activation of {', '.join(sorted(set(_ACTIVATIONS.values())))} required, got {names}"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it has hooks"
    made = GatedMLP(1, 1, activation=activations[0], device="meta")
    weight = projections[0].weight
    for name, projection in zip(("gate_proj", "up_proj", "down_proj"), projections, strict=True):
        setattr(made, name, projection)
    made.train(module.training)
    if weight.device.type != "meta":
        with torch.no_grad():
            x = torch.randn(4, weight.shape[1], dtype=weight.dtype, device=weight.device)
            expected, got = module.eval()(x), made(x)
            module.train(made.training)
        tolerance = 16 * torch.finfo(weight.dtype).eps * expected.abs().max().item()
        if expected.shape != got.shape or not (expected - got).abs().max().item() <= tolerance:
            return "it computes something else than a gated MLP"
    for projection in projections:
        projection.__class__ = Linear
    return made
