"""The error bound that plans promise: its formula, its figures, and that it is narrow enough to matter."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.fmha.problems import Case
from tests.fmha.problems import Problem as AttentionProblem
from tests.gemm.problems import SERVED, TORCH, Options, Problem, Shape, generator, output_types
from tests.oracle import Reference, complaint, error_bound


def plan_for(
    operand: str, device: str = "cpu", d: str | None = None, k: int = 1000, activation: str = "none"
) -> cutplan.GemmPlan:
    descriptor = cutplan.GemmDescriptor(
        m=64, n=64, k=k, a=operand, d=d, epilogue=cutplan.Epilogue(activation=activation)
    )
    return cutplan.GemmPlan.select(descriptor, device)


@pytest.mark.parametrize("device, operand", SERVED)
def test_the_oracle_uses_the_formula(device: str, operand: str) -> None:
    """tests/oracle.py evaluates the bound for whole tensors; the plan's own method must agree with it."""
    for d in output_types(operand):
        for activation in ("none", "gelu_tanh", "silu"):
            guarantee = plan_for(operand, device, d, activation=activation).precision_guarantee
            largest = guarantee.largest
            values = [
                0.0,
                1e-40,
                1e-3,
                1.0,
                777.0,
                largest / 2,
                largest * 0.9999,
                largest,
                min(largest * 4, 1.7e308),
            ]
            for exact in values:
                for magnitude in (abs(exact), abs(exact) * 1.5 + 1e-5):
                    if not math.isfinite(magnitude):
                        continue
                    arguments = torch.tensor([magnitude, -exact], dtype=torch.float64)
                    ours = float(error_bound(guarantee, *arguments))
                    own = guarantee.error_bound(magnitude, -exact)
                    assert ours == own or math.isclose(ours, own, rel_tol=1e-14), (
                        d,
                        activation,
                        magnitude,
                        exact,
                    )


@pytest.mark.parametrize("device, operand", SERVED)
def test_figures(device: str, operand: str) -> None:
    for d in output_types(operand):
        guarantee = plan_for(operand, device, d).precision_guarantee
        info = torch.finfo(TORCH[d])
        assert str(guarantee.math) == operand
        assert str(guarantee.accumulator) == ("float64" if operand == "float64" else "float32")
        assert guarantee.rounding == info.eps / 2
        assert 0.9 * info.max <= guarantee.largest <= info.max
        assert guarantee.lipschitz == 1 and guarantee.evaluation == 0
        assert guarantee.deterministic and guarantee.bit_stable_on_same_hardware
        assert guarantee.batch_invariant or device == "cuda"
        unit = 2.0**-53 if operand == "float64" else 2.0**-24
        # fewer than one rounding cannot be promised of a sum, and promising over 4 k would help nobody
        assert unit <= guarantee.accumulation <= (4 * 1000 + 50) * unit
    for activation, slope in (("relu", 1.0), ("gelu_erf", 1.1289), ("gelu_tanh", 1.1289), ("silu", 1.0998)):
        guarantee = plan_for(operand, device, activation=activation).precision_guarantee
        assert slope <= guarantee.lipschitz <= 1.2
        assert (guarantee.evaluation > 0) == (activation != "relu")


@pytest.mark.parametrize("device, operand", SERVED)
def test_the_bound_grows_with_k(device: str, operand: str) -> None:
    bounds = [
        plan_for(operand, device, k=k).precision_guarantee.accumulation
        for k in (0, 1, 16, 255, 256, 1024, 65536)
    ]
    assert bounds == sorted(bounds) and bounds[0] < bounds[-1]


def best_conditioned(expected: Reference, guarantee: Any) -> int:
    """The element whose bound is smallest beside its value: where terms cancel least."""
    bound = error_bound(guarantee, expected.magnitude, expected.exact, expected.scores)
    return int((expected.exact.abs() / bound).argmax())


@pytest.mark.parametrize("device, operand", SERVED)
def test_an_error_of_a_few_units_is_seen(device: str, operand: str, seed: int) -> None:
    """The check can fail: one element off by a few last-place units is beyond a short sum's bound."""
    problem = Problem(Shape(33, 17, 8), operand, "rcr", device, generator(device, seed))
    options = Options(operand)
    plan = problem.select(options)
    assert problem.complaint(plan, options) is None
    d, expected = problem.run(plan, options), problem.expected(options)
    assert complaint(d, expected, plan.precision_guarantee) is None
    i, j = divmod(best_conditioned(expected, plan.precision_guarantee), 17)
    # Eight products of float32 in three of TF32 each are promised within 90 half units.
    off = 64 if operand in ("float32", "float64") else 4
    d[i, j] *= 1 + off * torch.finfo(TORCH[operand]).eps
    assert complaint(d, expected, plan.precision_guarantee) is not None


ATTENTION = [
    *(("cpu", operand) for operand in TORCH),
    *(pytest.param("cuda", operand, marks=pytest.mark.cuda) for operand in TORCH),
]


def attention_plans(operand: str, device: str, **more: Any) -> tuple[Any, Any]:
    """Forward and backward."""
    fields = {"heads": 4, "seq_q": 300, "seq_k": 300, "dim": 64, "dtype": operand, "lse": True, **more}
    forward = cutplan.FmhaDescriptor(**fields)
    return (
        cutplan.FmhaPlan.select(forward, device),
        cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward), device),
    )


@pytest.mark.parametrize("device, operand", ATTENTION)
def test_the_oracle_uses_the_formula_of_attention(device: str, operand: str) -> None:
    """The third argument, the size of the scores, in the plan's method and in tests/oracle.py."""
    for plan in attention_plans(operand, device):
        guarantee = plan.precision_guarantee
        for scores in (0.0, 1e-3, 1.0, 50.0, 1e4):
            for magnitude, exact in ((0.0, 0.0), (1.0, -0.5), (1e-30, 1e-30), (1000.0, 999.0)):
                arguments = torch.tensor([magnitude, exact, scores], dtype=torch.float64)
                ours = float(error_bound(guarantee, *arguments))
                own = guarantee.error_bound(magnitude, exact, scores)
                assert ours == own or math.isclose(ours, own, rel_tol=1e-14), (scores, magnitude, exact)
        for magnitudes in (1.0, np.ones(2)):
            with pytest.raises(TypeError, match="score_magnitude: required of attention"):
                guarantee.error_bound(magnitudes, 1.0)
        for below_0 in ((-1.0, 1.0, 1.0), (1.0, 1.0, -1.0), (np.array([1.0, -1.0]), 1.0, 1.0)):
            with pytest.raises(ValueError, match=r"^(score_)?magnitude: at least 0 required, got -1\.0"):
                guarantee.error_bound(*below_0)
        arrays = [np.array([[1.0, 2.0]]), np.array([[0.5, 2.0]]), np.array([[3.0, 70.0]])]
        of_arrays = guarantee.error_bound(*arrays)
        assert of_arrays.shape == (1, 2)
        assert of_arrays.tolist()[0] == [
            guarantee.error_bound(*(float(a[0, i]) for a in arrays)) for i in (0, 1)
        ]


@pytest.mark.parametrize("device, operand", ATTENTION)
def test_figures_of_attention(device: str, operand: str) -> None:
    """What is stored is rounded once; products and weights lose what their formats do, a few times over."""
    info = torch.finfo(TORCH[operand])
    # of 300 keys and 64 dimensions; float64 gradients carry the rounding of LSE, which is float32
    widest = {
        "float16": (0.02, 0.02),
        "bfloat16": (0.1, 0.1),
        "float32": (2e-3, 2e-3),
        "float64": (1e-11, 1e-5),
    }
    for plan, limit in zip(attention_plans(operand, device), widest[operand], strict=True):
        guarantee = plan.precision_guarantee
        assert str(guarantee.accumulator) == ("float64" if operand == "float64" else "float32")
        assert guarantee.rounding == info.eps / 2 and guarantee.lipschitz == 1
        assert 0.9 * info.max <= guarantee.largest <= info.max
        assert guarantee.scores > 0 and guarantee.accumulation > 0
        assert guarantee.error_bound(1.0, 1.0, 1.0) <= limit


@pytest.mark.parametrize("device, operand", ATTENTION)
def test_the_bound_of_attention_grows_with_what_is_summed(device: str, operand: str) -> None:
    for which in (0, 1):
        for field, values in (("seq_k", (1, 16, 256, 4096)), ("dim", (8, 64, 256))):
            bounds = [
                attention_plans(operand, device, **{field: value})[which].precision_guarantee.error_bound(
                    1, 1, 1
                )
                for value in values
            ]
            assert bounds == sorted(bounds) and bounds[0] < bounds[-1], (field, bounds)


@pytest.mark.parametrize("device, operand", ATTENTION)
def test_a_wrong_value_is_seen(device: str, operand: str, seed: int) -> None:
    """The checks of attention can fail: columns shifted, a value off by a few last places."""
    problem = AttentionProblem(Case(33, 40, 16, dtype=operand, batch=1), device, generator(device, seed))
    for plan in (problem.select(), problem.select_backward()):
        assert problem.complaint(plan) is None
        for name, value in problem.run(plan).items():
            wrong = value.clone()
            # float32 passes through TF32 products, whose bound for dk is a few thousandths of the value
            off = max(2.0**-6, 64 * torch.finfo(value.dtype).eps)
            element = best_conditioned(problem.expected[name], plan.precision_guarantee)
            wrong.view(-1)[element] *= 1 + off * (1 if name != "lse" else 4)
            assert problem.wrong(plan, name, wrong) is not None, name
            assert problem.wrong(plan, name, value.roll(1, -1)) is not None, name


@pytest.mark.parametrize("device, operand", ATTENTION)
def test_a_key_left_out_is_seen(device: str, operand: str, seed: int) -> None:
    """The last key is the first query itself, so that it has weight."""
    case = Case(33, 40, 16, dtype=operand, batch=1)
    problem = AttentionProblem(case, device, generator(device, seed))
    problem.k[:, :, -1].copy_(problem.q[:, :, 0])
    plan = problem.select()
    assert problem.complaint(plan) is None
    shorter = AttentionProblem(replace(case, seq_k=39), device, generator(device, seed))
    for name in ("k", "v"):
        getattr(shorter, name).copy_(getattr(problem, name)[:, :, :39])
    shorter.q.copy_(problem.q)
    o = shorter.run(shorter.select())["o"]
    assert problem.wrong(plan, "o", o) is not None


def test_overflow_has_no_bound() -> None:
    guarantee = plan_for("float16").precision_guarantee
    assert guarantee.error_bound(1e6, 1e6) == math.inf
    assert guarantee.error_bound(6e4, 6e4) < 100


def test_overflow_and_special_values(device: str) -> None:
    """Beyond the largest float16 comes infinity, of either sign; NaN stays NaN through every activation."""
    ones = torch.ones(8, 16, dtype=torch.float16, device=device)
    big = torch.full((16, 24), 30000.0, dtype=torch.float16, device=device)
    assert torch.equal(
        cutplan.matmul(ones, big), torch.full((8, 24), torch.inf, dtype=torch.float16, device=device)
    )
    assert torch.equal(
        cutplan.matmul(ones, -big), torch.full((8, 24), -torch.inf, dtype=torch.float16, device=device)
    )
    assert torch.equal(
        cutplan.matmul(ones, big, out_dtype="float32"), torch.full((8, 24), 480000.0, device=device)
    )
    for activation in ("none", "relu", "gelu_erf", "gelu_tanh", "silu"):
        poisoned = ones.clone()
        poisoned[3, 5] = torch.nan
        d = cutplan.matmul(poisoned, ones.T.contiguous(), activation=activation)
        assert d[3].isnan().all(), activation
        assert not d[[0, 1, 2, 4, 5, 6, 7]].isnan().any(), activation


def test_subnormals(device: str) -> None:
    """float16 results below 2^-14 keep their bits."""
    tiny = torch.arange(1, 65, dtype=torch.float16, device=device).view(64, 1) * 2.0**-24
    one = torch.ones(1, 8, dtype=torch.float16, device=device)
    assert torch.equal(cutplan.matmul(tiny, one), tiny.expand(64, 8))
