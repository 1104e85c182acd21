"""What only the host backend has: its threads, finite differences in float64, and NumPy."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.fmha.oracle import Operands, attention
from tests.fmha.problems import TORCH, Case, Problem, generator
from tests.oracle import error_bound


@pytest.mark.parametrize("operand", TORCH)
def test_threads_do_not_change_the_bits(operand: str, seed: int) -> None:
    case = Case(
        157,
        211,
        72,
        40,
        heads=6,
        heads_k=2,
        dtype=operand,
        causal="bottom_right",
        bias=operand,
        bias_dims="hqk",
        alibi="h",
        sink=True,
        dropout_p=0.2,
    )
    problem = Problem(case, "cpu", generator("cpu", seed))
    for pick in (problem.select, problem.select_backward):
        first = problem.run(pick(sm_count=1, deterministic=True))
        for threads in (2, 3, 7, 64):
            again = problem.run(pick(sm_count=threads, deterministic=True))
            for name, value in first.items():
                assert torch.equal(value, again[name]), (name, threads)


@pytest.mark.parametrize("operand", TORCH)
def test_layouts_do_not_change_the_bits(operand: str, seed: int) -> None:
    results: list[dict[str, torch.Tensor]] = []
    for layout, pad in (("bhsd", 0), ("bshd", 0), ("bhsd", 7), ("bshd", 24)):
        case = Case(90, 75, 33, heads=4, heads_k=2, dtype=operand, layout=layout, pad=pad, alignment=8)
        problem = Problem(case, "cpu", generator("cpu", seed))
        other = Problem(Case(90, 75, 33, heads=4, heads_k=2, dtype=operand), "cpu", generator("cpu", seed))
        for name in ("q", "k", "v", "grad"):
            problem.canonical(getattr(problem, name)).copy_(getattr(other, name))
        written = problem.run(problem.select()) | problem.run(problem.select_backward())
        results.append({n: t if n == "lse" else problem.canonical(t) for n, t in written.items()})
    for result in results[1:]:
        for name, value in result.items():
            assert torch.equal(value, results[0][name]), name


CASES: list[dict[str, Any]] = [
    {},
    {"causal": "top_left"},
    {"causal": "bottom_right", "heads_k": 1},
    {"window": (3, 4), "layout": "bshd"},
    {"softcap": 1.3},
    {"alibi": "h"},
    {"alibi": "bh", "softcap": 2.0},
    {"bias": "float64"},
    {"bias": "float64", "bias_dims": "hk", "mask": "bhqk"},
    {"sink": True, "scale": -0.4},
    {"dropout_p": 0.3, "seqused_k": (9, 4)},
    {"packed": ((5, 9), (8, 3), (2, 0)), "causal": "bottom_right", "sink": True},
    {
        "softcap": 3.0,
        "alibi": "h",
        "bias": "float64",
        "bias_dims": "bq",
        "sink": True,
        "dropout_p": 0.2,
        "heads_k": 1,
    },
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_gradients_against_finite_differences(options: dict[str, Any], seed: int) -> None:
    """Along random directions in every operand: central differences of the forward's own float64 results."""
    case = Case(13, 11, 6, 5, dtype="float64", **options)
    problem = Problem(case, "cpu", generator("cpu", seed))
    forward, backward = problem.select(), problem.select_backward()
    gradients = problem.run(backward)
    chance = np.random.default_rng(seed)

    def objective() -> float:
        return float((problem.run(forward)["o"] * problem.grad).sum())

    pairs = [("q", "dq"), ("k", "dk"), ("v", "dv")]
    pairs += [(name, f"d{name}") for name in ("bias", "alibi_slopes", "sink") if f"d{name}" in gradients]
    for name, of in pairs:
        operand = getattr(problem, name)
        held = operand.clone()
        direction = torch.from_numpy(chance.standard_normal(operand.shape)).to(operand.dtype)
        direction = direction.masked_fill(held.isnan(), 0.0)
        slopes = []
        # float32 operands move by exact powers of two, so that what is added is what was meant
        steps = (2.0**-9, 2.0**-10) if operand.dtype == torch.float32 else (2.0**-13, 2.0**-14)
        for step in steps:
            moved = []
            for sign in (1, -1):
                operand.copy_(held + sign * step * direction)
                moved.append((objective(), operand.double().clone()))
            operand.copy_(held)
            along = (moved[0][1] - moved[1][1]).nan_to_num()
            slopes.append((moved[0][0] - moved[1][0], along))
        computed = [(gradients[of].double() * along).sum() for _, along in slopes]
        differences = [float(rise - slope) for (rise, _), slope in zip(slopes, computed, strict=True)]
        # a central difference's error, of third order in what moved, falls eightfold from step to step;
        # a wrong gradient's only halves
        reference = problem.expected[of]
        canonical = problem.canonical(slopes[1][1]) if name in "qkv" else slopes[1][1]
        guarantee = backward.precision_guarantee
        bound = error_bound(guarantee, reference.magnitude, reference.exact, reference.scores)
        rounding = 1e-13 * float(
            (problem.expected["o"].magnitude * problem.canonical(problem.grad).abs()).sum()
        )
        allowed = float((bound * canonical.abs()).sum()) + rounding + abs(differences[0]) / 4
        assert abs(differences[1]) <= allowed, (name, differences, allowed)
        # not vacuous: a gradient off by a thousandth would be seen
        assert allowed < 1e-3 * float((gradients[of].double() * slopes[1][1]).abs().sum()), (name, allowed)


def test_many_threads_at_once(seed: int) -> None:
    """Plans shared by eight threads, operands of their own each."""
    case = Case(64, 80, 32, dtype="float32", causal="bottom_right", bias="float32")
    problems = [Problem(case, "cpu", generator("cpu", seed + i)) for i in range(8)]
    plans = (problems[0].select(), problems[0].select_backward())
    failures: list[object] = []

    def work(problem: Problem) -> None:
        try:
            failures.extend(problem.complaint(plan) for _ in range(3) for plan in plans)
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work, args=(problem,)) for problem in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [None] * 48


def test_numpy_in_numpy_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    for dtype in (np.float16, np.float32, np.float64):
        q, k, v, grad = (
            random.standard_normal((2, heads, rows, 24)).astype(dtype)
            for heads, rows in ((4, 30), (2, 40), (2, 40), (4, 30))
        )
        o, lse = cutplan.attention(q, k, v, causal="bottom_right", return_lse=True)
        assert isinstance(o, np.ndarray) and o.dtype == dtype and o.shape == q.shape
        assert isinstance(lse, np.ndarray) and lse.dtype == np.float32 and lse.shape == (2, 4, 30)
        gradients = cutplan.attention_backward(grad, q, k, v, o, lse, causal="bottom_right")
        operands = Operands(*(torch.from_numpy(x) for x in (q, k, v, grad)), causal="bottom_right")
        exact = attention(operands, computed_o=True)
        descriptor = cutplan.FmhaDescriptor(
            batch=2,
            heads=4,
            heads_k=2,
            seq_q=30,
            seq_k=40,
            dim=24,
            dtype=dtype,
            causal="bottom_right",
            lse=True,
        )
        plans = (
            cutplan.FmhaPlan.select(descriptor, "cpu"),
            cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(descriptor), "cpu"),
        )
        named = {"o": o, "dq": gradients.dq, "dk": gradients.dk, "dv": gradients.dv}
        for name, value in named.items():
            reference = exact[name]
            assert isinstance(value, np.ndarray) and value.dtype == dtype
            guarantee = plans[name != "o"].precision_guarantee
            bound = guarantee.error_bound(
                reference.magnitude.numpy(),
                reference.exact.numpy(),
                reference.scores.expand_as(reference.exact).numpy(),
            )
            assert (np.abs(value - reference.exact.numpy()) <= bound + reference.error.numpy()).all(), name
