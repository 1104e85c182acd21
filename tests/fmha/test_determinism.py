"""The same inputs give the same bits where a plan says so, and a batch entry does not feel its neighbours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import cutplan
from tests.fmha.problems import SERVED, Case, Problem, generator

RUNS = 20


def differing(first: dict[str, torch.Tensor], again: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, value in first.items() if not torch.equal(_bits(value), _bits(again[name]))]


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


OPTIONS: list[dict[str, Any]] = [
    {},
    {"causal": "bottom_right", "heads_k": 1},
    {"bias": "operand", "bias_dims": "hqk", "alibi": "h", "sink": True, "dropout_p": 0.2, "heads_k": 2},
]


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_twenty_runs(device: str, operand: str, dim: int, seed: int) -> None:
    """deterministic=True, forward and backward, with gradients that are sums over batch, rows and groups."""
    source = generator(device, seed)
    # enough tiles to keep every SM busy at once on a GPU, where a race would show
    rows = 33 if device == "cpu" else 1111
    for options in OPTIONS:
        if options.get("bias") == "operand":
            options = {**options, "bias": operand}
        problem = Problem(Case(rows, rows + 13, dim, heads=4, dtype=operand, **options), device, source)
        for plan in (problem.select(deterministic=True), problem.select_backward(deterministic=True)):
            guarantee = plan.precision_guarantee
            assert guarantee.deterministic and guarantee.bit_stable_on_same_hardware
            first = problem.run(plan)
            for run in range(1, RUNS):
                assert differing(first, problem.run(plan)) == [], f"{plan.sku.name}, run {run}"
            assert problem.complaint(plan) is None


@pytest.mark.parametrize("device, operand", SERVED)
def test_the_guarantee_tells_the_truth(device: str, operand: str, seed: int) -> None:
    """Whatever mode is chosen by default: if it says that it repeats itself, it does."""
    rows = 40 if device == "cpu" else 700
    problem = Problem(
        Case(rows, rows, 64, heads=4, heads_k=2, dtype=operand), device, generator(device, seed)
    )
    for plan in (problem.select(), problem.select_backward()):
        if plan.precision_guarantee.deterministic:
            first = problem.run(plan)
            assert [differing(first, problem.run(plan)) for _ in range(10)] == [[]] * 10, plan.sku.name
        assert problem.complaint(plan) is None


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("rows", [1, 77])
def test_batch_invariant(device: str, operand: str, rows: int, seed: int) -> None:
    """An entry's bits do not depend on how many entries are computed with it, decode shapes included."""
    keys = 300 if device == "cpu" else 3000
    whole = Case(rows, keys, 64, batch=9, heads=4, heads_k=2, dtype=operand, causal="bottom_right", alibi="h")
    problem = Problem(whole, device, generator(device, seed))

    def entries(first: int, count: int) -> dict[str, torch.Tensor]:
        part = Problem(replace(whole, batch=count), device, generator(device, seed))
        chosen = slice(first, first + count)
        for name in ("q", "k", "v", "grad"):
            getattr(part, name).copy_(getattr(problem, name)[chosen])
        part.alibi_slopes.copy_(problem.alibi_slopes)
        plans = (
            part.select(batch_invariant=True),
            part.select_backward(False, batch_invariant=True, deterministic=True),
        )
        assert all(plan.precision_guarantee.batch_invariant for plan in plans)
        o, lse = (x[chosen] for x in problem.given)
        return part.run(plans[0]) | part.run(plans[1], given=(o.contiguous(), lse.contiguous()))

    full = entries(0, 9)
    for first, count in ((0, 1), (3, 1), (8, 1), (2, 2), (0, 8)):
        some = entries(first, count)
        assert differing({n: t[first : first + count] for n, t in full.items()}, some) == [], (first, count)


@pytest.mark.parametrize("device, operand", SERVED)
def test_refused_or_kept(device: str, operand: str) -> None:
    """Every kernel that select() gives for a wish keeps it by its own account."""
    properties = cutplan.device_properties(device)
    for dim in (32, 64, 128, 256):
        forward = cutplan.FmhaDescriptor(heads=8, seq_q=1000, seq_k=1000, dim=dim, dtype=operand, lse=True)
        backward = cutplan.FmhaBackwardDescriptor(forward)
        for descriptor, plan in ((forward, cutplan.FmhaPlan), (backward, cutplan.FmhaBackwardPlan)):
            for wish in ("deterministic", "batch_invariant"):
                preference = cutplan.PlanPreference(**{wish: True})
                assert getattr(plan.select(descriptor, device, preference).precision_guarantee, wish)
                assert cutplan.fmha_kernels(descriptor, properties, preference)
