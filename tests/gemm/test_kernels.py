"""Every kernel of this build that this machine can run, forced by name, held to its plan's own error bound.

Each test is one kernel and loops over combinations inside, which keeps thousands of them cheap, and reports
all that fail. A kernel of layout rcr, say, also serves the layout of the transposed problem, whose D is
column-major: rcc.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import pytest
import torch

import cutplan
from tests.environment import has_cuda, note_not_run
from tests.gemm.codes import CODES, is_quantised
from tests.gemm.operands import PACKED, QUANTISED, Packing, format_of, operands_of, ordered, types_of
from tests.gemm.problems import (
    ALL_LAYOUTS,
    GATES,
    LAYOUTS,
    SERVED,
    SERVED_PACKED,
    SERVED_QUANTISED,
    TORCH,
    TYPES,
    Options,
    Problem,
    Shape,
    crossed_options,
    d_types,
    extra_types,
    fill,
    generator,
    poisoned_workspace,
    report,
    single_options,
    transposed,
)
from tests.oracle import Product, complaint, reference

Gates = tuple[str | None, ...]


def serves(
    operand: str,
    layout: str,
    gate: str | None,
    properties: cutplan.DeviceProperties,
    kernel: str | None = None,
    math: str = "fast",
) -> bool:
    """Whether a kernel, or any that is exact enough, multiplies this with this gate. A gate wants a row-major
    D, and packed weights columns of B side by side."""
    a, b = types_of(operand)
    form = format_of(operand)
    if (gate is not None or form is not None) and layout not in LAYOUTS:
        return False
    if form is not None and layout[1] == "r":
        return False
    n = 4096
    packing = {} if form is None else {"weights": Packing().of(form, 2 * n if gate == "interleaved" else n)}
    gated = cutplan.GemmDescriptor(
        m=n, n=n, k=n, a=a, b=b, layout=layout, epilogue=cutplan.Epilogue(gate=gate), **packing
    )
    return bool(cutplan.gemm_kernels(gated, properties, cutplan.PlanPreference(kernel=kernel, math=math)))


def gates_of(sku: cutplan.KernelSku, operand: str, device: str) -> Gates:
    """The gates that a kernel serves on a device; most have none: (None,)."""
    properties = cutplan.device_properties(device)
    return tuple(gate for gate in (None, *GATES) if serves(operand, sku.layout, gate, properties, sku.name))


def on_host(operand: str, layout: str) -> bool:
    """Whether this is the layout in which the host is held to this type and format."""
    return (PACKED.index(operand) + LAYOUTS.index(layout)) % 2 == 0


def _kernels() -> list[object]:
    """(SKU, operand, device, gates) of every kernel in the registry that a device here can run: of packed
    weights each format that it serves. On the host, whose layouts share their code for these, in one."""
    chosen = []
    for sku in cutplan.gemm_registry():
        device = "cpu" if str(sku.arch) == "host" else "cuda"
        if device == "cuda" and not has_cuda():
            note_not_run(f"{sku.arch} kernels (no GPU)")
            continue
        served = {operand: gates_of(sku, operand, device) for operand in operands_of(sku)}
        if not any(served.values()):
            note_not_run(f"{sku.arch} kernels that {cutplan.device_properties(device).name} cannot run")
        for operand, gates in served.items():
            form = format_of(operand)
            there = form is None or device == "cuda" or on_host(operand, sku.layout)
            if gates and there:
                name = "-".join(filter(None, (sku.name, form)))
                chosen.append(pytest.param(sku, operand, device, gates, id=name))
    return chosen


kernels = pytest.mark.parametrize("sku, operand, device, gates", _kernels())
Case = tuple[Shape, Options, str]  # and the layout


# What kernels of quantised operands and packed weights on devices may leave to others: scales along K those
# of int8 and of float8 summed fast, rows of b and b2 in orders of their own the gated ones.
LEFT_OUT = ("scales that change along K are not served", "rows in an order of their own are not served")


def left_out(error: cutplan.Error, device: str) -> bool:
    reasons = str(error)
    return (
        device == "cuda"
        and isinstance(error, cutplan.Unsupported)
        and any(reason in reasons for reason in LEFT_OUT)
    )


def sweep(
    sku: cutplan.KernelSku,
    operand: str,
    device: str,
    seed: int,
    cases: Iterable[Case],
    check: Callable[[Problem, cutplan.GemmPlan, Options], str | None] = Problem.complaint,
    kernel: str | None = None,
) -> None:
    source = generator(device, seed)
    problems: dict[tuple[Shape, str], Problem] = {}
    failures = []
    cases = list(cases)
    left = 0
    for shape, options, layout in cases:
        if (shape, layout) not in problems:
            made = Problem(shape, ordered(operand, layout), layout, device, source, sku.alignment)
            problems = {(shape, layout): made}
        problem = problems[shape, layout]
        try:
            plan = select(problem, options, kernel or sku.name)
            what = check(problem, plan, options)
        except cutplan.Error as error:
            left += left_out(error, device)
            name = f"{sku.name} {layout} {shape} {options}"
            what = None if left_out(error, device) else f"{name}: {type(error).__name__}: {error}"
        if what is not None:
            failures.append(what)
    report(failures)
    assert left < max(len(cases), 1), "not one case is served"


def select(problem: Problem, options: Options, kernel: str) -> cutplan.GemmPlan:
    """The kernel; with K = 0, which some kernels leave to others, whatever the registry puts in its place."""
    try:
        return problem.select(options, kernel=kernel, math="fast")
    except cutplan.Unsupported as error:
        if problem.shape.k == 0 and "K = 0" in str(error):
            return problem.select(options, math="fast")
        raise


def layouts_of(sku: cutplan.KernelSku, options: Options) -> tuple[str, ...]:
    """A gate and several outputs want a row-major D, and so do packed weights."""
    one_order = options.gate is not None or options.outputs > 1 or str(sku.b) == "uint8"
    return (sku.layout,) if one_order else (sku.layout, transposed(sku.layout))


def anywhere(sku: cutplan.KernelSku, shape: Shape, options: Sequence[Options]) -> list[Case]:
    """All of the options in every layout of the kernel, one layout after the other."""
    cases = [(shape, o, layout) for o in options for layout in layouts_of(sku, o)]
    return sorted(cases, key=lambda case: case[2])


class Pick:
    """Options at random, now from those that cross the terms, now from the single ones."""

    def __init__(self, sku: cutplan.KernelSku, operand: str, gates: Gates, seed: int) -> None:
        self._chance = random.Random(seed)
        self._sku = sku
        self._every = [*single_options(operand, gates), *crossed_options(operand, self._chance, gates)]

    def __call__(self, shape: Shape, count: int = 2) -> list[Case]:
        chosen = [self._chance.choice(self._every) for _ in range(count)]
        return [(shape, o, self._chance.choice(layouts_of(self._sku, o))) for o in chosen]


@kernels
def test_epilogues(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """Every term alone, and any two with each other, on a D that is aligned and on one that is not."""
    tm, tn, tk = sku.tile
    chance = random.Random(seed)
    aligned = Shape(tm + 8, tn + 16, 2 * tk)
    odd = Shape(tm - 3, tn + 5, tk + 7, pad=3, d_pad=3, d_offset=1)
    cases = anywhere(sku, aligned, crossed_options(operand, chance, gates))
    cases += anywhere(sku, odd, [*single_options(operand, gates), *crossed_options(operand, chance, gates)])
    sweep(sku, operand, device, seed, cases)


@kernels
def test_edges(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
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
    pick = Pick(sku, operand, gates, seed)
    cases = [case for e in extents for case in pick(Shape(*e))]
    cases += [case for e in extents[:4] for batch in (0, 1) for case in pick(Shape(*e, batch=batch), 1)]
    sweep(sku, operand, device, seed, cases)


@kernels
def test_memory(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """Padded leading dimensions, slices of wider matrices, batches, and one matrix for a whole batch."""
    tm, tn, tk = sku.tile
    element = sku.a.bits // 8
    aligned = sku.alignment // element  # the smallest legal step of an address
    pick = Pick(sku, operand, gates, seed)
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
            {"batch": 3, "shared": "c"},
            {"batch": 3, "shared": "abc", "pad": 2},
            {"batch": 1, "pad": 11, "d_pad": 11},
        ):
            cases += pick(Shape(m, n, k, **memory), 3)
    sweep(sku, operand, device, seed, cases)


@kernels
def test_integers(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """Small integers have one right answer: a product dropped or doubled cannot hide below the bound."""
    tm, tn, tk = sku.tile
    shapes = [
        Shape(tm + 1, tn + 1, 3 * tk + 1, integers=True),
        Shape(tm - 1, tn + 8, tk - 1, integers=True, batch=2, pad=3, d_pad=1),
        Shape(5, 7, 4099, integers=True),
        Shape(33, 65, 2 * tk + 7, integers=True, batch=2, pad=3, d_pad=1),
    ]
    cases: list[Case] = []
    for d in d_types(operand):
        one, other = extra_types(operand, d)[0], extra_types(operand, d_types(operand)[0])[0]
        every = [Options(d), Options(d, bias=one, c=one, activation="relu", alpha=-2.0, beta=3.0)]
        if operand != "float64":
            every.append(Options(d, bias=one, bias_over="m", residual=one, row_scale=True, column_scale=True))
        every.append(Options(d, bias=one, store=other, residual=other, activation="relu"))
        every.append(Options(d, gradient=other, activation="relu", c=other, beta=-1.0))
        if is_quantised(operand):
            scaled = Options(d, a_scale="group", b_scale="block", bias=one, amax=True)
            every += [scaled, replace(scaled, a_scale="row", b_scale="column", out_scale=d in CODES)]
            if operand == "int8":
                every += [Options(d, a_zero="row", b_zero="column"), Options(d, b_zero="tensor")]
        every = every if None in gates else []
        every += [Options(d, bias=one, gate=gate, activation="relu") for gate in gates if gate is not None]
        every = [o for o in every if o.legal]
        for shape in shapes:
            for i, o in enumerate(every):
                layouts = layouts_of(sku, o)
                cases.append((shape, o, layouts[i % len(layouts)]))
    sweep(sku, operand, device, seed, sorted(cases, key=lambda case: (str(case[0]), case[2])))


@kernels
def test_several_outputs(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """Cut between tiles and within them, every term alone and others crossed, inside D and at its edges."""
    tm, tn, tk = sku.tile
    chance = random.Random(seed)
    shapes = [
        Shape(tm + 8, 3 * tn + 16, 2 * tk),
        Shape(2 * tm - 3, 2 * tn + 5, tk + 7, pad=3, d_pad=3, d_offset=1),
        Shape(33, 2 * tn + 24, 40, batch=3, d_pad=8),
        Shape(1, tn + 40, 3 * tk - 1),
        Shape(tm + 1, 90, 2 * tk, integers=True),
        Shape(tm, 2 * tn, 0),
    ]
    cases: list[Case] = []
    every = [*single_options(operand, gates), *crossed_options(operand, chance, gates)]
    for shape in shapes:
        for o in chance.sample(every, min(len(every), 12)):
            several = replace(o, outputs=chance.choice((2, 3, 4)), cut=chance.choice((8, 32, tn)))
            cases.append((shape, several, sku.layout))
    sweep(sku, operand, device, seed, cases)


@kernels
def test_mixed_epilogue_types(
    sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int
) -> None:
    """c, bias, residual and aux of the operands' type, of D's, and float32."""
    shape = Shape(70, 45, 100, d_pad=1)
    cases: list[Case] = []
    for d in d_types(operand):
        types = extra_types(operand, d)
        for one in types:
            for other in types:
                o = Options(d, bias=one, residual=other, activation="gelu_tanh", alpha=0.5)
                cases += [(shape, replace(o, gate=gate), sku.layout) for gate in gates]
                if None in gates:
                    more = [
                        replace(o, c=other, beta=2.0, store=one),
                        replace(o, c=one, beta=-1.0, gradient=other),
                    ]
                    cases += [(shape, more_options, sku.layout) for more_options in more]
    cases = [case for case in cases if case[1].legal]
    sweep(sku, operand, device, seed, cases)


@kernels
def test_repeated_factors(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """One row or column of A and of B again and again: a leading dimension of 0, in a tensor map too."""
    tm, tn, tk = sku.tile
    source = generator(device, seed)
    failures = []
    for gate in gates:
        options = Options(d_types(operand)[0], gate=gate)
        for layout in layouts_of(sku, options):
            shape = Shape(tm + 8, tn + 16, 2 * tk, batch=2)
            problem = Problem(shape, ordered(operand, layout), layout, device, source, sku.alignment)
            a, b = problem.a, problem.b
            problem.a = (a[:, :1] if layout[0] == "r" else a[..., :1]).expand_as(a)
            if problem.format is None:
                problem.b = (b[:, :1] if layout[1] == "r" else b[..., :1]).expand_as(b)
            what = problem.complaint(select(problem, options, sku.name), options)
            failures += [what] if what is not None else []
    report(failures)


@kernels
def test_broadcast_terms(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
    """One row, one column or one element for all of c, residual and a gradient's aux, of any type, inside D
    and at its edges, through the registers and the longer way."""
    tm, tn, tk = sku.tile
    d = d_types(operand)[0]
    cases: list[Case] = []
    for repeats in ("m", "n", "mn"):
        for shape in (
            Shape(tm + 8, tn + 16, 2 * tk, repeats=repeats),
            Shape(tm - 3, tn + 5, tk + 7, batch=3, pad=3, d_pad=3, d_offset=1, repeats=repeats),
            Shape(33, 65, 40, batch=2, shared="c", repeats=repeats, integers=True),
        ):
            for one in extra_types(operand, d):
                every = [
                    Options(d, c=one, beta=-0.5, bias=one),
                    Options(d, residual=one, activation="relu", alpha=0.5),
                    Options(d, c=one, beta=1.0, residual=d, gradient=one, activation="silu"),
                ]
                every = every if None in gates else []
                every += [Options(d, residual=one, gate=gate) for gate in gates if gate is not None]
                cases += anywhere(sku, shape, every)
    sweep(sku, operand, device, seed, cases)


@kernels
def test_deterministic(sku: cutplan.KernelSku, operand: str, device: str, gates: Gates, seed: int) -> None:
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

    shape = Shape(2 * tm + 1, tn + 1, 3 * tk + 3)
    d = d_types(operand)[0]
    chosen = [Options(d, bias=d, activation="silu", gate=gate) for gate in gates]
    if is_quantised(operand):
        chosen += [replace(o, a_scale="group", b_scale="block") for o in chosen]
    sweep(sku, operand, device, seed, [(shape, o, sku.layout) for o in chosen], check)


@pytest.mark.cuda
@pytest.mark.parametrize("operand", [*TORCH, *QUANTISED, *PACKED])
def test_split_k(operand: str, seed: int) -> None:
    """Every kernel that can cut K, into any number of slices, with a workspace of just the size, all NaN; the
    epilogue is then the reduction's. Slices that meet in a cluster need none."""
    device = "cuda"
    split = 0
    properties = cutplan.device_properties(device)
    chance = random.Random(seed)
    for sku in cutplan.gemm_registry():
        if str(sku.arch) == "host" or operand not in operands_of(sku):
            continue
        gates = gates_of(sku, operand, device)
        tm, tn, tk = sku.tile
        for slices in (2, 3, 4, 6, 8, 12, 16):
            name = f"{sku.name}.k{slices}"
            long = Shape(tm + 3, tn + 1, slices * tk * 3 - 5)
            problem = Problem(long, operand, sku.layout, device, generator(device, seed), sku.alignment)
            preference = cutplan.PlanPreference(kernel=name, math="fast")
            plain = Options(d_types(operand)[0], gate=gates[0] if gates else None)
            if not cutplan.gemm_kernels(problem.descriptor(plain), properties, preference):
                continue
            split += 1
            every = crossed_options(operand, chance, gates)
            cases = [
                case
                for shape in (
                    long,
                    Shape(33, 65, slices * tk * 2, batch=2, d_pad=1),
                    Shape(33, 65, slices * tk * 2, batch=2, repeats="n"),
                    Shape(9, 8, slices * tk, integers=True),
                )
                for case in anywhere(sku, shape, [plain, replace(plain, outputs=3), *chance.sample(every, 3)])
            ]

            def check(problem: Problem, plan: cutplan.GemmPlan, options: Options) -> str | None:
                meet = plan.sku.schedule == "swap_ab" and options.a_zero is options.b_zero is None
                if plan.sku.split_k < 2 or (plan.workspace_size == 0) != meet:
                    return f"{plan.sku.name}: split_k {plan.sku.split_k}, workspace {plan.workspace_size}"
                return problem.complaint(plan, options)

            sweep(sku, operand, device, seed, cases, check, kernel=name)
    assert split > 0 or operand not in ("float16", "bfloat16"), "no kernel of this build splits K"


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_math_of_float32(device: str, layout: str, seed: int) -> None:
    """At least as exact as asked for, by the plan's account and by its results.

    Three products can be more exact than strict arithmetic: they are summed in blocks.
    """
    problem = Problem(Shape(261, 196, 1032), "float32", layout, device, generator(device, seed), 16)
    options = Options("float32", bias="float32", activation="gelu_erf")
    errors = []
    # What one product may lose: to one rounding of each factor to 11 bits, or to what three products leave.
    for math, loss in (("strict", 0.0), ("tf32x3", 2.0**-19), ("tf32", 2.0**-9)):
        plan = problem.select(options, math=math)
        errors.append(plan.precision_guarantee.accumulation)
        assert errors[-1] <= loss + 8 * 1032 * 2.0**-24, (
            math
        )  # at most 8 units for each product that is summed
        what = problem.complaint(plan, options)
        assert what is None, what
    if ".tf32." in plan.sku.name:  # and no more exact kernel that is as fast
        assert errors[2] >= max(errors[:2])


def has_kernel(device: str, operand: str, layout: str) -> bool:
    """Whether a layout is served where no kernel is named: of quantised operands on a device, and of packed
    weights, some are."""
    return serves(operand, layout, None, cutplan.device_properties(device), math="tf32x3")


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
@pytest.mark.parametrize("device, operand", [*SERVED, *SERVED_QUANTISED, *SERVED_PACKED])
def test_what_select_picks(device: str, operand: str, layout: str, seed: int) -> None:
    """Every layout, thin and square, with whatever epilogue, without naming a kernel."""
    chance = random.Random(seed)
    properties = cutplan.device_properties(device)
    gates = [g for g in (None, *GATES) if serves(operand, layout, g, properties, math="tf32x3")]
    packed = format_of(operand) is not None
    if not gates and (device == "cuda" and is_quantised(operand) or packed):
        assert device == "cuda" or layout not in ("rcr", "ccr")
        return
    assert None in gates and (len(gates) == 3 or device == "cuda" or layout not in LAYOUTS)
    every = crossed_options(operand, chance, gates)
    failures = []
    for shape in (
        Shape(1, 264, 520),
        Shape(16, 136, 1032),
        Shape(5, 7, 3),
        Shape(200, 136, 72, batch=3, shared="b"),
    ):
        problem = Problem(shape, operand, layout, device, generator(device, seed), 16)
        for o in chance.sample(every, 4):
            try:
                failures.append(problem.complaint(problem.select(o), o))
            except cutplan.Unsupported as error:
                if not left_out(error, device):
                    raise
    report([f for f in failures if f])


@pytest.mark.parametrize("device, operand", [*SERVED, *SERVED_QUANTISED])
@pytest.mark.parametrize("factor", ["a", "b"])
@pytest.mark.parametrize("dim", [0, 1])
def test_a_row_or_column_that_serves_for_all(
    device: str, operand: str, factor: str, dim: int, seed: int
) -> None:
    """Of A or B, with the stride 0: by every kernel that can read it."""
    if not has_kernel(device, operand, "rrr"):
        return
    source = generator(device, seed)
    a, b = (
        torch.empty(shape, dtype=TYPES[t], device=device)
        for t, shape in zip(types_of(operand), ((136, 72), (72, 264)), strict=True)
    )
    for made in (a, b):
        fill(made, False, source)
    x = a if factor == "a" else b
    shared = x.narrow(dim, 0, 1).clone().expand(x.shape)
    a, b = (shared, b) if factor == "a" else (a, shared)
    d = torch.empty(136, 264, dtype=TYPES[d_types(operand)[0]], device=device)
    expected = reference(Product.of(a, b))
    descriptor = cutplan.describe(a, b, d)
    skus = cutplan.gemm_kernels(descriptor, cutplan.device_properties(device))
    assert skus
    failures = []
    for sku in skus:
        plan = cutplan.GemmPlan.select(
            descriptor, device, cutplan.PlanPreference(kernel=sku.name, math="fast")
        )
        d.fill_(torch.nan)
        plan.run(a, b, d, workspace=poisoned_workspace(plan, device) if plan.workspace_size else None)
        what = complaint(d, expected, plan.precision_guarantee)
        failures += [] if what is None else [f"{sku.name}: {what}"]
    report(failures)


@pytest.mark.parametrize("device, operand", [*SERVED, *SERVED_QUANTISED, *SERVED_PACKED])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_batch_invariant(device: str, operand: str, layout: str, seed: int) -> None:
    """A row has the same bits whatever is computed beside it."""
    if not has_kernel(device, operand, layout):
        return
    source = generator(device, seed)
    n, k = 264, 1040
    d = d_types(operand)[0]
    whole = Problem(Shape(520, n, k), operand, layout, device, source, 16)
    options = Options(d, bias=d, activation="gelu_tanh")
    bias = whole.extra("bias", d)

    def rows(a: torch.Tensor, batch: int | None = None) -> torch.Tensor:
        part = Problem(Shape(a.shape[-2], n, k, batch=batch), operand, layout, device, source, 16)
        part.a.copy_(a)
        part.b.copy_(whole.b)
        part._extras["bias", d] = bias
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


@pytest.mark.cuda
@pytest.mark.built("sm90")
@pytest.mark.parametrize("operand", ["float16", "bfloat16", "float32"])
def test_stream_k(operand: str, seed: int) -> None:
    """Every kernel that shares out tiles and K, on few SMs and on all: fewer tiles than SMs, tiles cut once
    or often, some whole waves, a batch. Its workspace, of just the size, is NaN; ten runs give one result."""
    device = "cuda"
    served = 0
    chance = random.Random(seed)
    for sku in cutplan.gemm_registry():
        if (
            operand not in operands_of(sku)
            or str(sku.arch) != "sm90"
            or sku.schedule not in ("cooperative", "pingpong")
        ):
            continue
        served += 1
        gates = gates_of(sku, operand, device)
        tm, tn, tk = sku.tile
        plain = Options(operand, gate=gates[0] if gates else None)
        every = crossed_options(operand, chance, gates)
        for sm_count, shape in (
            (2, Shape(tm + 3, tn + 1, 7 * tk - 5)),
            (6, Shape(tm - 1, tn - 7, 64 * tk)),  # one tile for all
            (6, Shape(2 * tm + 9, 9 * tn + 1, 3 * tk + 3)),  # whole waves too
            (10, Shape(2 * tm, 3 * tn, 5 * tk, integers=True)),
            (0, Shape(33, 65, tk)),  # fewer steps than SMs
            (0, Shape(tm + 1, 5 * tn, 40 * tk - 1, batch=3, d_pad=1)),
        ):
            several = replace(plain, outputs=3, cut=chance.choice((8, tn)))
            for case_shape, options, layout in anywhere(
                sku, shape, [plain, several, *chance.sample(every, 2)]
            ):
                problem = Problem(case_shape, operand, layout, device, generator(device, seed), sku.alignment)
                plan = problem.select(options, kernel=f"{sku.name}.stream_k", math="fast", sm_count=sm_count)
                assert plan.sku.split_k == 0 and plan.workspace_size > 0
                assert not (what := problem.complaint(plan, options)), what
                first = problem.run(plan, options)
                for _ in range(9):
                    assert torch.equal(problem.run(plan, options), first), f"{plan.sku.name} {case_shape}"
    assert served > 0
