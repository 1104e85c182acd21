"""Rotary embedding, both ways, against angles of 40 digits."""

from __future__ import annotations

import math
import random
from typing import Any

import mpmath
import pytest
import torch

import cutplan
from tests.attention_ops.problems import DEVICES, FLOATS, TORCH, Home, generator, normal
from tests.oracle import Reference, complaint

mpmath.mp.dps = 40
LAST = 2**20  # the bound of angles by base holds up to here


def frequencies(dim: int, base: float, scaling: Any = None) -> list[Any]:
    """Radians a position of each pair, as the papers and the models' code have them."""
    plain = [mpmath.mpf(base) ** (-mpmath.mpf(2 * i) / dim) for i in range(dim // 2)]
    if scaling is None or scaling.kind == "none":
        return plain
    factor = mpmath.mpf(scaling.factor)
    if scaling.kind == "linear":
        return [f / factor for f in plain]
    if scaling.kind == "ntk":
        return frequencies(dim, mpmath.mpf(base) * factor ** (mpmath.mpf(dim) / (dim - 2)))
    length = scaling.original_max_position
    if scaling.kind == "llama3":
        scaled = []
        for f in plain:
            wavelength = 2 * mpmath.pi / f
            if wavelength > length / mpmath.mpf(scaling.low_freq_factor):
                scaled.append(f / factor)
            elif wavelength < length / mpmath.mpf(scaling.high_freq_factor):
                scaled.append(f)
            else:
                smooth = (length / wavelength - scaling.low_freq_factor) / (
                    scaling.high_freq_factor - scaling.low_freq_factor
                )
                scaled.append((1 - smooth) * f / factor + smooth * f)
        return scaled

    def pair_of(turns: float) -> float:
        return (dim * math.log(length / (turns * 2 * math.pi))) / (2 * math.log(base))

    low, high = (
        max(math.floor(pair_of(scaling.beta_fast)), 0),
        min(math.ceil(pair_of(scaling.beta_slow)), dim - 1),
    )
    spread = high - low or 0.001
    keep = [1 - min(max(mpmath.mpf(i - low) / spread, 0), 1) for i in range(dim // 2)]
    return [f / factor * (1 - k) + f * k for f, k in zip(plain, keep, strict=True)]


def tables(positions: torch.Tensor, of: list[Any], factor: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines [*positions, pairs], float64 and right to the last bit."""
    angles = [[int(p) * f for f in of] for p in positions.flatten().tolist()]
    shape = (*positions.shape, len(of))
    cosines = torch.tensor([[float(mpmath.cos(a)) for a in row] for row in angles], dtype=torch.float64)
    sines = torch.tensor([[float(mpmath.sin(a)) for a in row] for row in angles], dtype=torch.float64)
    place = positions.device
    return cosines.reshape(shape).to(place) * factor, sines.reshape(shape).to(place) * factor


def turned(
    x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, interleaved: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """x turned, in float64, and what the bound is relative to; the tables broadcast to x's rows."""
    pairs = cosines.shape[-1]
    x = x.double()
    first = slice(0, 2 * pairs, 2) if interleaved else slice(0, pairs)
    second = slice(1, 2 * pairs, 2) if interleaved else slice(pairs, 2 * pairs)
    a, b = x[..., first], x[..., second]
    result, magnitude = x.clone(), x.abs()
    result[..., first], result[..., second] = a * cosines - b * sines, b * cosines + a * sines
    largest = torch.maximum(cosines.abs(), sines.abs()).clamp(min=1.0)
    magnitude[..., first] = magnitude[..., second] = (a.abs() + b.abs()) * largest
    return result, magnitude


def check(plan: Any, got: torch.Tensor, x: torch.Tensor, angles: Any, interleaved: bool, what: str) -> None:
    exact, magnitude = turned(x, *angles, interleaved)
    found = complaint(got, Reference(exact, magnitude, magnitude * 2.0**-51), plan.precision_guarantee, what)
    assert found is None, found


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_any_strides_and_positions(
    device: str, operand: str, interleaved: bool, layout: str, seed: int
) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    for dim, rotary, heads, heads_k, how in (
        (64, 64, 3, 1, "rows"),
        (80, 32, 2, 0, "shared"),
        (34, 34, 1, 2, "each"),
        (24, 10, 5, 5, "offsets"),
        (128, 128, 9, 2, "tables"),
    ):
        batch, rows = 2, 4
        integer = chance.choice([torch.int32, torch.int64])
        arguments: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        positions = torch.arange(rows, device=device).expand(batch, rows)
        if how == "shared":
            positions = torch.randint(0, LAST, (rows,), generator=source, device=device).expand(batch, rows)
            arguments["positions"] = positions[0].to(integer)
        elif how == "each":
            positions = torch.randint(0, LAST, (batch, rows), generator=source, device=device)
            arguments["positions"] = Home((batch, rows), integer, device, chance, free_rows=True).set(
                positions
            )
            fields["batch_positions"] = True
        elif how in ("offsets", "tables"):
            limit = LAST - rows if how == "offsets" else 40
            offsets = torch.randint(0, limit, (batch,), generator=source, device=device)
            positions = offsets[:, None] + torch.arange(rows, device=device)
            arguments["offsets"] = offsets.to(integer)
        fields |= {name: str(value.dtype)[6:] for name, value in arguments.items()}
        angles = tables(positions, frequencies(rotary, 10000.0))
        if how == "tables":
            every = tables(torch.arange(44, device=device), frequencies(rotary, 10000.0))
            for name, table in zip(("cos", "sin"), every, strict=True):
                arguments[name] = Home((44, rotary // 2), torch.float32, device, chance).set(table)
            fields["table_rows"] = 44
            angles = tuple(arguments[name].double()[positions] for name in ("cos", "sin"))
        descriptor = cutplan.RopeDescriptor(
            batch=batch, heads=heads, heads_k=heads_k, seq=rows, dim=dim, rotary_dim=rotary, dtype=operand,
            layout=layout, interleaved=interleaved, **fields,
        )  # fmt: skip
        over_heads = tuple(a[:, None] if layout == "bhsd" else a[:, :, None] for a in angles)
        for strided in (None, chance):
            homes = {}
            for name, count in (("x", heads), ("out", heads), ("k", heads_k), ("k_out", heads_k)):
                shape = (batch, count, rows, dim) if layout == "bhsd" else (batch, rows, count, dim)
                if count:
                    homes[name] = Home(shape, TORCH[operand], device, strided)
                    homes[name].set(normal(shape, TORCH[operand], source))
            views = {name: home.view for name, home in homes.items()}
            plan = cutplan.RopePlan.select(descriptor, device)
            plan.run(views["x"], views.get("k"), views["out"], views.get("k_out"), **arguments)
            check(plan, views["out"], views["x"], over_heads, interleaved, f"{how} out {dim}")
            if heads_k:
                check(plan, views["k_out"], views["k"], over_heads, interleaved, f"{how} k_out {dim}")
            assert all(home.rest_is_poison() for home in homes.values())
            back = cutplan.RopeBackwardPlan.select(cutplan.RopeBackwardDescriptor(descriptor), device)
            grad = views["x"].clone()
            before = grad.clone()
            dk = None if not heads_k else views["k"].clone()
            back.run(grad, dk, grad, dk, **arguments)  # in place
            backwards = (over_heads[0], -over_heads[1])
            check(back, grad, before, backwards, interleaved, f"{how} dx {dim}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_packed_sequences(device: str, layout: str, seed: int) -> None:
    source = generator(device, seed)
    lengths = [3, 0, 5, 1]
    bounds = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=device)
    offsets = torch.tensor([7, 1000, 0, 500000], device=device)
    positions = torch.cat(
        [int(o) + torch.arange(n, device=device) for o, n in zip(offsets.tolist(), lengths, strict=True)]
    )
    shape = (2, 9, 48) if layout == "bhsd" else (9, 2, 48)
    q, k = (normal(shape, torch.float32, source) for _ in range(2))
    angles = tables(positions, frequencies(48, 10000.0))
    over_heads = tuple(a if layout == "bhsd" else a[:, None] for a in angles)
    how: dict[str, Any] = {"layout": layout, "cu_seqlens": bounds, "offsets": offsets}
    plan = cutplan.RopePlan.select(
        cutplan.RopeDescriptor(
            batch=4,
            heads=2,
            heads_k=2,
            seq=9,
            dim=48,
            dtype="float32",
            varlen=True,
            layout=layout,
            offsets="int64",
        ),
        device,
    )
    for x, y in zip((q, k), cutplan.rope((q, k), **how), strict=True):
        check(plan, y, x, over_heads, False, "packed")
    alone = cutplan.rope(q, layout=layout, positions=positions)
    assert torch.equal(alone, cutplan.rope(q, **how))


SCALINGS = [
    cutplan.RopeScaling("linear", factor=4),
    cutplan.RopeScaling("ntk", factor=3.5),
    cutplan.RopeScaling("yarn", factor=16, original_max_position=4096),
    cutplan.RopeScaling(
        "yarn", factor=4, original_max_position=512, beta_fast=20, beta_slow=2, attention_factor=1.25
    ),
    cutplan.RopeScaling("llama3", factor=8, original_max_position=8192),
    cutplan.RopeScaling(
        "llama3", factor=32, original_max_position=1024, low_freq_factor=2, high_freq_factor=3
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.kind)
@pytest.mark.parametrize("base", [10000.0, 500000.0])
def test_scalings(device: str, scaling: Any, base: float, seed: int) -> None:
    source = generator(device, seed)
    positions = torch.randint(0, LAST, (6,), generator=source, device=device)
    x = normal((1, 1, 6, 64), torch.float32, source)
    factor = 1.0
    if scaling.kind == "yarn":
        factor = scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1
    angles = tables(positions, frequencies(64, base, scaling), factor)
    plan = cutplan.RopePlan.select(
        cutplan.RopeDescriptor(
            heads=1, seq=6, dim=64, dtype="float32", base=base, scaling=scaling, positions="int64"
        ),
        device,
    )
    got = cutplan.rope(x, base=base, scaling=scaling, positions=positions)
    check(plan, got, x, angles, False, scaling.kind)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", ["float32", "float64"])
def test_far_positions(device: str, operand: str, seed: int) -> None:
    """Angles are as exact at position 2^20 as at 1, and negative positions turn the other way."""
    source = generator(device, seed)
    positions = torch.tensor([0, 1, -1, 2**16 + 1, 2**20, -(2**20) + 3], device=device)
    x = normal((1, 2, 6, 128), TORCH[operand], source)
    plan = cutplan.RopePlan.select(
        cutplan.RopeDescriptor(heads=2, seq=6, dim=128, dtype=operand, positions="int64"), device
    )
    got = cutplan.rope(x, positions=positions)
    check(plan, got, x, tables(positions, frequencies(128, 10000.0)), False, operand)
    assert torch.equal(got[:, :, 0], x[:, :, 0])


@pytest.mark.cuda
def test_positions_beyond_the_tables_make_nan() -> None:
    x, table = torch.ones(1, 2, 3, 8, device="cuda"), torch.ones(5, 4, device="cuda")
    got = cutplan.rope(x, cos=table, sin=table, positions=torch.tensor([4, 5, -1], device="cuda"))
    assert not bool(got[:, :, 0].isnan().any()) and bool(got[:, :, 1:].isnan().all())


def test_nothing_to_turn() -> None:
    for shape in ((0, 2, 3, 8), (1, 0, 3, 8), (1, 2, 0, 8), (1, 2, 3, 0)):
        assert cutplan.rope(torch.ones(shape)).shape == shape


def test_refusals() -> None:
    x, table = torch.ones(2, 3, 4, 8), torch.ones(4, 4)
    with pytest.raises(
        cutplan.InvalidProblem, match="rotary_dim: an even number up to dim, 8, required, got 5"
    ):
        cutplan.rope(x, rotary_dim=5)
    with pytest.raises(cutplan.InvalidProblem, match="rotary_dim: .* got 10"):
        cutplan.rope(x, rotary_dim=10)
    with pytest.raises(cutplan.InvalidProblem, match="operand cos: positions from 0 to 2.* required, got 3"):
        cutplan.rope(x, cos=table[:3], sin=table[:3])
    with pytest.raises(cutplan.MissingOperand, match="operand sin: not given"):
        cutplan.rope(x, cos=table)
    with pytest.raises(cutplan.ShapeMismatch, match=r"operand sin: shape \[4, 4\]"):
        cutplan.rope(x, cos=table, sin=table[:, :2])
    with pytest.raises(cutplan.DTypeMismatch, match="operand cos: dtype float32 required, got float64"):
        cutplan.rope(x, cos=table.double(), sin=table.double())
    with pytest.raises(cutplan.InvalidProblem, match="scaling: none required with tables"):
        cutplan.rope(x, cos=table, sin=table, scaling=cutplan.RopeScaling("linear", factor=2))
    with pytest.raises(cutplan.InvalidProblem, match="offsets: none required with positions"):
        cutplan.rope(x, positions=torch.arange(4), offsets=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(
        cutplan.Unsupported, match="operand positions: dtype int32 or int64 required, got float32"
    ):
        cutplan.rope(x, positions=torch.zeros(4))
    with pytest.raises(
        cutplan.InvalidProblem, match="operand cu_seqlens: entries .* required, got 3 at index 1"
    ):
        cutplan.rope(x[0], cu_seqlens=torch.tensor([0, 3], dtype=torch.int32))
    with pytest.raises(cutplan.Unsupported, match="rotary_dim: at most 512 required without tables, got 600"):
        cutplan.rope(torch.ones(1, 1, 1, 600))
    with pytest.raises(cutplan.InvalidProblem, match="original_max_position: at least 1 required by 'yarn'"):
        cutplan.rope(x, scaling=cutplan.RopeScaling("yarn", factor=2))
