"""Property tests: extents, groups, strides and options that nobody thought of."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.quantize.problems import DEVICES, FLOATS, KINDS, cases, generator
from tests.quantize.test_quantize import check_round_trip, scales_of

extents = st.one_of(st.integers(0, 20), st.integers(21, 300), st.sampled_from([64, 128, 256]))
sizes = st.one_of(st.integers(1, 150), st.sampled_from([16, 32, 64, 128]))
granularities = st.one_of(
    st.sampled_from([("tensor", 0, -1), ("row", 0, -1), ("column", 0, -1), ("block", 0, -1)]),
    st.tuples(st.just("group"), sizes, st.sampled_from([-1, -2])),
    st.tuples(st.just("block"), sizes, st.just(-1)),
)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    operand=st.sampled_from(FLOATS),
    kind=st.sampled_from(KINDS),
    shape=st.tuples(st.integers(0, 3), extents, extents),
    granularity=granularities,
    amax=st.booleans(),
    static=st.booleans(),
    seed=st.integers(0, 2**32),
    strided=st.booleans(),
)
def test_any_problem(
    device: str,
    operand: str,
    kind: tuple[str, bool],
    shape: tuple[int, int, int],
    granularity: tuple[str, int, int],
    amax: bool,
    static: bool,
    seed: int,
    strided: bool,
) -> None:
    batch, rows, columns = shape
    columns -= columns % 2 if kind[0] == "int4" else 0
    chance = random.Random(seed) if strided else None
    for case in cases(
        device, operand, kind, chance, generator(device, seed), amax=amax, static=static,
        shapes=[(batch, rows, columns)], granularities=[granularity],
    ):  # fmt: skip
        plan = case.run()
        scale, zero = scales_of(case)
        expected_scale, expected_zero, expected_amax = case.expected_scale()
        if not static:
            assert torch.equal(scale, expected_scale) and torch.equal(zero, expected_zero)
            check_round_trip(case, plan)
        if case.amax is not None:
            assert torch.equal(case.amax.view.cpu(), expected_amax)
        assert torch.equal(case.decoded(), case.expected_data(case.exact_x, scale, zero))
        assert case.rest_is_poison()
