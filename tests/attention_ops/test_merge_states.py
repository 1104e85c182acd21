"""Merging of partial results: what attention over all keys gives, and every edge of the weights."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import torch

import cutplan
from tests.attention_ops.problems import DEVICES, TORCH, Home, generator, normal
from tests.oracle import Reference, complaint

TYPES = ["float32", "float16", "bfloat16"]


def merged(o: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """o, its magnitude, and lse of parts [P, ..., D] and [P, ...], in float64."""
    total = torch.logsumexp(lse.double(), 0)
    weights = torch.where(lse == -math.inf, 0.0, torch.exp(lse.double() - total))[..., None]
    values = torch.where(weights == 0, 0.0, o.double())
    return (weights * values).sum(0), (weights * values.abs()).sum(0), total


def check(plan: Any, o: torch.Tensor, lse: torch.Tensor, out: torch.Tensor, out_lse: torch.Tensor) -> None:
    exact, magnitude, total = merged(o, lse)
    what = complaint(out, Reference(exact, magnitude, magnitude * 2.0**-48), plan.precision_guarantee, "out")
    assert what is None, what
    empty = total == -math.inf
    assert torch.equal(out_lse == -math.inf, empty)
    error = (out_lse.double() - total)[~empty].abs()
    assert bool((error <= 2.0**-21 * total[~empty].abs().clamp(min=1.0)).all()), error.max()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", TYPES)
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64])
def test_any_strides(device: str, operand: str, parts: int, seed: int) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    for dim, apart, packed, layout in (
        (128, False, False, "bhsd"),
        (72, parts == 2, False, "bshd"),
        (33, False, True, "bhsd"),
        (256, parts == 2, True, "bshd"),
        (1, False, False, "bhsd"),
    ):
        batch, heads, rows = (1, 3, 37) if packed else (2, 3, 5)
        inner = (heads, rows) if layout == "bhsd" else (rows, heads)
        shape = (*inner, dim) if packed else (batch, *inner, dim)
        of_lse = (heads, rows) if packed else (batch, heads, rows)
        o_type = chance.choice([operand, "float32"])
        o = Home((parts, *shape), TORCH[operand], device, chance)
        o.set(normal((parts, *shape), TORCH[operand], source))
        lse = Home((parts, *of_lse), torch.float32, device, chance, free_rows=True)
        values = normal((parts, *of_lse), torch.float32, source, 6.0)
        values[torch.rand(values.shape, generator=source, device=device) < 0.2] = -math.inf
        lse.set(values)
        out = Home(shape, TORCH[o_type], device, chance)
        out_lse = Home(of_lse, torch.float32, device, chance, free_rows=True)
        descriptor = cutplan.MergeStatesDescriptor(
            parts=parts, batch=batch, heads=heads, rows=rows, dim=dim, dtype=operand, o=o_type, layout=layout,
            varlen=packed, apart=apart,
        )  # fmt: skip
        plan = cutplan.MergeStatesPlan.select(descriptor, device)
        if apart:
            plan.run(
                o.view[0], lse.view[0], out=out.view, o2=o.view[1], lse2=lse.view[1], out_lse=out_lse.view
            )
        else:
            plan.run(o.view, lse.view, out=out.view, out_lse=out_lse.view)
        turned = o.view if layout == "bhsd" else o.view.transpose(-3, -2)
        result = out.view if layout == "bhsd" else out.view.transpose(-3, -2)
        check(plan, turned, lse.view, result, out_lse.view)
        assert out.rest_is_poison() and out_lse.rest_is_poison()


@pytest.mark.parametrize("device", DEVICES)
def test_weights_at_their_edges(device: str, seed: int) -> None:
    """A part without keys has no weight, whatever its o holds; infinities and NaN do as arithmetic has it."""
    source = generator(device, seed)
    o = normal((3, 1, 1, 6, 16), torch.float32, source)
    lse = torch.zeros((3, 1, 1, 6), device=device)
    lse[:, 0, 0, 0] = -math.inf  # no keys at all
    lse[1, 0, 0, 1] = -math.inf
    o[:, 0, 0, 0], o[1, 0, 0, 1] = math.nan, math.nan
    lse[0, 0, 0, 2], lse[1, 0, 0, 2] = 3e38, -3e38  # one has all the weight
    lse[:, 0, 0, 3] = torch.tensor([1e6, 1e6, 1e6])
    lse[:, 0, 0, 4] = torch.tensor([5.0, math.nan, -math.inf]).roll(seed % 3)
    lse[2, 0, 0, 5] = -1e9
    out, out_lse = cutplan.merge_states(o, lse)
    assert bool((out[0, 0, 0] == 0).all()) and out_lse[0, 0, 0] == -math.inf
    assert torch.allclose(out[0, 0, 1], (o[0, 0, 0, 1] + o[2, 0, 0, 1]) / 2)
    assert torch.equal(out[0, 0, 2], o[0, 0, 0, 2])
    assert torch.allclose(out[0, 0, 3], o[:, 0, 0, 3].mean(0))
    assert bool(out[0, 0, 4].isnan().all()) and bool(out_lse[0, 0, 4].isnan())
    assert torch.allclose(out[0, 0, 5], o[:2, 0, 0, 5].mean(0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_halves_of_the_keys_are_the_whole(device: str, layout: str, seed: int) -> None:
    source = generator(device, seed)
    row = 2 if layout == "bhsd" else 1
    shape = [2, 4, 4, 32]
    shape[row] = 50
    q, k, v = (normal(shape, torch.float16, source) for _ in range(3))
    whole, whole_lse = cutplan.attention(q, k, v, return_lse=True, layout=layout)
    parts = [
        cutplan.attention(q, k.narrow(row, *span), v.narrow(row, *span), return_lse=True, layout=layout)
        for span in ((0, 13), (13, 37))
    ]
    out, lse = cutplan.merge_states([p[0] for p in parts], [p[1] for p in parts], layout=layout)
    assert torch.allclose(out.float(), whole.float(), atol=3e-3)
    assert torch.allclose(lse, whole_lse, atol=1e-5)
    assert cutplan.last_kernels()[0].startswith("merge_states.")


@pytest.mark.parametrize("device", DEVICES)
def test_a_part_may_be_the_result(device: str, seed: int) -> None:
    source = generator(device, seed)
    o = [normal((1, 2, 3, 64), torch.float16, source) for _ in range(2)]
    lse = [normal((1, 2, 3), torch.float32, source) for _ in range(2)]
    expected, _ = cutplan.merge_states(o, lse)
    result, _ = cutplan.merge_states(o, lse, out=o[0])
    assert result is o[0] and torch.equal(result, expected)


def test_nothing_to_merge() -> None:
    for shape in ((2, 0, 3, 4, 8), (2, 1, 0, 4, 8), (2, 1, 3, 0, 8), (2, 1, 3, 4, 0)):
        out, lse = cutplan.merge_states(torch.ones(shape), torch.zeros(shape[:-1]))
        assert out.shape == shape[1:] and lse.shape == shape[1:-1]


def test_refusals() -> None:
    o, lse = torch.ones(2, 1, 2, 3, 8), torch.zeros(2, 1, 2, 3)
    with pytest.raises(cutplan.DTypeMismatch, match="operand lse: dtype float32 required"):
        cutplan.merge_states(o, lse.double())
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand lse: shape \[2, 1, 2, 3\] required, got \[2, 1, 2, 4\]"
    ):
        cutplan.merge_states(o, torch.zeros(2, 1, 2, 4))
    with pytest.raises(cutplan.InvalidProblem, match="operand lse: a list of two parts required"):
        cutplan.merge_states([o[0], o[1]], lse)
    with pytest.raises(
        cutplan.Unsupported, match="operand o: one of .* required on this device, got float64"
    ):
        cutplan.merge_states(o.double(), lse)
    with pytest.raises(cutplan.Unsupported, match="operand out: dtype float16 or float32 required"):
        cutplan.merge_states(o.half(), lse, out=torch.empty(1, 2, 3, 8, dtype=torch.bfloat16))
    with pytest.raises(cutplan.InvalidProblem, match="parts: from 1 to 256 required, got 300"):
        cutplan.merge_states(o[:1].expand(300, 1, 2, 3, 8), lse[:1].expand(300, 1, 2, 3))
    with pytest.raises(cutplan.Overlap, match="operand out: must not share memory with operand o"):
        cutplan.merge_states(o, lse, out=o[0])
