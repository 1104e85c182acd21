"""Calls of cutplan.torch: operands that need gradients, and options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import cutplan.torch as ct

from ..gemm.problems import generator


class Case(NamedTuple):
    """What a function is called with: tensors by name, some of which need gradients, and other options."""

    function: Callable[..., Any]
    tensors: dict[str, torch.Tensor]
    options: dict[str, Any]

    def call(self, **changed: Any) -> Any:
        return self.function(**{**self.tensors, **changed}, **self.options)

    def leaves(self) -> dict[str, torch.Tensor]:
        return {name: x for name, x in self.tensors.items() if x.requires_grad}


class Recorder(TorchDispatchMode):
    """The calls of cutplan's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operator.namespace == "cutplan":
            self.calls.append((operator, args))
        return operator(*args, **(kwargs or {}))


class Make:
    def __init__(self, seed: int, device: str, dtype: torch.dtype = torch.float64) -> None:
        self.source, self.device, self.dtype = generator(device, seed), device, dtype

    def normal(self, *shape: int, dtype: torch.dtype | None = None, grad: bool = True) -> torch.Tensor:
        x = torch.randn(shape, generator=self.source, device=self.device, dtype=torch.float64)
        return x.to(dtype or self.dtype).requires_grad_(grad)

    def integers(self, *values: int, dtype: torch.dtype = torch.int32) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)

    def mask(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self.source, device=self.device) > 0.4


def _products(make: Make) -> dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    n = make.normal
    return {
        "two dimensions": ({"a": n(5, 4), "b": n(4, 6)}, {}),
        "transposed": ({"a": n(4, 5).mT, "b": n(6, 4).mT}, {}),
        "batch": ({"a": n(3, 5, 4), "b": n(4, 6)}, {}),
        "batches that broadcast": ({"a": n(2, 1, 5, 4), "b": n(3, 4, 6)}, {}),
        "row": ({"a": n(4), "b": n(3, 4, 6)}, {}),
        "column": ({"a": n(5, 4), "b": n(4)}, {}),
        "numbers": ({"a": n(4), "b": n(4)}, {}),
        "bias": ({"a": n(3, 5, 4), "b": n(4, 6), "bias": n(6)}, {}),
        "bias over m": ({"a": n(5, 4), "b": n(4, 6), "bias": n(5, 1)}, {"activation": "silu"}),
        "relu": ({"a": n(5, 4), "b": n(4, 6), "bias": n(6)}, {"activation": "relu"}),
        "gelu_erf": ({"a": n(3, 5, 4), "b": n(4, 6), "bias": n(6)}, {"activation": "gelu_erf"}),
        "gelu_tanh": ({"a": n(5, 4), "b": n(4, 6)}, {"activation": "gelu_tanh"}),
        "silu, residual": (
            {"a": n(3, 5, 4), "b": n(4, 6), "bias": n(6), "residual": n(3, 5, 6)},
            {"activation": "silu"},
        ),
        "c": ({"a": n(3, 5, 4), "b": n(4, 6), "c": n(5, 6)}, {"alpha": 0.5, "beta": 2.0}),
        "c of one row": ({"a": n(5, 4), "b": n(4, 6), "c": n(6), "bias": n(6)}, {"activation": "silu"}),
        "gate": (
            {"a": n(3, 5, 4), "b": n(4, 6), "b2": n(4, 6), "bias": n(6), "bias2": n(6), "residual": n(5, 6)},
            {"activation": "silu"},
        ),
        "columns in turn": (
            {"a": n(5, 4), "b": n(4, 12), "bias": n(12)},
            {"activation": "gelu_tanh", "gate": "interleaved"},
        ),
        "no rows": ({"a": n(0, 4), "b": n(4, 6), "bias": n(6)}, {}),
        "nothing to sum": ({"a": n(5, 0), "b": n(0, 6), "bias": n(6)}, {"activation": "silu"}),
    }  # fmt: skip


def _grouped(make: Make) -> dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    n, offsets = make.normal, make.integers(0, 3, 3, 8)
    a = {"a": n(8, 4), "offsets": offsets}
    return {
        "groups": ({**a, "b": n(3, 4, 6), "bias": n(3, 6)}, {}),
        "groups, transposed": ({**a, "b": n(3, 6, 4).mT}, {"alpha": 0.5}),
        "groups, activation": ({**a, "b": n(3, 4, 6), "bias": n(3, 6)}, {"activation": "gelu_erf"}),
        "groups, gate": (
            {**a, "b": n(3, 4, 6), "b2": n(3, 4, 6), "bias": n(3, 6), "bias2": n(3, 6)},
            {"activation": "silu"},
        ),
        "groups, columns in turn": (
            {**a, "b": n(3, 4, 12)},
            {"activation": "silu", "gate": "interleaved"},
        ),
    }


def _attention(make: Make) -> dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    n = make.normal

    def heads(batch: int = 2, q: int = 5, k: int = 7) -> dict[str, torch.Tensor]:
        return {"q": n(batch, 4, q, 8), "k": n(batch, 2, k, 8), "v": n(batch, 2, k, 6)}

    packed = {"cu_seqlens_q": make.integers(0, 3, 5), "cu_seqlens_k": make.integers(0, 4, 7)}
    return {
        "plain": (heads(), {}),
        "causal": (heads(), {"causal": "bottom_right", "scale": 0.3, "softcap": 2.0}),
        "bias": ({**heads(), "bias": n(4, 5, 7)}, {}),
        "bias of a batch": ({**heads(), "bias": n(2, 1, 1, 7)}, {"causal": "top_left"}),
        "mask": ({**heads(), "mask": make.mask(5, 7)}, {}),
        "slopes, sink": ({**heads(), "alibi_slopes": n(4), "sink": n(4)}, {"causal": "top_left"}),
        "window, seqused_k": ({**heads(), "seqused_k": make.integers(7, 3)}, {"window": (2, 1)}),
        "dropout": ({**heads(), "rng_state": make.integers(5, 6, dtype=torch.int64)}, {"dropout_p": 0.3}),
        "bshd": ({"q": n(2, 5, 4, 8), "k": n(2, 7, 2, 8), "v": n(2, 7, 2, 6)}, {"layout": "bshd"}),
        "packed": ({"q": n(4, 5, 8), "k": n(2, 7, 8), "v": n(2, 7, 6), **packed}, {}),
    }


def _around(make: Make) -> dict[str, tuple[Callable[..., Any], dict[str, torch.Tensor], dict[str, Any]]]:
    n = make.normal
    tables = {name: n(12, 4, dtype=torch.float32, grad=False) for name in ("cos", "sin")}
    offsets = make.integers(3, 8, dtype=torch.int64)

    def rope_two(q: torch.Tensor, k: torch.Tensor, **rest: Any) -> Any:
        return ct.rope((q, k), **rest)

    return {
        "rope": (ct.rope, {"x": n(2, 3, 4, 8), "offsets": offsets}, {"interleaved": True, "rotary_dim": 4}),
        "rope of q and k": (rope_two, {"q": n(2, 3, 4, 8), "k": n(2, 1, 4, 8), **tables}, {}),
        "alibi": (ct.alibi, {"scores": n(2, 3, 4, 5), "slopes": n(3)}, {"distance": "absolute"}),
        "alibi, signed": (ct.alibi, {"scores": n(2, 3, 4, 5), "slopes": n(3)}, {"align": "bottom_right"}),
    }


def cases(make: Make) -> dict[str, Case]:
    made = {name: Case(ct.matmul, *case) for name, case in _products(make).items()}
    made |= {name: Case(ct.grouped_matmul, *case) for name, case in _grouped(make).items()}
    columns = {"a": make.normal(8, 4).mT, "b": make.normal(8, 6), "offsets": make.integers(0, 3, 3, 7)}
    made["groups over k"] = Case(ct.grouped_matmul, columns, {})
    made |= {f"attention, {name}": Case(ct.attention, *case) for name, case in _attention(make).items()}
    return made | {name: Case(*case) for name, case in _around(make).items()}


NAMES = list(cases(Make(0, "cpu")))
