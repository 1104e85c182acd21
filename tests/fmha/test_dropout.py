"""Which weights dropout keeps: bit for bit what the contract says, on every backend, in both passes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cutplan
from tests.fmha.oracle import keep_threshold, kept
from tests.fmha.problems import SERVED, TORCH, Case, Problem, generator

STATES = [(0, 0), (1, 0), (-1, -1), (2**63 - 1, 2**62 + 12345), (-(2**63), 2**32), (123456789, 4294967295)]


def seen_mask(
    operand: str, device: str, state: tuple[int, int], p: float, heads: int, rows: int, keys: int
) -> torch.Tensor:
    """Equal weights on the unit matrix as V: what is not zero in O was kept."""
    q = torch.zeros(2, heads, rows, 16, dtype=TORCH[operand], device=device)
    k = torch.zeros(2, heads, keys, 16, dtype=TORCH[operand], device=device)
    rng_state = torch.tensor(state, dtype=torch.int64, device=device)
    found = []
    for first in range(0, keys, 256):
        columns = torch.arange(first, min(first + 256, keys), device=device)
        v = (
            (torch.arange(keys, device=device)[:, None] == columns)
            .to(TORCH[operand])
            .expand(2, heads, -1, -1)
        )
        found.append(cutplan.attention(q, k, v, dropout_p=p, rng_state=rng_state) != 0)
    return torch.cat(found, -1)


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_every_weight(device: str, operand: str, state: tuple[int, int]) -> None:
    """Kept or not, for every batch entry, head, query and key, across tiles."""
    for p, heads, rows, keys in ((0.5, 3, 70, 131), (0.1, 2, 1, 300), (0.9, 1, 129, 17)):
        index = torch.arange(2 * heads, device=device).view(2, heads)
        expected = kept(state, p, index, rows, keys)
        assert torch.equal(seen_mask(operand, device, state, p, heads, rows, keys), expected), (p, heads)


@pytest.mark.parametrize("p", [0.0, 2.0**-17, 0.1, 0.5, 0.875, 0.9999, 1 - 2.0**-20])
def test_keep_rate(p: float, device: str, seed: int) -> None:
    """The share that is kept is the nearest multiple of 2^-16 to 1 - p, within six standard deviations."""
    mask = seen_mask("float32", device, (seed % 2**62, 5), p, 8, 300, 256)
    rate = keep_threshold(p) / 65536
    spread = 6 * (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs(float(mask.double().mean()) - rate) <= spread


def test_threshold() -> None:
    assert [keep_threshold(p) for p in (0.0, 0.5, 0.25, 1 - 2.0**-16, 1 - 2.0**-18)] == [
        65536,
        32768,
        49152,
        1,
        1,
    ]


def test_states_and_heads_are_independent(device: str) -> None:
    """Masks of other seeds, offsets, heads, rows and groups of keys agree on half of the weights, no more."""
    base = seen_mask("float32", device, (1, 1), 0.5, 4, 256, 256)
    others = [
        seen_mask("float32", device, state, 0.5, 4, 256, 256) for state in ((2, 1), (1, 2), (1, 2**32 + 1))
    ]
    others += [base.flip(1), base.roll(1, 2), base.roll(8, 3), base.roll(1, 3)]
    for other in others:
        agreement = float((base == other).double().mean())
        assert abs(agreement - 0.5) < 6 * 0.5 / base.numel() ** 0.5


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("dim", [64, 128, 256])
def test_the_backward_drops_what_the_forward_dropped(device: str, operand: str, dim: int, seed: int) -> None:
    """dV of a unit gradient is the weights transposed: the forward's own, to the bit of kept or not."""
    keys, rows = 100, 64
    problem = Problem(
        Case(rows, keys, dim, dim, heads=3, dtype=operand, dropout_p=0.4, batch=2),
        device,
        generator(device, seed),
    )
    problem.q.zero_()
    eye = torch.eye(rows, dim, dtype=TORCH[operand], device=device)
    problem.grad.copy_(eye.expand_as(problem.grad))
    gradients = problem.run(problem.select_backward())
    shown = min(rows, dim)
    index = torch.arange(6, device=device).view(2, 3)
    seed_and_offset = tuple(problem.rng_state.tolist())
    expected = kept(seed_and_offset, 0.4, index, rows, keys)[:, :, :shown].mT
    assert torch.equal(gradients["dv"][..., :shown] != 0, expected)


def test_forward_and_backward_agree_on_the_state(device: str, seed: int) -> None:
    """O is linear in V: <grad, O(V)> = <dV, V> for the same state, and not for another."""
    source = generator(device, seed)
    q, k, v, grad = (torch.randn(2, 2, 90, 32, generator=source, device=device) for _ in range(4))
    dropout: dict[str, Any] = {"dropout_p": 0.5, "rng_state": torch.tensor([7, 9], device=device)}
    o, lse = cutplan.attention(q, k, v, return_lse=True, **dropout)
    dv = cutplan.attention_backward(grad, q, k, v, o, lse, **dropout).dv
    size = float((grad.double() * o.double()).abs().sum())
    difference = float((grad.double() * o).sum() - (dv.double() * v).sum())
    assert abs(difference) < 1e-5 * size
    dropout["rng_state"] = torch.tensor([7, 10], device=device)
    other = cutplan.attention_backward(grad, q, k, v, o, lse, **dropout).dv
    assert abs(float((grad.double() * o).sum() - (other.double() * v).sum())) > 1e-3 * size


def test_no_dropout_is_the_same_as_none(device: str, seed: int) -> None:
    source = generator(device, seed)
    q, k, v = (torch.randn(2, 2, 90, 32, generator=source, device=device) for _ in range(3))
    plain = cutplan.attention(q, k, v)
    state = torch.tensor([1, 2], device=device)
    torch.testing.assert_close(
        cutplan.attention(q, k, v, dropout_p=0.0, rng_state=state), plain, rtol=1e-6, atol=1e-6
    )
