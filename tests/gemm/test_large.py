"""Beyond 2^31 elements, where 32-bit offsets wrap around."""

from __future__ import annotations

import pytest
import torch

import cutplan
from tests.oracle import Product, complaint, reference

pytestmark = [pytest.mark.cuda, pytest.mark.large]

_LIMIT = 2**31


def random(*shape: int, seed: int) -> torch.Tensor:
    source = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(shape, device="cuda", dtype=torch.float16, generator=source)


def check_rows(plan: cutplan.GemmPlan, a: torch.Tensor, b: torch.Tensor, d: torch.Tensor, step: int) -> None:
    """Every element, a few rows at a time: D in float64 would not fit."""
    for first in range(0, d.shape[0], step):
        rows = slice(first, first + step)
        what = complaint(d[rows], reference(Product.of(a[rows], b)), plan.precision_guarantee)
        assert what is None, f"{plan.sku.name}: rows from {first}: {what}"


def architectures() -> list[str]:
    descriptor = cutplan.GemmDescriptor(m=512, n=512, k=512, a="float16")
    kernels = cutplan.gemm_kernels(descriptor, cutplan.device_properties("cuda"))
    return sorted({str(sku.arch) for sku in kernels})


def test_output(seed: int) -> None:
    m, n, k = 46344, 46352, 16
    assert m * n > _LIMIT
    a, b = random(m, k, seed=seed), random(n, k, seed=seed + 1).T
    for arch in architectures():
        d = torch.full((m, n), torch.nan, dtype=torch.float16, device="cuda")
        descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a="float16")
        plan = cutplan.GemmPlan.select(
            descriptor, "cuda", cutplan.PlanPreference(arch=arch, max_workspace_bytes=0)
        )
        plan.run(a, b, d)
        check_rows(plan, a, b, d, 4096)
        del d


def test_operand(seed: int) -> None:
    m, n, k = 65544, 24, 32776
    assert m * k > _LIMIT
    a, b = random(m, k, seed=seed), random(k, n, seed=seed + 1)
    for arch in architectures():
        d = torch.full((m, n), torch.nan, dtype=torch.float16, device="cuda")
        descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a="float16", layout="rrr")
        plan = cutplan.GemmPlan.select(
            descriptor, "cuda", cutplan.PlanPreference(arch=arch, max_workspace_bytes=0)
        )
        plan.run(a, b, d)
        check_rows(plan, a, b, d, 8192)


def test_batch_stride(seed: int) -> None:
    """Three matrices more than 2^31 elements apart in one allocation."""
    m, n, k, batch = 136, 72, 264, 3
    stride = _LIMIT + 8
    room = torch.empty(2 * stride + m * k, dtype=torch.float16, device="cuda")
    a = room.as_strided((batch, m, k), (stride, k, 1))
    a.copy_(random(batch, m, k, seed=seed))
    b = random(k, n, seed=seed + 1)
    for arch in architectures():
        d = torch.full((batch, m, n), torch.nan, dtype=torch.float16, device="cuda")
        descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a="float16", layout="rrr", batch=batch)
        plan = cutplan.GemmPlan.select(
            descriptor, "cuda", cutplan.PlanPreference(arch=arch, max_workspace_bytes=0)
        )
        plan.run(a, b, d)
        for i in range(batch):
            check_rows(plan, a[i], b, d[i], m)
