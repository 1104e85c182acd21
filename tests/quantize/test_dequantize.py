"""Data times scales against float64, and every code there is."""

from __future__ import annotations

import random

import pytest
import torch

import cutplan
from tests.attention_ops.problems import Home
from tests.oracle import Reference, complaint, error_bound
from tests.quantize.problems import DEVICES, FLOATS, TORCH, Case, cases, generator
from tests.quantize.test_quantize import kinds


def dequantized(case: Case, out_dtype: str, chance: random.Random | None) -> tuple[Home, object]:
    g = case.descriptor
    descriptor = cutplan.DequantizeDescriptor(
        batch=g.batch, rows=g.rows, columns=g.columns, dtype=g.dtype, out=out_dtype,
        granularity=g.granularity, group_size=g.group_size, axis=g.axis, symmetric=g.symmetric,
    )  # fmt: skip
    plan = cutplan.DequantizePlan.select(descriptor, case.device)
    out = Home((g.batch, g.rows, g.columns), TORCH[out_dtype], case.device, chance)
    plan.run(case.data.view, case.scale.view, out.view, zero=case.zero and case.zero.view)
    return out, plan.precision_guarantee


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("out_dtype", FLOATS)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("strided", [False, True])
def test_every_code(device: str, out_dtype: str, kind: tuple[str, bool], strided: bool, seed: int) -> None:
    """Random bytes, with those that no quantisation writes, times random scales."""
    chance, source = random.Random(seed), generator(device, seed)
    maybe = chance if strided else None
    for case in cases(device, out_dtype, kind, maybe, source, static=True):
        data = case.data.view
        codes = torch.randint(0, 256, data.shape, generator=source, device=device, dtype=torch.uint8)
        data.view(torch.uint8).copy_(codes) if data.is_contiguous() else data.copy_(codes.view(data.dtype))
        case.scale.set(torch.rand(case.scale.view.shape, generator=source, device=device) * 2 - 1)
        if case.zero is not None:
            case.zero.view.random_(-200, 200, generator=source)
        out, guarantee = dequantized(case, out_dtype, maybe)
        zero = torch.zeros(case.scale.view.shape, dtype=torch.int32)
        if case.zero is not None:
            first, last = (-128, 127) if kind[0] == "int8" else (0, 15)
            zero = case.zero.view.cpu().clamp(first, last)
        exact = (case.decoded() - case.spread(zero).double()) * case.spread(case.scale.view).double()
        got = out.view.cpu().double()
        special = ~exact.isfinite()
        assert torch.equal(got[special].nan_to_num(), exact[special].nan_to_num()) or out_dtype == "float16"
        assert torch.equal(got.isnan(), exact.isnan()), case.name
        finite = exact.masked_fill(special, 0.0)
        reference = Reference(finite, finite.abs(), torch.tensor(0.0, dtype=torch.float64))
        what = complaint(got.masked_fill(special, 0.0), reference, guarantee, case.name)
        assert what is None, what
        assert out.rest_is_poison() and case.rest_is_poison(), case.name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
def test_there_and_back(device: str, operand: str, kind: tuple[str, bool], seed: int) -> None:
    """Both bounds together, by the plans and by the functions."""
    source = generator(device, seed)
    for case in cases(device, operand, kind, None, source, shapes=[(2, 40, 96), (1, 9, 1030)]):
        g = case.descriptor
        plan = case.run()
        out, guarantee = dequantized(case, operand, None)
        scale = case.spread(case.scale.view).double()
        x, got = case.exact_x, out.view.cpu().double()
        first = error_bound(plan.precision_guarantee, scale, x)
        reference = Reference(x, x.abs() + first, first * (1 + 2.0**-6))
        what = complaint(got, reference, guarantee, case.name)
        assert what is None, what
        size = None if g.granularity not in ("group", "block") else g.group_size
        q = cutplan.quantize(
            case.x.view,
            g.dtype,
            granularity=g.granularity,
            group_size=size,
            axis=g.axis,
            symmetric=g.symmetric,
        )
        assert torch.equal(q.data.view(torch.uint8), case.data.view.view(torch.uint8)), case.name
        assert torch.equal(q.scale, case.scale.view)
        assert torch.equal(cutplan.dequantize(q, operand), out.view), case.name
