"""Data and scales against float64, to the bit where they are defined to it, and within every plan's bound."""

from __future__ import annotations

import random

import pytest
import torch

import cutplan
from tests.oracle import Reference, complaint
from tests.quantize.problems import DEVICES, FLOATS, KINDS, TORCH, Case, cases, generator


def kinds() -> list[object]:
    return [pytest.param(kind, id=f"{kind[0]}-{'symmetric' if kind[1] else 'zero'}") for kind in KINDS]


def scales_of(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    scale = case.scale.view.cpu()
    zero = torch.zeros_like(scale, dtype=torch.int32) if case.zero is None else case.zero.view.cpu()
    return scale, zero


def check_round_trip(case: Case, plan: cutplan.QuantizePlan) -> None:
    """Data times scale is within the plan's bound of x."""
    scale, zero = scales_of(case)
    back = (case.decoded() - case.spread(zero).double()) * case.spread(scale).double()
    expected = Reference(case.exact_x, case.spread(scale).double(), torch.tensor(0.0, dtype=torch.float64))
    what = complaint(back, expected, plan.precision_guarantee, case.name)
    assert what is None, what


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("strided", [False, True])
def test_scales_that_are_found(
    device: str, operand: str, kind: tuple[str, bool], strided: bool, seed: int
) -> None:
    chance, source = random.Random(seed), generator(device, seed)
    for case in cases(device, operand, kind, chance if strided else None, source, amax=chance.random() < 0.5):
        plan = case.run()
        scale, zero = scales_of(case)
        expected_scale, expected_zero, expected_amax = case.expected_scale()
        assert torch.equal(scale, expected_scale), case.name
        assert torch.equal(zero, expected_zero), case.name
        if case.amax is not None:
            assert torch.equal(case.amax.view.cpu(), expected_amax), case.name
        assert torch.equal(case.decoded(), case.expected_data(case.exact_x, scale, zero)), case.name
        assert case.rest_is_poison(), case.name
        check_round_trip(case, plan)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("strided", [False, True])
def test_scales_that_are_given(
    device: str, operand: str, kind: tuple[str, bool], strided: bool, seed: int
) -> None:
    """Data is x / scale rounded, but where the quotient is within 2^-24 of itself (fp8: 2^-22) of a tie."""
    chance, source = random.Random(seed), generator(device, seed)
    error = 2.0**-22 if kind[0].startswith("float8") else 2.0**-24 * (1 + 2.0**-20)
    for case in cases(
        device, operand, kind, chance if strided else None, source, static=True, amax=chance.random() < 0.5
    ):
        before = case.scale.bytes.clone()
        case.run()
        assert torch.equal(case.scale.bytes, before)
        scale, zero = scales_of(case)
        got = case.decoded()
        assert torch.equal(got, case.expected_data(case.exact_x, scale, zero)), case.name
        quotient = case.exact_x / case.spread(scale).double()
        least, most = (case.rounded(quotient + sign * error * quotient.abs(), zero) for sign in (-1, 1))
        assert bool(((least <= got) & (got <= most)).all()), case.name
        if case.amax is not None:
            assert torch.equal(case.amax.view.cpu(), case.expected_scale()[2]), case.name
        assert case.rest_is_poison(), case.name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
def test_long_rows(device: str, operand: str, kind: tuple[str, bool], seed: int) -> None:
    """Rows that a block of threads keeps, those that it reads twice, and their neighbours."""
    source = generator(device, seed)
    columns = (8190, 16384, 16392, 32770, 70000)
    for case in cases(
        device, operand, kind, None, source, amax=True, shapes=[(1, 2, n) for n in columns],
        granularities=[("row", 0, -1), ("tensor", 0, -1)],
    ):  # fmt: skip
        plan = case.run()
        scale, zero = scales_of(case)
        assert torch.equal(scale, case.expected_scale()[0]), case.name
        assert torch.equal(case.decoded(), case.expected_data(case.exact_x, scale, zero)), case.name
        check_round_trip(case, plan)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("static", [False, True])
def test_no_numbers(device: str, operand: str, kind: tuple[str, bool], static: bool, seed: int) -> None:
    """NaN, infinities, zeros, the smallest and the largest: what the page says becomes of them."""
    chance, source = random.Random(seed), generator(device, seed)
    finfo = torch.finfo(TORCH[operand])
    odd = [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, finfo.max, finfo.min, finfo.smallest_normal / 4]
    for case in cases(
        device, operand, kind, chance, source, static=static, amax=True, shapes=[(2, 9, 64), (1, 20, 34)]
    ):
        x = case.x.view
        for _ in range(x.numel() // 20):
            x[tuple(chance.randrange(n) for n in x.shape)] = chance.choice(odd)
        x[0, 1] = 0.0
        x[0, 2] = torch.nan
        case.run()
        scale, zero = scales_of(case)
        expected_scale, expected_zero, expected_amax = case.expected_scale()
        assert case.amax is not None and torch.equal(case.amax.view.cpu(), expected_amax), case.name
        if not static:
            assert torch.equal(scale, expected_scale) and torch.equal(zero, expected_zero), case.name
            assert bool(scale.isfinite().all())
        got, expected = case.decoded(), case.expected_data(case.exact_x, scale, zero)
        assert torch.equal(got.isnan(), expected.isnan()), case.name
        assert torch.equal(got.nan_to_num(), expected.nan_to_num()), case.name
        if kind[0].startswith("float8"):
            assert torch.equal(got.isnan(), case.exact_x.isnan()), case.name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operand", FLOATS)
@pytest.mark.parametrize("kind", kinds())
def test_given_scales_that_are_odd(device: str, operand: str, kind: tuple[str, bool], seed: int) -> None:
    """0, negative, infinite, NaN and tiny scales, and zeros beyond the type: never out of range."""
    chance, source = random.Random(seed), generator(device, seed)
    odd = [0.0, -0.5, torch.inf, torch.nan, 1e-40, 1e-38, 3e38]
    for case in cases(device, operand, kind, None, source, static=True, shapes=[(2, 9, 64)]):
        scales = case.scale.view
        for index in range(scales.numel()):
            if chance.random() < 0.7:
                scales.view(-1)[index] = chance.choice(odd)
        if case.zero is not None:
            case.zero.view.random_(-1000, 1000, generator=source)
        case.run()
        scale, zero = scales_of(case)
        got, expected = case.decoded(), case.expected_data(case.exact_x, scale, zero)
        assert torch.equal(got.isnan(), expected.isnan()), case.name
        assert torch.equal(got.nan_to_num(), expected.nan_to_num()), case.name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("shape", [(0, 3, 8), (2, 0, 8), (2, 3, 0), (1, 0, 0)])
def test_no_elements(device: str, kind: tuple[str, bool], shape: tuple[int, int, int], seed: int) -> None:
    """A scale without elements is 1, and its amax 0."""
    for case in cases(device, "float32", kind, None, generator(device, seed), amax=True, shapes=[shape]):
        case.run()
        assert torch.equal(case.scale.view.cpu(), torch.ones(case.scale.view.shape)), case.name
        assert case.amax is not None
        assert torch.equal(case.amax.view.cpu(), torch.zeros(case.amax.view.shape)), case.name
        if case.zero is not None:
            assert torch.equal(case.zero.view.cpu(), case.expected_scale()[1]), case.name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", kinds())
def test_the_same_bits_again(device: str, kind: tuple[str, bool], seed: int) -> None:
    source = generator(device, seed)
    for case in cases(device, "bfloat16", kind, None, source, amax=True, shapes=[(2, 300, 520)]):
        case.run()
        first = [home.bytes.clone() for home in (case.data, case.scale, case.amax) if home is not None]
        for _ in range(3):
            case.run()
            again = [home.bytes for home in (case.data, case.scale, case.amax) if home is not None]
            assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True)), case.name


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads: int, seed: int) -> None:
    source = generator("cpu", seed)
    preference = cutplan.PlanPreference(sm_count=threads)
    for kind in KINDS:
        for case in cases("cpu", "float16", kind, None, source, shapes=[(2, 200, 300)]):
            case.run()
            before = [home.bytes.clone() for home in (case.data, case.scale)]
            plan = cutplan.QuantizePlan.select(case.descriptor, "cpu", preference)
            plan.run(case.x.view, case.data.view, case.scale.view, zero=case.zero and case.zero.view)
            assert torch.equal(case.data.bytes, before[0]) and torch.equal(case.scale.bytes, before[1])
