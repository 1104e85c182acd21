"""Every kernel of this build that this machine can run, forced by name, held to its plan's own error bound.

Each test is one kernel and loops over combinations inside, which keeps thousands of them cheap, and reports
all that fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
import torch

import cutplan
from tests.environment import has_cuda, note_not_run
from tests.gemm.problems import (
    LAYOUTS,
    SERVED,
    Options,
    Problem,
    Shape,
    all_options,
    generator,
    output_types,
    report,
)


def _kernels() -> list[object]:
    """(SKU, device) of every kernel in the registry that a device here can run."""
    chosen = []
    for sku in cutplan.gemm_registry():
        device = "cpu" if str(sku.arch) == "host" else "cuda"
        if device == "cuda" and not has_cuda():
            note_not_run(f"{sku.arch} kernels (no GPU)")
            continue
        aligned = cutplan.GemmDescriptor(m=4096, n=4096, k=4096, a=sku.a, b=sku.b, d=sku.a, layout=sku.layout)
        properties = cutplan.device_properties(device)
        if not cutplan.gemm_kernels(aligned, properties, cutplan.PlanPreference(kernel=sku.name)):
            note_not_run(f"{sku.arch} kernels that {properties.name} cannot run")
            continue
        chosen.append(pytest.param(sku, device, id=sku.name))
    return chosen


kernels = pytest.mark.parametrize("sku, device", _kernels())
Case = tuple[Shape, Options]


def sweep(
    sku: cutplan.KernelSku,
    device: str,
    seed: int,
    cases: Iterable[Case],
    check: Callable[[Problem, cutplan.GemmPlan, Options], str | None] = Problem.complaint,
    kernel: str | None = None,
) -> None:
    source = generator(device, seed)
    problems: dict[Shape, Problem] = {}
    failures = []
    for shape, options in cases:
        if shape not in problems:
            problems = {shape: Problem(shape, str(sku.a), sku.layout, device, source, sku.alignment)}
        problem = problems[shape]
        try:
            plan = select(problem, options, kernel or sku.name)
            what = check(problem, plan, options)
        except cutplan.Error as error:
            what = f"{sku.name} {shape} {options}: {type(error).__name__}: {error}"
        if what is not None:
            failures.append(what)
    report(failures)


def select(problem: Problem, options: Options, kernel: str) -> cutplan.GemmPlan:
    """The kernel; with K = 0, which some kernels leave to others, whatever the registry puts in its place."""
    try:
        return problem.select(options, kernel=kernel)
    except cutplan.Unsupported as error:
        if problem.shape.k == 0 and "K = 0" in str(error):
            return problem.select(options)
        raise


def some_options(sku: cutplan.KernelSku, seed: int) -> Callable[[], Options]:
    every, chance = all_options(str(sku.a)), random.Random(seed)
    return lambda: chance.choice(every)


@kernels
def test_epilogues(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Output type x bias x c x activation, on a D that is aligned and on one that is not."""
    tm, tn, tk = sku.tile
    shapes = (Shape(tm + 8, tn + 16, 2 * tk), Shape(tm - 3, tn + 5, tk + 7, pad=3, d_pad=3, d_offset=1))
    sweep(sku, device, seed, [(shape, options) for shape in shapes for options in all_options(str(sku.a))])


@kernels
def test_edges(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Extents 0 and 1, just below, at and above a tile, primes, several tiles, and K from 0 to long."""
    tm, tn, tk = sku.tile
    extents = [
        (tm, tn, tk),
        (tm - 1, tn - 1, tk - 1),
        (tm + 1, tn + 1, tk + 1),
        (1, 1, 1),
        (1, tn, tk),
        (1, 2 * tn + 1, 3 * tk - 1),
        (tm, 1, tk),
        (2 * tm + 1, 1, tk + 1),
        (2, 3, 5),
        (8, 8, 8),
        (37, 53, 0),
        (tm + 1, tn + 1, 0),
        (0, 5, 3),
        (5, 0, 3),
        (0, 0, 0),
        (17, 19, 2 * tk),
        (17, 19, 2 * tk + 1),
        (131, 257, 509),
        (2 * tm + 3, 2 * tn - 5, 4 * tk + 7),
        (3 * tm, 2 * tn, 5 * tk),
        (61, 67, 16411),
    ]
    pick = some_options(sku, seed)
    cases = [(Shape(*e), pick()) for e in extents for _ in range(2)]
    cases += [(Shape(*e, batch=batch), pick()) for e in extents[:4] for batch in (0, 1)]
    sweep(sku, device, seed, cases)


@kernels
def test_memory(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Padded leading dimensions, slices of wider matrices, batches, and one matrix for a whole batch."""
    tm, tn, tk = sku.tile
    element = sku.a.bits // 8
    aligned = sku.alignment // element  # the smallest legal step of an address
    pick = some_options(sku, seed)
    cases = []
    for m, n, k in ((33, 65, 40), (tm + 1, tn - 1, tk + 1)):
        for memory in (
            {"pad": 1},
            {"pad": 24, "d_pad": 24},
            {"offset": aligned},
            {"offset": 3 * aligned, "pad": 5},
            {"d_offset": 1},
            {"d_offset": 3, "d_pad": 2},
            {"d_pad": 7},
            {"batch": 3},
            {"batch": 3, "pad": 9, "d_pad": 1, "offset": aligned, "d_offset": 5},
            {"batch": 4, "shared": "a"},
            {"batch": 4, "shared": "b"},
            {"batch": 2, "shared": "ab"},
            {"batch": 3, "shared": "abc", "pad": 2},
            {"batch": 1, "pad": 11, "d_pad": 11},
        ):
            cases += [(Shape(m, n, k, **memory), pick()) for _ in range(2)]
    sweep(sku, device, seed, cases)


@kernels
def test_integers(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Small integers have one right answer: a product dropped or doubled cannot hide below the bound."""
    tm, tn, tk = sku.tile
    extents = [(tm + 1, tn + 1, 6 * tk + 1), (2 * tm, tn, tk), (5, 7, 4099), (tm - 1, tn + 8, tk - 1)]
    cases = []
    for d in output_types(str(sku.a)):
        for m, n, k in extents:
            for memory in ({}, {"batch": 2, "pad": 3, "d_pad": 1}):
                shape = Shape(m, n, k, integers=True, **memory)
                cases.append((shape, Options(d)))
                cases.append((shape, Options(d, bias=d, c=d, activation="relu", alpha=-2.0, beta=3.0)))
    sweep(sku, device, seed, cases)


@kernels
def test_mixed_epilogue_types(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """c and bias of the operands' type, of D's, and float32."""
    operand = str(sku.a)
    cases = [
        (Shape(70, 45, 100, d_pad=1), Options(d, bias, c, "gelu_tanh", alpha=0.5, beta=2.0))
        for d in output_types(operand)
        for bias in output_types(operand)
        for c in output_types(operand)
    ]
    sweep(sku, device, seed, cases)


@kernels
def test_deterministic(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Ten runs, one result, to the bit, if the plan says so."""
    tm, tn, tk = sku.tile

    def check(problem: Problem, plan: cutplan.GemmPlan, options: Options) -> str | None:
        if not (
            plan.precision_guarantee.deterministic and plan.precision_guarantee.bit_stable_on_same_hardware
        ):
            return f"{sku.name}: not deterministic by its own account"
        first = problem.run(plan, options)
        for again in range(1, 10):
            if not torch.equal(problem.run(plan, options), first):
                return f"{sku.name} {problem.shape}: run {again} differs from the first"
        return None

    shape = Shape(3 * tm + 1, 2 * tn + 1, 5 * tk + 3)
    sweep(sku, device, seed, [(shape, Options(str(sku.a), activation="silu"))], check)


@pytest.mark.cuda
@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
def test_split_k(operand: str, seed: int) -> None:
    """Every kernel that can cut K, into any number of slices, with a workspace of just the size, all NaN."""
    device = "cuda"
    split = 0
    properties = cutplan.device_properties(device)
    for sku in cutplan.gemm_registry():
        if str(sku.arch) == "host" or str(sku.a) != operand:
            continue
        tm, tn, tk = sku.tile
        for slices in (2, 3, 4, 6, 8, 12, 16):
            name = f"{sku.name}.k{slices}"
            long = Shape(tm + 3, tn + 1, slices * tk * 3 - 5)
            problem = Problem(long, operand, sku.layout, device, generator(device, seed), sku.alignment)
            preference = cutplan.PlanPreference(kernel=name)
            if not cutplan.gemm_kernels(problem.descriptor(Options(operand)), properties, preference):
                continue
            split += 1
            cases = [
                (shape, options)
                for shape in (
                    long,
                    Shape(33, 65, slices * tk * 2, batch=2, d_pad=1),
                    Shape(9, 8, slices * tk, integers=True),
                )
                for options in (
                    Options(operand, bias=operand, c=operand, activation="gelu_erf", alpha=1.5, beta=-1.0),
                    Options("float32"),
                )
            ]

            def check(problem: Problem, plan: cutplan.GemmPlan, options: Options) -> str | None:
                if plan.sku.split_k < 2 or plan.workspace_size == 0:
                    return f"{plan.sku.name}: split_k {plan.sku.split_k}, workspace {plan.workspace_size}"
                return problem.complaint(plan, options)

            sweep(sku, device, seed, cases, check, kernel=name)
    assert split > 0, "no kernel of this build splits K"


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_invariant(device: str, operand: str, layout: str, seed: int) -> None:
    """A row has the same bits whatever is computed beside it."""
    source = generator(device, seed)
    n, k = 264, 1040
    whole = Problem(Shape(520, n, k), operand, layout, device, source, 16)
    options = Options(operand, bias=operand, activation="gelu_tanh")
    bias = whole.extra("bias", operand)

    def rows(a: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        part = Problem(Shape(a.shape[-2], n, k, batch=batch), operand, layout, device, source, 16)
        part.a.copy_(a)
        part.b.copy_(whole.b)
        part._extras["bias", operand] = bias
        plan = part.select(options, batch_invariant=True)
        assert plan.precision_guarantee.batch_invariant
        return part.run(plan, options)

    full = rows(whole.a)
    for first, count in ((0, 1), (3, 1), (0, 7), (16, 64), (5, 129), (100, 256), (0, 512)):
        part = rows(whole.a[first : first + count])
        assert torch.equal(part, full[first : first + count]), f"rows {first} to {first + count - 1} differ"
    batched = rows(whole.a[:514].unflatten(0, (2, 257)), batch=2)
    assert torch.equal(batched.flatten(0, 1), full[:514]), "a batch of 2 differs"


@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_alignment(device: str, operand: str, layout: str, seed: int) -> None:
    """Operands that begin one element late, or whose rows do, take a narrower kernel; a plan for aligned ones
    refuses them."""
    source = generator(device, seed)
    options = Options(operand, bias=operand)
    aligned = Problem(Shape(129, 136, 72), operand, layout, device, source, 16)
    fast = aligned.select(options)
    failures = [aligned.complaint(fast, options)]
    for memory in (
        {"offset": 1},
        {"offset": 2},
        {"offset": 4},
        {"pad": 1},
        {"offset": 1, "pad": 3, "batch": 2},
    ):
        odd = Problem(Shape(129, 136, 72, **memory), operand, layout, device, source, 2)
        plan = odd.select(options)
        assert plan.sku.alignment == 2
        failures.append(odd.complaint(plan, options))
        if device == "cuda" and "batch" not in memory:
            out = odd.output(options)
            assert fast.sku.alignment > 2
            if memory != {"offset": 4} or fast.sku.alignment == 16:
                with pytest.raises(cutplan.Misaligned, match="operand a"):
                    odd.enqueue(fast, options, out.view)
                assert not out.touched()
        described = cutplan.describe(odd.a, odd.b, odd.output(options).view, bias=odd.extra("bias", operand))
        failures.append(odd.complaint(cutplan.GemmPlan.select(described, device), options))
    report([f for f in failures if f])
