"""ALiBi on scores in memory, forward and backward, against float64."""

from __future__ import annotations

import random

import pytest
import torch

import cutplan
from tests.attention_ops.problems import DEVICES, FLOATS, TORCH, Home, generator, normal
from tests.oracle import Reference, complaint

SHAPES = [(2, 3, 5, 7), (1, 2, 1, 1000), (2, 1, 33, 64), (1, 4, 130, 128), (3, 2, 1, 1)]


def distances(shape: tuple[int, ...], distance: str, align: str, device: str) -> torch.Tensor:
    rows, cols = shape[2:]
    off = 0 if align == "top_left" else cols - rows
    i = torch.arange(rows, device=device, dtype=torch.float64)[:, None]
    j = torch.arange(cols, device=device, dtype=torch.float64)
    return j - (i + off) if distance == "signed" else -(i + off - j).abs()


def slopes_type(operand: str) -> torch.dtype:
    return torch.float64 if operand == "float64" else torch.float32


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("distance", ["signed", "absolute"])
@pytest.mark.parametrize("align", ["top_left", "bottom_right"])
def test_forward(device: str, operand: str, distance: str, align: str, seed: int) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    for shape in SHAPES:
        for strided in (None, chance):
            x = Home(shape, TORCH[operand], device, strided, free_rows=True)
            x.set(normal(shape, TORCH[operand], source, 4.0))
            slopes = Home(shape[1:2], slopes_type(operand), device, strided, free_rows=True)
            slopes.set(torch.rand(shape[1], generator=source, device=device))
            out = Home(shape, TORCH[operand], device, strided, free_rows=True)
            descriptor = cutplan.AlibiDescriptor(
                batch=shape[0], heads=shape[1], seq_q=shape[2], seq_k=shape[3], dtype=operand,
                distance=distance, align=align,
            )  # fmt: skip
            plan = cutplan.AlibiPlan.select(descriptor, device)
            plan.run(x.view, slopes.view, out.view)
            bias = slopes.view.double()[:, None, None] * distances(shape, distance, align, device)
            exact, magnitude = x.view.double() + bias, x.view.double().abs() + bias.abs()
            reference = Reference(exact, magnitude, magnitude * 2.0**-52)
            what = complaint(out.view, reference, plan.precision_guarantee, f"{shape} {strided}")
            assert what is None, what
            assert out.rest_is_poison()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("distance", ["signed", "absolute"])
def test_backward(device: str, operand: str, distance: str, seed: int) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    for shape in SHAPES:
        for strided in (None, chance):
            align = chance.choice(["top_left", "bottom_right"])
            grad = Home(shape, TORCH[operand], device, strided, free_rows=True)
            grad.set(normal(shape, TORCH[operand], source))
            forward = cutplan.AlibiDescriptor(
                batch=shape[0], heads=shape[1], seq_q=shape[2], seq_k=shape[3], dtype=operand,
                distance=distance, align=align,
            )  # fmt: skip
            plan = cutplan.AlibiBackwardPlan.select(cutplan.AlibiBackwardDescriptor(forward), device)
            dscores = Home(shape, TORCH[operand], device, strided, free_rows=True)
            dslopes = Home(shape[1:2], slopes_type(operand), device, strided, free_rows=True)
            scratch = torch.full((plan.workspace_size,), 0xFF, dtype=torch.uint8, device=device)
            plan.run(grad.view, dscores=dscores.view, dslopes=dslopes.view, workspace=scratch)
            assert torch.equal(dscores.view, grad.view)
            products = grad.view.double() * distances(shape, distance, align, device)
            magnitude = products.abs().sum((0, 2, 3))
            reference = Reference(products.sum((0, 2, 3)), magnitude, magnitude * 2.0**-40)
            what = complaint(dslopes.view, reference, plan.precision_guarantee, f"dslopes {shape}")
            assert what is None, what
            assert dscores.rest_is_poison() and dslopes.rest_is_poison()
            # The same bits again, with dscores the gradient itself, which then stays.
            before, again = (
                grad.view.clone(),
                torch.empty(shape[1], dtype=slopes_type(operand), device=device),
            )
            plan.run(grad.view, dscores=grad.view, dslopes=again, workspace=scratch)
            assert torch.equal(again, dslopes.view) and torch.equal(grad.view, before)


@pytest.mark.parametrize("device", DEVICES)
def test_functions(device: str, seed: int) -> None:
    source = generator(device, seed)
    scores = normal((2, 3, 4, 5), torch.float32, source)
    slopes = torch.rand(3, generator=source, device=device)
    expected = scores + slopes[:, None, None] * distances(scores.shape, "signed", "top_left", device).float()
    assert torch.allclose(cutplan.alibi(scores, slopes), expected)
    both = cutplan.alibi_backward(scores)
    assert torch.equal(both.dscores, scores) and both.dslopes.shape == (3,)
    alone = cutplan.alibi_backward(scores, dscores=False)
    assert alone.dscores is None and torch.equal(alone.dslopes, both.dslopes)
    copied = cutplan.alibi_backward(scores, dslopes=False)
    assert copied.dslopes is None and torch.equal(copied.dscores, scores)
    in_place = scores.clone()
    assert cutplan.alibi(in_place, slopes, out=in_place) is in_place and torch.allclose(in_place, expected)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
@pytest.mark.parametrize("device", DEVICES)
def test_no_scores(device: str, shape: tuple[int, ...]) -> None:
    scores = torch.ones(shape, device=device)
    assert cutplan.alibi(scores, torch.ones(shape[1], device=device)).shape == shape
    gradients = cutplan.alibi_backward(scores)
    assert gradients.dscores.shape == shape
    assert torch.equal(gradients.dslopes, torch.zeros(shape[1], device=device))


def test_refusals() -> None:
    scores, slopes, buffer = torch.ones(2, 3, 4, 5), torch.ones(3), torch.ones(2, 3, 4, 6)
    with pytest.raises(cutplan.DTypeMismatch, match="operand slopes: dtype float32 required, got float64"):
        cutplan.alibi(scores, slopes.double())
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand slopes: shape \[3\] \(heads\) required, got \[4\]"
    ):
        cutplan.alibi(scores, torch.ones(4))
    with pytest.raises(cutplan.ShapeMismatch, match="operand scores: rank 4 required"):
        cutplan.alibi(scores[0], slopes)
    with pytest.raises(cutplan.InvalidProblem, match="dscores, dslopes: one at least required, got neither"):
        cutplan.alibi_backward(scores, dscores=False, dslopes=False)
    with pytest.raises(cutplan.Overlap, match="only scores may be the result itself"):
        cutplan.alibi(buffer[..., :5], slopes, out=buffer[..., 1:])
    with pytest.raises(ValueError, match="distance: must be one of 'signed', 'absolute'"):
        cutplan.alibi(scores, slopes, distance="squared")  # type: ignore[arg-type]
