"""Property tests: shapes, strides, offsets, types, groups and epilogues that nobody thought of."""

from __future__ import annotations

import random
from dataclasses import replace

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cutplan
from tests.gemm.groups import GROUPED_LAYOUTS, GroupedProblem, Groups, grouped_options
from tests.gemm.operands import PACKED, QUANTISED, format_of, types_of
from tests.gemm.problems import (
    ACTIVATIONS,
    ALL_LAYOUTS,
    GATES,
    LAYOUTS,
    TORCH,
    TYPES,
    Options,
    Problem,
    Shape,
    d_types,
    extra_types,
    generator,
    option_fields,
    options_of,
)
from tests.gemm.test_kernels import serves
from tests.oracle import Product, complaint, reference

extents = st.one_of(st.integers(0, 40), st.integers(41, 300))
finite = st.floats(-4, 4, allow_nan=False, width=32)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    batch = draw(st.sampled_from([None, None, 0, 1, 2, 5]))
    shared = draw(st.sets(st.sampled_from("abc"))) if batch is not None else set()
    return Shape(
        draw(extents),
        draw(extents),
        draw(extents),
        batch=batch,
        shared="".join(sorted(shared)),
        pad=draw(st.integers(0, 9)),
        offset=draw(st.integers(0, 9)),
        d_pad=draw(st.integers(0, 9)),
        d_offset=draw(st.integers(0, 9)),
    )


@st.composite
def options(draw: st.DrawFn, operand: str, device: str, layout: str) -> Options:
    d = draw(st.sampled_from(d_types(operand)))
    extra = st.sampled_from([None, *extra_types(operand, d)])
    scales = st.booleans() if operand != "float64" else st.just(False)
    # Devices gate what has 16 bits, and read an interleaved B in columns.
    gates: list[str | None] = [None, None]
    if layout in LAYOUTS and (device == "cpu" or operand in ("float16", "bfloat16")):
        gates += GATES if device == "cpu" or layout[1] == "c" else ["separate"]
    gate = draw(st.sampled_from(gates))
    activation = draw(st.sampled_from(ACTIVATIONS))
    aux, mode = draw(extra), draw(st.sampled_from(("store", "gradient")))
    if gate is not None or (mode == "gradient" and activation == "none"):
        aux = None
    c = draw(extra) if gate is None else None
    return Options(
        d,
        bias=draw(extra),
        bias_over=draw(st.sampled_from("nm")) if gate is None else "n",
        c=c,
        residual=draw(extra),
        row_scale=draw(scales),
        column_scale=gate is None and draw(scales),
        activation=activation,
        store=aux if mode == "store" else None,
        gradient=aux if mode == "gradient" else None,
        gate=gate,
        alpha=draw(finite),
        beta=0.0 if c is None else draw(finite),
    )


@st.composite
def coded_options(draw: st.DrawFn, operand: str, gates: tuple[str | None, ...]) -> Options:
    """Of quantised operands and packed weights: any values, of which one after the other is given up until
    the rest go together."""
    fields = option_fields(operand, gates)
    values = {name: draw(st.sampled_from(of), label=name) for name, of in fields.items()}
    for name in draw(st.permutations(list(fields)), label="given up"):
        found = options_of(values, operand)
        if found is not None:
            break
        values[name] = fields[name][0]
    else:
        found = options_of(values, operand)
    assert found is not None
    if found.d == "int32":
        return found
    return replace(found, alpha=draw(finite), beta=0.0 if found.c is None else draw(finite))


@pytest.mark.parametrize("operands", [QUANTISED, PACKED], ids=["quantised", "packed"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_problem_of_codes(device: str, operands: tuple[str, ...], data: st.DataObject) -> None:
    """Every type and format, granularity, zero and packing."""
    properties = cutplan.device_properties(device)
    served = [
        (operand, layout)
        for operand in operands
        for layout in ALL_LAYOUTS
        if serves(operand, layout, None, properties, math="tf32x3")
    ]
    if not served:
        return
    operand, layout = data.draw(st.sampled_from(served), "operand, layout")
    gates = tuple(g for g in (None, *GATES) if serves(operand, layout, g, properties, math="tf32x3"))
    chosen = data.draw(coded_options(operand, gates), "options")
    shape = data.draw(shapes(), "shape")
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    element = TYPES[types_of(operand)[0]].itemsize
    aligned = replace(shape, offset=shape.offset * (16 // element))
    shape = data.draw(st.sampled_from([shape, aligned]), "offset")
    every = [a for a in (1, 2, 4, 8, 16) if a >= element and shape.offset * element % a == 0]
    problem = Problem(shape, operand, layout, device, source, data.draw(st.sampled_from(every)))
    # Devices serve some alignments, zeros and scales alone.
    hypothesis.assume(device == "cpu" or cutplan.gemm_kernels(problem.descriptor(chosen), properties))
    what = problem.complaint(problem.select(chosen), chosen)
    assert what is None, what


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_problem(device: str, data: st.DataObject) -> None:
    operand = data.draw(st.sampled_from([*TORCH]), "operand")
    layout = data.draw(st.sampled_from(ALL_LAYOUTS), "layout")
    shape = data.draw(shapes(), "shape")
    chosen = data.draw(options(operand, device, layout), "options")
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    # any alignment that the offset leaves possible; the rows are then padded to it
    element = TORCH[operand].itemsize
    alignment = data.draw(
        st.sampled_from([a for a in (2, 4, 8, 16) if a >= element and shape.offset * element % a == 0])
    )
    problem = Problem(shape, operand, layout, device, source, alignment)
    what = problem.complaint(problem.select(chosen), chosen)
    assert what is None, what


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_describe_fits_what_it_reads(device: str, data: st.DataObject) -> None:
    """A plan for the description of some operands runs on those operands."""
    packed = [] if device == "cuda" else PACKED  # where every format is served
    operand = data.draw(st.sampled_from([*TORCH, *packed]), "operand")
    shape = data.draw(shapes(), "shape")
    layout = data.draw(st.sampled_from(("rcr", "ccr") if operand in PACKED else ALL_LAYOUTS), "layout")
    chosen = data.draw(options(operand, device, layout), "options")
    if min(shape.m, shape.n) <= 1:  # such a D does not tell its order, which c, residual and aux must share
        chosen = replace(chosen, c=None, beta=0.0, residual=None, store=None, gradient=None)
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    problem = Problem(shape, operand, layout, device, source)
    named = {name: x for name, x in problem.operands(chosen).items() if name not in ("alpha", "beta")}
    if chosen.store is not None:
        named["aux"] = problem.output(chosen, chosen.store).view
    descriptor = cutplan.describe(
        problem.a,
        problem.factor(chosen),
        problem.output(chosen).view,
        **named,
        activation=chosen.activation,
        aux_mode="store" if chosen.store else "gradient" if chosen.gradient else None,
        gate=chosen.gate,
        weights=problem.packing(chosen),
    )
    assert (descriptor.m, descriptor.n, descriptor.k) == (shape.m, shape.n, shape.k)
    assert descriptor.batch == (1 if shape.batch is None else shape.batch)
    assert descriptor.epilogue == chosen.epilogue
    what = problem.complaint(cutplan.GemmPlan.select(descriptor, device), chosen)
    assert what is None, what


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_groups(device: str, data: st.DataObject) -> None:
    plain = [*TORCH] if device == "cpu" else ["float16", "bfloat16"]
    operand = data.draw(st.sampled_from([plain, QUANTISED, PACKED]).flatmap(st.sampled_from), "operand")
    has_codes = operand in QUANTISED or operand in PACKED
    over = data.draw(st.sampled_from(("m",) if has_codes else ("m", "k")), "over")
    layouts = GROUPED_LAYOUTS[over] if format_of(operand) is None else ("rcr",)
    layout = data.draw(st.sampled_from(layouts), "layout")
    small = st.integers(0, 9)
    groups = Groups(
        tuple(data.draw(st.lists(st.one_of(small, st.integers(0, 150)), max_size=6), "sizes")),
        data.draw(st.integers(0, 150), "n"),
        data.draw(st.integers(0, 150), "other"),
        over,
        **{name: data.draw(small, name) for name in ("start", "rest", "pad", "offset", "d_pad", "d_offset")},
    )
    gates: tuple[str | None, ...] = (None, *GATES) if device == "cpu" else (None,)
    chance = random.Random(data.draw(st.integers(0, 2**31), "options"))
    options = chance.choice(grouped_options(operand, over, chance, gates if over == "m" else (None,)))
    element = TYPES[types_of(operand)[0]].itemsize
    alignment = data.draw(
        st.sampled_from([a for a in (1, 2, 4, 8, 16) if a >= element and groups.offset * element % a == 0])
    )
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    problem = GroupedProblem(groups, operand, layout, device, source, alignment)
    if device != "cpu" and has_codes:  # of which devices serve some types, formats and alignments
        properties = cutplan.device_properties(device)
        hypothesis.assume(cutplan.grouped_gemm_kernels(problem.descriptor(options), properties))
    what = problem.complaint(problem.select(options), options)
    assert what is None, what


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_matmul_broadcasts_like_torch(device: str, data: st.DataObject) -> None:
    """Batch dimensions of any number, of extent one or missing on either side."""
    batch = data.draw(st.lists(st.integers(1, 3), max_size=3), "batch")

    def side(label: str) -> list[int]:
        kept = batch[data.draw(st.integers(0, len(batch)), label) :]
        return [data.draw(st.sampled_from([1, extent])) for extent in kept]

    m, n, k = (data.draw(st.integers(1, 40)) for _ in range(3))
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    a = torch.randn(*side("a"), m, k, generator=source, device=device).half()
    b = torch.randn(*side("b"), k, n, generator=source, device=device).half()
    d = cutplan.matmul(a, b)
    expected = reference(Product.of(a, b))
    assert d.shape == expected.exact.shape and d.dtype == a.dtype
    flat = cutplan.GemmDescriptor(m=m, n=n, k=k, a="float16")
    what = complaint(d, expected, cutplan.GemmPlan.select(flat, device).precision_guarantee)
    assert what is None, what


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_strides_are_read_or_refused(device: str, data: st.DataObject) -> None:
    """Whatever view of a buffer comes as A: the right answer, or an error that names it and D untouched."""
    m, k = data.draw(st.integers(0, 9), "m"), data.draw(st.integers(0, 9), "k")
    strides = tuple(data.draw(st.integers(0, 12)) for _ in range(2))
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    room = torch.randn(300, generator=source, device=device).half()
    a = room.as_strided((m, k), strides, data.draw(st.integers(0, 9), "offset"))
    b = torch.randn(k, 8, generator=source, device=device).half()
    d = torch.full((m, 8), torch.nan, dtype=torch.float16, device=device)
    try:
        plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), device)
        plan.run(a, b, d)
    except cutplan.LayoutMismatch as error:
        assert "operand a" in str(error) and d.isnan().all()
        assert strides[0] != 1 and strides[1] != 1 and m > 1 and k > 1
        return
    what = complaint(d, reference(Product.of(a, b)), plan.precision_guarantee)
    assert what is None, what
