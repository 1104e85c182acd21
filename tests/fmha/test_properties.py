"""Property tests: extents, masks, score options, strides and types that nobody thought of."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cutplan
from tests.fmha.oracle import Operands, attention
from tests.fmha.problems import TORCH, Case, Problem, generator, output_types
from tests.oracle import complaint

lengths = st.one_of(st.integers(0, 20), st.integers(21, 150))
dims = st.one_of(st.integers(1, 256), st.sampled_from([32, 64, 96, 128, 192, 256]))
limits = st.one_of(st.just(-1), st.integers(0, 160))
axes = st.sets(st.sampled_from("bhqk")).map(lambda kept: "".join(axis for axis in "bhqk" if axis in kept))


@st.composite
def cases(draw: st.DrawFn, operand: str) -> Case:
    heads_k = draw(st.integers(1, 3))
    heads = heads_k * draw(st.integers(1, 4))
    dim = draw(dims)
    dim_v = draw(st.one_of(st.just(dim), dims))
    packed = None
    batch, seq_q, seq_k = draw(st.integers(0, 3)), draw(lengths), draw(lengths)
    if draw(st.booleans()) and draw(st.booleans()):
        packed = tuple(draw(st.lists(st.tuples(lengths, lengths), max_size=4)))
    longest = [k for _, k in packed] if packed is not None else [seq_k] * batch
    used = tuple(draw(st.integers(0, k)) for k in longest) if draw(st.booleans()) else None
    causal = draw(st.sampled_from([None, None, "top_left", "bottom_right"]))
    dense = packed is None
    return Case(
        seq_q,
        seq_k,
        dim,
        dim_v,
        batch=batch,
        heads=heads,
        heads_k=heads_k,
        dtype=operand,
        o=draw(st.sampled_from(output_types(operand))),
        grad=draw(st.sampled_from(output_types(operand))),
        layout=draw(st.sampled_from(["bhsd", "bshd"])),
        packed=packed,
        seqused_k=used,
        causal=causal,
        align=None if causal else draw(st.sampled_from([None, "top_left", "bottom_right"])),
        window=(draw(limits), draw(limits)) if draw(st.booleans()) else (-1, -1),
        softcap=draw(st.sampled_from([0.0, 0.0, 0.5, 30.0])),
        alibi=draw(st.sampled_from(["", "", "h", "bh"])),
        bias=draw(st.sampled_from([None, *output_types(operand)])) if dense else None,
        bias_dims=draw(axes),
        mask=draw(st.one_of(st.none(), axes)) if dense else None,
        sink=draw(st.booleans()),
        narrow=draw(st.booleans()),
        dropout_p=draw(st.one_of(st.none(), st.floats(0, 0.95))),
        scale=draw(st.one_of(st.none(), st.floats(-0.3, 0.3))),
        pad=draw(st.integers(0, 9)),
        offset=draw(st.integers(0, 3)),
        alignment=draw(st.sampled_from([TORCH[operand].itemsize, 16])),
        shared=draw(
            st.frozensets(st.sampled_from(["qh", "qb", "kh", "kb", "vh", "vb", "gh", "gb"]), max_size=3)
        )
        if used is None
        else frozenset(),
    )


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_problem(device: str, data: st.DataObject) -> None:
    operand = data.draw(st.sampled_from([*TORCH]), "operand")
    case = data.draw(cases(operand), "case")
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    problem = Problem(case, device, source)
    deterministic = data.draw(st.booleans(), "deterministic")
    for plan in (
        problem.select(deterministic=deterministic),
        problem.select_backward(deterministic=deterministic),
    ):
        what = problem.complaint(plan)
        assert what is None, what


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_attention_is_the_plan_that_its_tensors_describe(device: str, data: st.DataObject) -> None:
    """The functional face on the same operands: the same bits, forward and backward."""
    operand = data.draw(st.sampled_from([*TORCH]), "operand")
    case = data.draw(cases(operand), "case")
    problem = Problem(case, device, generator(device, data.draw(st.integers(0, 2**31), "seed")))
    options = {
        **problem.options,
        "causal": case.causal,
        "align": case.align,
        "window": case.window,
        "softcap": case.softcap,
        "layout": case.layout,
    }
    o, lse = cutplan.attention(problem.q, problem.k, problem.v, return_lse=True, out_dtype=case.o, **options)
    written = {"o": o, "lse": lse}
    gradients = cutplan.attention_backward(
        problem.grad,
        problem.q,
        problem.k,
        problem.v,
        *problem.given,
        dbias=case.bias is not None,
        dalibi_slopes=bool(case.alibi),
        dsink=case.sink,
        grad_dtype=case.grad,
        **options,
    )
    backward = {name: value for name, value in gradients._asdict().items() if value is not None}
    for plan, found in ((problem.select(), written), (problem.select_backward(), backward)):
        assert set(found) == set(problem.outputs(plan))
        for name, value in found.items():
            what = problem.wrong(plan, name, value)
            assert what is None, f"{plan.sku.name} {case}: {what}"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_strides_are_read_or_refused(device: str, data: st.DataObject) -> None:
    """Whatever view of a buffer comes as K: the right answer, or an error that names it and O untouched."""
    batch, heads, rows, dim = (
        data.draw(st.integers(1, high), name) for high, name in ((3, "b"), (3, "h"), (9, "s"), (9, "d"))
    )
    strides = tuple(data.draw(st.integers(0, 40)) for _ in range(3)) + (
        data.draw(st.sampled_from([1, 1, 1, 0, 2])),
    )
    source = generator(device, data.draw(st.integers(0, 2**31), "seed"))
    room = torch.randn(1000, generator=source, device=device).half()
    k = room.as_strided((batch, heads, rows, dim), strides, data.draw(st.integers(0, 9), "offset"))
    q, v = (torch.randn(batch, heads, n, dim, generator=source, device=device).half() for n in (5, rows))
    o = torch.full_like(q, torch.nan)
    descriptor = cutplan.FmhaDescriptor(
        batch=batch, heads=heads, seq_q=5, seq_k=rows, dim=dim, dtype="float16"
    )
    plan = cutplan.FmhaPlan.select(descriptor, device)
    scratch = torch.empty(plan.workspace_size + 1, dtype=torch.uint8, device=device)
    try:
        plan.run(q, k, v, o, workspace=scratch)
    except cutplan.LayoutMismatch as error:
        assert "operand k" in str(error) and o.isnan().all()
        assert strides[3] != 1 and dim > 1
        return
    what = complaint(o, attention(Operands(q, k, v))["o"], plan.precision_guarantee, "o")
    assert what is None, what
