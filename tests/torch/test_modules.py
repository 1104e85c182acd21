"""Modules in the place of torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import silu

import cutplan.torch as ct


class _Mlp(torch.nn.Module):
    """As Hugging Face's models have it."""

    def __init__(self, dtype: torch.dtype, bias: bool = False, activation: type | None = None) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(16, 24, bias=bias, dtype=dtype)
        self.up_proj = torch.nn.Linear(16, 24, bias=bias, dtype=dtype)
        self.down_proj = torch.nn.Linear(24, 16, bias=bias, dtype=dtype)
        self.act_fn = (activation or torch.nn.SiLU)()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class _Swapped(_Mlp):
    """Looks like one, and is none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))


class _Own(torch.nn.Linear):
    pass


def _model(dtype: torch.dtype) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(
        {
            "first": torch.nn.Linear(8, 16, dtype=dtype),
            "mlp": _Mlp(dtype),
            "biased": _Mlp(dtype, bias=True, activation=torch.nn.GELU),
            "swapped": _Swapped(dtype),
            "strange": _Mlp(dtype, activation=torch.nn.Tanh),
            "own": _Own(16, 16, dtype=dtype),
            "heads": torch.nn.MultiheadAttention(16, 2, dtype=dtype),
        }
    )


def _run(model: torch.nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = model["first"](x)
    for name in ("mlp", "biased", "swapped", "strange", "own"):
        x = x + model[name](x)
    return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_replaced_modules(dtype: torch.dtype, device: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = _model(dtype).to(device)
    other = copy.deepcopy(model)
    parameters = dict(other.named_parameters())
    done = ct.replace_modules(other)
    assert done.replaced["first"] == "Linear" and isinstance(other["first"], ct.Linear)
    assert done.replaced["mlp"] == done.replaced["biased"] == "GatedMLP"
    assert "something else" in done.left["swapped"] and "Tanh" in done.left["strange"]
    assert "subclass" in done.left["own"] and "MultiheadAttention" in done.left["heads"]
    assert {n for n in done.replaced if n.startswith(("swapped.", "strange."))} == {
        f"{mlp}.{projection}_proj" for mlp in ("swapped", "strange") for projection in ("gate", "up", "down")
    }
    # The same parameters, not copies, by the same names.
    assert model.state_dict().keys() == other.state_dict().keys()
    assert all(dict(other.named_parameters())[name] is p for name, p in parameters.items())
    assert ct.replace_modules(other).replaced == {}

    x = torch.randn(3, 5, 8, dtype=dtype, device=device)
    expected, got = _run(model, x), _run(other, x)
    tolerance = {"atol": 1e-9, "rtol": 1e-9} if dtype == torch.float64 else {"atol": 0.06, "rtol": 0.06}
    torch.testing.assert_close(got, expected, **tolerance)
    if dtype == torch.float64:
        expected.square().sum().backward()
        got.square().sum().backward()
        for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
            if not name.startswith("heads"):
                torch.testing.assert_close(q.grad, p.grad)


def test_modules_of_their_own(device: str, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(5, 16, dtype=torch.float64, device=device)
    layer = ct.Linear(16, 8, activation="silu", dtype=torch.float64, device=device)
    torch.testing.assert_close(layer(x), silu(torch.nn.functional.linear(x, layer.weight, layer.bias)))
    assert "activation=silu" in repr(layer)
    plain = torch.nn.Linear(16, 8, dtype=torch.float64, device=device)
    plain.load_state_dict(layer.state_dict())
    mlp = ct.GatedMLP(16, 24, bias=True, dtype=torch.float64, device=device)
    of_torch = _Mlp(torch.float64, bias=True).to(device)
    of_torch.load_state_dict(mlp.state_dict())
    torch.testing.assert_close(mlp(x), of_torch(x))
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), of_torch(x))


def test_replaced_modules_keep_their_hooks() -> None:
    layer = torch.nn.Linear(4, 4)
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    model = torch.nn.Sequential(layer, _Mlp(torch.float32))
    model[1].register_forward_hook(lambda *_: seen.append(2))
    done = ct.replace_modules(model)
    assert done.left["1"] == "it has hooks"
    model[0](torch.ones(2, 4))
    assert seen == [1]


def test_data_parallel_training(seed: int) -> None:
    """Hooks of DistributedDataParallel, in a group of one process."""
    torch.manual_seed(seed)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = ct.GatedMLP(16, 24, dtype=torch.float64)
        alone = copy.deepcopy(model)
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        x = torch.randn(5, 16, dtype=torch.float64)
        for net in (parallel, alone):
            net(x).square().sum().backward()
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    finally:
        torch.distributed.destroy_process_group()
