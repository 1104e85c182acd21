"""What only the host backend has: its threads, and its own conversions to and from 16 bits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import cutplan
from tests.gemm.problems import LAYOUTS, TORCH, Options, Problem, Shape, generator

SIXTEEN_BITS = ("float16", "bfloat16")


def bits_of(x: torch.Tensor) -> torch.Tensor:
    return x.view({2: torch.int16, 4: torch.int32}[x.element_size()])


@pytest.mark.parametrize("operand", TORCH)
def test_threads_do_not_change_the_bits(operand: str, seed: int) -> None:
    problem = Problem(Shape(611, 1301, 613, batch=2), operand, "rrr", "cpu", generator("cpu", seed))
    options = Options(operand, bias=operand, activation="gelu_erf")
    first = problem.run(problem.select(options, sm_count=1), options)
    for threads in (2, 3, 7, 64):
        assert torch.equal(problem.run(problem.select(options, sm_count=threads), options), first), threads


@pytest.mark.parametrize("operand", TORCH)
def test_layouts_do_not_change_the_bits(operand: str, seed: int) -> None:
    """The host adds in one order whatever the operands' order in memory is."""
    options = Options(operand)
    results = []
    for layout in LAYOUTS:
        problem = Problem(Shape(200, 300, 700), operand, layout, "cpu", generator("cpu", seed))
        results.append(problem.run(problem.select(options), options))
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("operand", TORCH)
@pytest.mark.parametrize("pad", [0, 1, 2100])
def test_few_rows_and_few_columns_have_the_same_bits(operand: str, pad: int, seed: int) -> None:
    """A row of D is what it is in a product of many rows, and so is a column, in every order of A and B, with
    lines close together and pages apart."""
    source = generator("cpu", seed)
    options = Options(operand)
    for layout in LAYOUTS:
        problem = Problem(Shape(70, 90, 700, pad=pad), operand, layout, "cpu", source)
        a, b = problem.a, problem.b
        whole = problem.run(problem.select(options), options)
        for few in (*range(1, 27), 40, 63, 65):
            first = int(torch.randint(0, 71 - min(few, 70), (1,), generator=source))
            some = slice(first, first + few)
            rows, columns = cutplan.matmul(a[some], b), cutplan.matmul(a, b[:, some])
            assert torch.equal(rows, whole[some]), (layout, few, "rows")
            assert torch.equal(columns, whole[:, some]), (layout, few, "columns")
            assert torch.equal(cutplan.matmul(a[some], b[:, some]), whole[some, some]), (layout, few, "both")


@pytest.mark.parametrize("operand", TORCH)
def test_threads_do_not_change_the_bits_of_few_rows(operand: str, seed: int) -> None:
    options = Options(operand, bias=operand)
    for m, n in ((1, 5000), (3, 5000), (5000, 1), (5000, 17)):
        for layout in LAYOUTS:
            problem = Problem(Shape(m, n, 600, batch=3), operand, layout, "cpu", generator("cpu", seed))
            first = problem.run(problem.select(options, sm_count=1), options)
            assert problem.complaint(problem.select(options, sm_count=1), options) is None
            again = problem.run(problem.select(options, sm_count=7), options)
            assert torch.equal(again, first), (m, n, layout)


@pytest.mark.parametrize("operand", TORCH)
def test_a_nan_stays_in_its_row_and_column(operand: str, seed: int) -> None:
    for m, n in ((1, 50), (5, 90), (90, 5), (50, 70)):
        for layout in LAYOUTS:
            problem = Problem(Shape(m, n, 300), operand, layout, "cpu", generator("cpu", seed))
            problem.a[m // 2, 77] = torch.nan
            problem.b[131, n // 2] = torch.nan
            nan = cutplan.matmul(problem.a, problem.b).isnan()
            expected = torch.zeros_like(nan)
            expected[m // 2], expected[:, n // 2] = True, True
            assert torch.equal(nan, expected), (m, n, layout)


@pytest.mark.parametrize("operand", SIXTEEN_BITS)
def test_widening_is_exact(operand: str) -> None:
    """Every one of the 65536 values times one, in float32 and back."""
    values = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(TORCH[operand])
    one = torch.ones(1, 1, dtype=TORCH[operand])
    nan = values.isnan()
    identity = torch.eye(256, dtype=TORCH[operand])
    columns = values.masked_fill(nan | values.isinf(), 0).view(256, 256)  # times zeros, but for its own row
    for order in (columns, columns.mT.contiguous().mT):
        for rows in (256, 3):
            product = cutplan.matmul(identity[:rows], order, out_dtype="float32")
            assert torch.equal(product, columns[:rows].float())
    wide = cutplan.matmul(values.view(-1, 1), one, out_dtype="float32").view(-1)
    narrow = cutplan.matmul(values.view(-1, 1), one).view(-1)
    assert torch.equal(wide[~nan], values.float()[~nan]) and wide[nan].isnan().all()
    assert torch.equal(narrow[~nan], values[~nan]) and narrow[nan].isnan().all()


@pytest.mark.parametrize("d", SIXTEEN_BITS)
def test_narrowing_rounds_to_nearest_even(d: str, seed: int) -> None:
    """Float32 values of every exponent, with ties and their neighbours, through C alone: K = 0, D = C."""
    random = torch.randint(-(2**31), 2**31, (1 << 20,), generator=generator("cpu", seed)).to(torch.int32)
    every = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(TORCH[d]).float()
    between = (every[:-1].double() + every[1:].double()).div(2).float()
    near = torch.cat([bits_of(between) - 1, bits_of(between), bits_of(between) + 1]).view(torch.float32)
    c = torch.cat([random.view(torch.float32), every, near]).view(1, -1)
    n = c.shape[1]
    out = torch.empty(1, n, dtype=TORCH[d])
    descriptor = cutplan.GemmDescriptor(
        m=1, n=n, k=0, a=d, c="float32", layout="rrr", epilogue=cutplan.Epilogue(c=True)
    )
    empty = torch.empty(0, dtype=TORCH[d])
    plan = cutplan.GemmPlan.select(descriptor, "cpu")
    plan.run(empty.view(1, 0), empty.view(0, 1).expand(0, n), out, c=c, beta=1.0)
    nan = c.isnan()
    assert nan.any() and out[nan].isnan().all()
    # sum + beta * c: a zero of either sign leaves as +0
    expected = torch.where(c == 0, torch.zeros_like(c), c).to(TORCH[d])
    wrong = (bits_of(out) != bits_of(expected)) & ~nan & ~((out == 0) & (expected == 0))
    assert not wrong.any(), f"{c[wrong][:5].tolist()} became {out[wrong][:5].tolist()}"


@pytest.mark.parametrize("operand", SIXTEEN_BITS)
def test_narrowing_of_products(operand: str, seed: int) -> None:
    """A product of 16-bit values is exact in float32 and rounded once, overflow and subnormals included."""
    bits = torch.randint(-32768, 32768, (2, 512), generator=generator("cpu", seed)).to(torch.int16)
    if operand == "bfloat16":
        bits = (bits & ~0x7F80) | (
            (bits & 0x3F80) | 0x1000
        )  # exponents whose products float32 holds without underflow
    x, y = bits.view(TORCH[operand])
    d = cutplan.matmul(x.view(-1, 1), y.view(1, -1))
    expected = (x.double().view(-1, 1) * y.double().view(1, -1)).float().to(TORCH[operand])
    nan = expected.isnan()
    assert torch.equal(d[~nan], expected[~nan]) and d[nan].isnan().all()


def test_infinities_and_nan_spread_as_in_ieee_arithmetic() -> None:
    a = torch.ones(4, 5)
    a[0, 0], a[1, 0], a[2, 0] = torch.inf, -torch.inf, torch.nan
    d = cutplan.matmul(a, torch.ones(5, 300))
    assert (
        (d[0] == torch.inf).all() and (d[1] == -torch.inf).all() and d[2].isnan().all() and (d[3] == 5).all()
    )


@pytest.mark.parametrize("activation", ["gelu_erf", "gelu_tanh", "silu", "relu"])
@pytest.mark.parametrize("operand", TORCH)
def test_nan_has_no_activation_and_no_derivative(operand: str, activation: str) -> None:
    one, nan = torch.ones(1, 1, dtype=TORCH[operand]), torch.full((1, 1), torch.nan, dtype=TORCH[operand])
    assert cutplan.matmul(one, nan, activation=activation).isnan().all()
    gradients = cutplan.matmul_backward(one, one, one, activation=activation, aux=nan)
    assert gradients.da.isnan().all() and gradients.db.isnan().all()


@pytest.mark.parametrize("activation", ["gelu_erf", "gelu_tanh", "silu", "relu"])
@pytest.mark.parametrize("operand", ["float32", "float64"])
def test_activations_of_large_arguments(operand: str, activation: str) -> None:
    """Far from zero every activation is x or nothing, with no overflow in between."""
    x = torch.tensor([[50, 1e3, 1e10, 1e20, 1e30]], dtype=TORCH[operand])
    one = torch.ones(1, 1, dtype=TORCH[operand])
    assert torch.equal(cutplan.matmul(one, x, activation=activation), x)
    assert (cutplan.matmul(one, -x, activation=activation).abs() < 1e-11).all()


def test_many_threads_at_once(seed: int) -> None:
    """One plan, eight threads, operands of their own each."""
    options = Options("float32", bias="float32")
    problems = [
        Problem(Shape(300, 200, 100), "float32", "rcr", "cpu", generator("cpu", seed + i)) for i in range(8)
    ]
    plan = problems[0].select(options)
    failures: list[str | None] = []

    def work(problem: Problem) -> None:
        for _ in range(5):
            failures.append(problem.complaint(plan, options))

    threads = [threading.Thread(target=work, args=(problem,)) for problem in problems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [None] * 40


def test_numpy_in_numpy_out(seed: int) -> None:
    random = np.random.default_rng(seed)
    for dtype in (np.float16, np.float32, np.float64):
        a, b = random.standard_normal((37, 53)).astype(dtype), random.standard_normal((53, 29)).astype(dtype)
        d = cutplan.matmul(a, b)
        assert isinstance(d, np.ndarray) and d.dtype == dtype
        exact = a.astype(np.float64) @ b.astype(np.float64)
        magnitude = np.abs(a.astype(np.float64)) @ np.abs(b.astype(np.float64))
        plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), "cpu")
        bound = plan.precision_guarantee.error_bound(magnitude, exact) + 64 * 2.0**-53 * magnitude
        assert (np.abs(d - exact) <= bound).all()
