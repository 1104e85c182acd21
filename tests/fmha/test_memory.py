"""Scratch and footprint grow with the length of the sequence, not with its square."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch

import cutplan
from tests.fmha.problems import SERVED, Case, described

LENGTHS = (1024, 2048, 4096, 8192, 16384)


def plans(length: int, operand: str, device: str, dim: int, **preference: Any) -> tuple[Any, Any]:
    problem = described(Case(length, length, dim, heads=16, dtype=operand, causal="bottom_right", batch=1))
    problem.device = device
    return problem.select(**preference), problem.select_backward(**preference)


def operand_bytes(length: int, dim: int) -> int:
    """Of Q, K, V and O in float32: 16 heads of one batch entry."""
    return 4 * 16 * length * dim * 4


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_workspace_is_linear(device: str, operand: str, deterministic: bool, dim: int) -> None:
    """A few times the operands at every length; the scores would be a hundred times as much."""
    times = 8 if operand != "float64" else 16
    for which in range(2):
        for length in LENGTHS:
            plan = plans(length, operand, device, dim, deterministic=deterministic)[which]
            assert plan.workspace_size <= times * operand_bytes(length, dim), (plan.sku.name, length)


@pytest.mark.parametrize("device, operand", SERVED)
def test_the_cap_is_honoured_or_refused(device: str, operand: str) -> None:
    for which in range(2):
        for deterministic in (False, True):
            plan = plans(1024, operand, device, 64, deterministic=deterministic)[which]
            size = plan.workspace_size
            if size == 0:
                continue
            descriptor, kind = plan.descriptor, type(plan)
            wanted = {"deterministic": deterministic, "max_workspace_bytes": size - 1}
            try:
                other = kind.select(descriptor, device, cutplan.PlanPreference(**wanted))
            except cutplan.Unsupported as error:
                assert "max_workspace_bytes" in str(error) or "workspace" in str(error)
            else:
                assert other.workspace_size < size
            wanted["max_workspace_bytes"] = size
            assert kind.select(descriptor, device, cutplan.PlanPreference(**wanted)).workspace_size <= size


def peak(call: Callable[..., Any], *operands: torch.Tensor, **options: Any) -> tuple[int, Any]:
    """Bytes that a call takes at most beyond what was there before it, its results included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call(*operands, **options)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, result


@pytest.mark.cuda
@pytest.mark.parametrize("deterministic", [False, True])
def test_footprint_is_linear(deterministic: bool) -> None:
    peaks: dict[str, list[int]] = {"forward": [], "backward": []}
    mask = {"causal": "bottom_right"}
    for length in LENGTHS:
        q, k, v, grad = (torch.randn(1, 16, length, 64, device="cuda").bfloat16() for _ in range(4))
        used, (o, lse) = peak(cutplan.attention, q, k, v, return_lse=True, **mask)
        peaks["forward"].append(used)
        backward = functools.partial(cutplan.attention_backward, deterministic=deterministic, **mask)
        used, _ = peak(backward, grad, q, k, v, o, lse)
        peaks["backward"].append(used)
    for which, sizes in peaks.items():
        for length, size in zip(LENGTHS, sizes, strict=True):
            assert size <= 9 * operand_bytes(length, 64), (which, sizes)
        if not deterministic:  # from where the keys are not split any more
            for shorter, longer in zip(sizes[2:], sizes[3:], strict=False):
                assert longer <= 2.1 * shorter + (4 << 20), (which, sizes)
