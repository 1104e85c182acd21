"""Infinities, NaN and the largest numbers in every kernel: what IEEE arithmetic makes of them."""

from __future__ import annotations

import pytest
import torch

import cutplan
from tests.gemm.operands import format_of
from tests.gemm.problems import (
    SERVED,
    TORCH,
    TYPES,
    Options,
    Problem,
    Shape,
    d_types,
    generator,
    random_values,
    report,
)
from tests.gemm.test_kernels import Gates, kernels
from tests.oracle import error_bound

ACTIVATIONS = ("relu", "gelu_erf", "gelu_tanh", "silu")


def largest(sku: cutplan.KernelSku) -> list[float]:
    """Large numbers of the operands' type. TMA rounds to TF32 in a way of its own, so that the very largest
    may become infinite there."""
    most = torch.finfo(TYPES[str(sku.a)]).max
    by_tma = str(sku.arch) == "sm90" and str(sku.a) == "float32"
    return [0.88 * most] if by_tma else [0.88 * most, 0.9999 * most, most]


def pick(values: list[float], count: int, source: torch.Generator) -> torch.Tensor:
    index = torch.randint(len(values), (count,), generator=source, device=source.device)
    return torch.tensor(values, dtype=torch.float64, device=source.device)[index]


def wrong(d: torch.Tensor, problem: Problem, plan: cutplan.GemmPlan) -> str | None:
    """Elements that are not NaN, or infinite, or within the bound, where the exact result is."""
    exact, magnitude = problem.product.exact, problem.product.magnitude
    overflows = exact.abs() > 1.001 * torch.finfo(d.dtype).max
    bound = error_bound(plan.precision_guarantee, magnitude, exact)
    right = torch.where(
        exact.isnan(), d.isnan(), torch.where(overflows, d.double() == exact * torch.inf, d.isfinite())
    )
    right |= bound.isinf() & ~exact.isnan() & ~overflows & ~d.isnan()
    finite = exact.isfinite() & d.isfinite()
    right &= ~finite | ((d.double() - exact).abs() <= bound)
    if bool(right.all()):
        return None
    i, j = (int(x) for x in (~right).nonzero()[0])
    return f"{int((~right).sum())} wrong; d[{i}, {j}] = {float(d[i, j])}, exact {float(exact[i, j])}"


@kernels
def test_special_factors(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """Products of any two, alone and within sums of ordinary ones: an infinite product meets neither the
    lost bits of a finite factor nor those of an infinite one."""
    if None not in gates or operand == "int8":  # every code of which is an ordinary number
        return
    source = generator(device, seed)
    tm, tn, tk = sku.tile
    special = [torch.inf, -torch.inf, torch.nan, *(s * x for x in largest(sku) for s in (1, -1))]
    plain = [0.0, -0.0, 1.0, -2.0, 1 / 3, -1e-3, 4097.3]
    if format_of(operand) is not None:
        # Some kernels sum products of codes, and multiply by scales what has overflowed by then.
        special = special[:3]
    options = Options(d_types(operand)[0])
    failures = []
    for m, n, k, where in (
        (tm + 3, tn + 5, 1, "ab"),
        (tm + 3, tn + 5, 2 * tk + 1, "a"),
        (tm + 3, tn + 5, 2 * tk + 1, "b"),
        (5, 7, 4 * tk, "ab"),
    ):
        problem = Problem(Shape(m, n, k), operand, sku.layout, device, source, sku.alignment)
        factors = [("a", problem.a, m)]
        if problem.format is None:
            factors.append(("b", problem.b.T, n))
        for name, x, lines in factors:
            if k == 1:
                x.copy_(pick(special + plain, lines, source)[:, None])
            elif name in where:  # one in each row, and no exact zero that it could meet beside it
                x.copy_(random_values(x.shape, False, source))
                x.copy_(torch.where(x == 0, 1.0, x.double()))
                at = torch.randint(k, (lines,), generator=source, device=device)
                # Two that overflow in another order than in float64 have no one right answer.
                kinds = special[:3] if where == "ab" else special
                x[torch.arange(lines, device=device), at] = pick(kinds, lines, source).to(x.dtype)
        plan = problem.select(options, kernel=sku.name, math="fast")
        what = wrong(problem.run(plan, options), problem, plan)
        if what is not None:
            failures.append(f"{sku.name} {problem.shape} {where}: {what}")
    report(failures)


@pytest.mark.parametrize("device, operand", SERVED)
def test_a_split_k_of_infinities(device: str, operand: str, seed: int) -> None:
    """The slice that holds one decides."""
    source = generator(device, seed)
    problem = Problem(Shape(16, 24, 8192), operand, "rcr", device, source, 16)
    problem.a[torch.arange(16), torch.arange(16) * 500] = torch.inf
    options = Options(operand)
    plan = problem.select(options)
    assert wrong(problem.run(plan, options), problem, plan) is None


@pytest.mark.cuda
@pytest.mark.parametrize("operand", TORCH)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_derivative_at_nan_is_nan(activation: str, operand: str, seed: int) -> None:
    problem = Problem(Shape(40, 24, 16), operand, "rcr", "cuda", generator("cuda", seed), 16)
    options = Options(operand, gradient=operand, activation=activation)
    aux = problem.extra("gradient", operand)
    assert aux is not None
    aux[::3] = torch.nan
    d = problem.run(problem.select(options), options)
    assert bool(d[::3].isnan().all()) and not bool(d[1::3].isnan().any())
