"""Grouped products: every kernel that can, uneven, empty and misplaced groups, epilogues, bad input."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

import cutplan
from tests.environment import capturing, has_cuda, note_not_run
from tests.gemm.codes import CODES, is_quantised
from tests.gemm.groups import GROUPED_LAYOUTS, GroupedProblem, Groups, grouped_options
from tests.gemm.operands import PACKED, QUANTISED, Packing, format_of, types_of
from tests.gemm.problems import (
    GATES,
    SERVED,
    TORCH,
    TYPES,
    Options,
    askew,
    d_types,
    extra_types,
    generator,
    output_types,
    poisoned_workspace,
    random_values,
    report,
)
from tests.oracle import Product, complaint, reference

Gates = tuple[str | None, ...]


def listed(operand: str, over: str, layout: str, device: str, gate: str | None = None) -> list[Any]:
    """The kernels that serve such groups on a device, at any alignment."""
    properties = cutplan.device_properties(device)
    found: dict[str, cutplan.KernelSku] = {}
    a, b = types_of(operand)
    form, n = format_of(operand), 1024
    packing = {} if form is None else {"weights": Packing().of(form, 2 * n if gate == "interleaved" else n)}
    for alignment in (TYPES[a].itemsize, 16):
        descriptor = cutplan.GroupedGemmDescriptor(
            groups=4,
            m=1024,
            n=n,
            k=1024,
            a=a,
            b=b,
            over=over,
            layout=layout,
            epilogue=cutplan.Epilogue(gate=gate),
            alignment=alignment,
            **packing,
        )
        preference = cutplan.PlanPreference(math="fast")
        for sku in cutplan.grouped_gemm_kernels(descriptor, properties, preference):
            found[sku.name] = sku
    return list(found.values())


ON_HOST = PACKED[:6:2] + PACKED[7::2]  # whose code for formats is one: each with one type of A


def _kernels() -> list[object]:
    """(SKU, operand, over, device, gates) of every kernel that serves groups on a device here: of packed
    weights each format that it serves."""
    devices = ["cpu", "cuda"] if has_cuda() else ["cpu"]
    if not has_cuda():
        note_not_run("grouped CUDA kernels (no GPU)")
    chosen = []
    for device, operand, over in itertools.product(devices, [*TORCH, *QUANTISED, *PACKED], GROUPED_LAYOUTS):
        form = format_of(operand)
        if over == "k" and (is_quantised(operand) or form is not None):
            continue  # refused
        if device == "cpu" and form is not None and operand not in ON_HOST:
            continue
        for layout in GROUPED_LAYOUTS[over] if form is None else ("rcr",):
            gates: dict[str, list[str | None]] = {}
            skus = {}
            for gate in (None, *GATES) if over == "m" else (None,):
                for sku in listed(operand, over, layout, device, gate):
                    gates.setdefault(sku.name, []).append(gate)
                    skus[sku.name] = sku
            chosen += [
                pytest.param(
                    sku,
                    operand,
                    over,
                    device,
                    tuple(gates[name]),
                    id="-".join(filter(None, (over, name, form))),
                )
                for name, sku in skus.items()
            ]
    return chosen


kernels = pytest.mark.parametrize("sku, operand, over, device, gates", _kernels())


def sweep(
    sku: cutplan.KernelSku, operand: str, device: str, seed: int, cases: Iterable[tuple[Groups, Options]]
) -> None:
    source = generator(device, seed)
    failures = []
    problems: dict[Groups, GroupedProblem] = {}
    for groups, options in cases:
        if groups not in problems:
            problems = {groups: GroupedProblem(groups, operand, sku.layout, device, source, sku.alignment)}
        problem = problems[groups]
        try:
            plan = problem.select(options, kernel=sku.name, math="fast")
            what = problem.complaint(plan, options)
        except cutplan.Error as error:
            what = f"{sku.name} {groups} {options}: {type(error).__name__}: {error}"
        if what is not None:
            failures.append(what)
    report(failures)


@kernels
def test_epilogues(
    sku: cutplan.KernelSku, operand: str, over: str, device: str, gates: Gates, seed: int
) -> None:
    """Every output type, bias, scale, activation and gate, any two of them together."""
    tm, tn, tk = sku.tile
    sizes = (tm + 3, 0, 1, tm // 2) if over == "m" else (tk + 3, 0, 1, 2 * tk)
    plain = Groups(sizes, tn + 8, tk + 8 if over == "m" else tm + 8, over)
    odd = replace(plain, n=tn - 3, other=plain.other + 3, start=5, rest=9, pad=3, d_pad=3, d_offset=1)
    every = grouped_options(operand, over, random.Random(seed), gates)
    sweep(sku, operand, device, seed, [(groups, o) for groups in (plain, odd) for o in every])


@kernels
def test_groups(
    sku: cutplan.KernelSku, operand: str, over: str, device: str, gates: Gates, seed: int
) -> None:
    """One group, many, empty ones everywhere, around a tile, with something before and behind them."""
    tm, tn, tk = sku.tile
    tile = tm if over == "m" else tk
    chance = random.Random(seed)
    every = grouped_options(operand, over, chance, gates)
    element = sku.alignment // (sku.a.bits // 8)
    sizes = [
        (tile,),
        (1,),
        (0,),
        (0, 0, 0),
        (tile - 1, tile, tile + 1),
        (0, 5, 0, 0, 7, 0),
        (2 * tile + 1, 1, 3),
        tuple(chance.randrange(0, 9) for _ in range(40)),
        tuple(chance.choice((0, 1, 17, tile // 2, tile)) for _ in range(9)),
    ]
    cases = []
    for s in sizes:
        for memory in (
            {},
            {"start": 3},
            {"rest": tile + 1},
            {"start": tile, "rest": 1, "pad": 9, "d_pad": 1, "offset": element, "d_offset": 3},
        ):
            n, other = chance.choice(((tn, 2 * tk), (tn + 1, tk + 1), (33, 40), (8, 8), (1, 1)))
            cases.append((Groups(s, n, other, over, **memory), chance.choice(every)))
    cases += [(Groups((3, 4), n, other, over), chance.choice(every)) for n, other in ((0, 5), (5, 0), (0, 0))]
    cases += [(Groups((), 5, 6, over), chance.choice(every))]
    sweep(sku, operand, device, seed, cases)


@kernels
def test_integers(
    sku: cutplan.KernelSku, operand: str, over: str, device: str, gates: Gates, seed: int
) -> None:
    """Small integers have one right answer: a row of the next group cannot hide below the bound."""
    tm, tn, tk = sku.tile
    sizes = (tm - 1, 2, tm + 5, 0, 17) if over == "m" else (tk - 1, 2, tk + 5, 0, 17)
    cases = []
    for n, other in ((tn + 1, 2 * tk + 3), (40, 72)):
        groups = Groups(sizes, n, other, over, start=2, rest=3, integers=True)
        types = output_types(operand) if operand in TORCH else d_types(operand)
        for d in types:
            every = [Options(d, gate=gate) for gate in gates]
            if over == "m":
                one = extra_types(operand, d)[0]
                every += [Options(d, bias=one, activation="relu", gate=gate) for gate in gates]
            if is_quantised(operand):
                scales = {"a_scale": "group", "b_scale": "block", "amax": True}
                every += [replace(o, **scales, out_scale=d in CODES) for o in every]
            cases += [(groups, o) for o in every if o.legal]
    sweep(sku, operand, device, seed, cases)


@kernels
def test_the_same_bits_again(
    sku: cutplan.KernelSku, operand: str, over: str, device: str, gates: Gates, seed: int
) -> None:
    tm, tn, tk = sku.tile
    sizes = (tm + 1, 3, 2 * tm) if over == "m" else (tk + 1, 3, 5 * tk)
    groups = Groups(sizes, tn + 1, 3 * tk if over == "m" else tm + 1, over)
    problem = GroupedProblem(groups, operand, sku.layout, device, generator(device, seed), sku.alignment)
    for gate in gates:
        options = Options(d_types(operand)[0], gate=gate)
        plan = problem.select(options, kernel=sku.name, math="fast")
        assert plan.precision_guarantee.deterministic
        first = problem.run(plan, options)
        for _ in range(5):
            assert torch.equal(problem.run(plan, options).bits, first.bits)


@pytest.mark.parametrize("over", GROUPED_LAYOUTS)
@pytest.mark.parametrize("device, operand", SERVED)
def test_a_plan_is_what_the_ranking_put_first(device: str, operand: str, over: str, seed: int) -> None:
    for layout in GROUPED_LAYOUTS[over]:
        groups = Groups((100, 28, 0, 300), 136, 264, over)
        problem = GroupedProblem(groups, operand, layout, device, generator(device, seed), 16)
        options = Options(operand)
        plan = problem.select(options)
        skus = cutplan.grouped_gemm_kernels(problem.descriptor(options), cutplan.device_properties(device))
        assert plan.sku.name == skus[0].name
        assert (plan.descriptor.over, plan.descriptor.groups) == (over, 4) and plan.device.startswith(device)
        assert problem.complaint(plan, options) is None
        with pytest.raises(cutplan.Unsupported, match="gemm.nonsense"):
            problem.select(options, kernel="gemm.nonsense")


@pytest.mark.parametrize("device, operand", SERVED)
def test_describe_fits_what_it_reads(device: str, operand: str, seed: int) -> None:
    for over, layouts in GROUPED_LAYOUTS.items():
        for layout in layouts:
            groups = Groups((5, 0, 40, 19), 72, 56, over, start=8, rest=8)
            problem = GroupedProblem(groups, operand, layout, device, generator(device, seed), 16)
            options = Options(operand)
            d = problem.output(options).view
            described = cutplan.describe_grouped(problem.a, problem.b, d, problem.offsets)
            assert str(described.over) == over and str(described.layout) == layout
            assert (described.groups, described.m, described.n, described.k) == (
                4,
                groups.m,
                groups.n,
                groups.k,
            )
            plan = cutplan.GroupedGemmPlan.select(described, device)
            assert problem.complaint(plan, options) is None


# ---- offsets


def test_offsets_that_the_host_refuses(seed: int) -> None:
    """Named with their index; D is left alone, and the next call works."""
    for over, layouts in GROUPED_LAYOUTS.items():
        groups = Groups((5, 6, 7), 9, 10, over, rest=2)
        problem = GroupedProblem(groups, "float32", layouts[0], "cpu", generator("cpu", seed))
        options = Options("float32")
        plan = problem.select(options)
        right = problem.offsets
        for offsets, says in (
            ([0, 5, 4, 18], ("operand offsets", "entry 2", "5", "got 4")),
            ([0, 5, 11, 21], ("operand offsets", "entry 3", "20", "got 21")),
            ([-1, 5, 11, 18], ("operand offsets", "entry 0", "0", "got -1")),
        ):
            problem.offsets = torch.tensor(offsets, dtype=torch.int32)
            out = problem.output(options)
            with pytest.raises(cutplan.InvalidProblem) as caught:
                problem.enqueue(plan, options, out.view)
            for pattern in says:
                assert re.search(pattern, str(caught.value)), f"{pattern!r} not in {str(caught.value)!r}"
            assert not out.touched()
        problem.offsets = right
        assert problem.complaint(plan, options) is None


@pytest.mark.cuda
@pytest.mark.parametrize("over", GROUPED_LAYOUTS)
@pytest.mark.parametrize("operand", TORCH)
def test_a_device_clamps_offsets(operand: str, over: str, seed: int) -> None:
    """It reads and writes nothing outside the operands; groups within them come out right."""
    layout = GROUPED_LAYOUTS[over][0]
    groups = Groups((40, 60, 100), 136, 72, over)
    options = Options(operand)
    failures = []
    for sku in listed(operand, over, layout, "cuda"):
        problem = GroupedProblem(groups, operand, layout, "cuda", generator("cuda", seed), 16)
        plan = problem.select(options, kernel=sku.name, math="fast")
        # beyond the end: as if it ended there
        problem.offsets = torch.tensor([0, 40, 100, 1 << 30], dtype=torch.int32, device="cuda")
        out = problem.run(plan, options)
        what = problem.wrong(plan, options, out)
        for wild in ([-7, 40, 100, 200], [90, 20, 250, -3], [2**31 - 1, -(2**31), 0, 2**31 - 1]):
            problem.offsets = torch.tensor(wild, dtype=torch.int32, device="cuda")
            out = problem.run(plan, options)
            what = what or out.stray_write()
        if what is not None:
            failures.append(f"{sku.name}: {what}")
    report(failures)


@pytest.mark.cuda
@pytest.mark.parametrize("over", GROUPED_LAYOUTS)
@pytest.mark.parametrize("operand", TORCH)
def test_a_captured_plan_takes_the_sizes_of_the_replay(operand: str, over: str, seed: int) -> None:
    """Other offsets between replays, and other operands: no host read, no new capture."""
    layout = GROUPED_LAYOUTS[over][0]
    options = Options(operand, bias=operand, activation="silu") if over == "m" else Options(operand)
    source = generator("cuda", seed)
    total = 300
    for sku in listed(operand, over, layout, "cuda"):
        problem = GroupedProblem(Groups((100, 100, 100), 136, 264, over), operand, layout, "cuda", source, 16)
        plan = problem.select(options, kernel=sku.name, math="fast")
        out = problem.output(options)
        workspace = poisoned_workspace(plan, "cuda") if plan.workspace_size else None
        named = problem.operands(options)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with capturing(graph):
            plan.run(problem.a, problem.b, out.view, problem.offsets, workspace=workspace, **named)
        assert not out.touched(), "a captured run must not execute"
        for sizes in ((100, 100, 100), (0, 299, 1), (300, 0, 0), (17, 130, 153), (5, 0, 6), (0, 0, 0)):
            start = random.Random(str((seed, sizes))).randrange(total - sum(sizes) + 1)
            problem.groups = replace(
                problem.groups, sizes=sizes, start=start, rest=total - start - sum(sizes)
            )
            problem.a.copy_(random_values(problem.a.shape, False, source))
            problem.offsets.copy_(torch.tensor(problem.groups.offsets, dtype=torch.int32))
            if workspace is not None:
                workspace.fill_(0xFF)
            out.integers.fill_(out.poison)
            graph.replay()
            what = problem.wrong(plan, options, out)
            assert what is None, f"{sku.name} {sizes} from {start}: {what}"


@pytest.mark.cuda
def test_a_run_reads_no_offset_on_the_host(seed: int) -> None:
    """It returns while the stream that makes the offsets still waits."""
    problem = GroupedProblem(Groups((64, 36), 72, 64), "float16", "rcr", "cuda", generator("cuda", seed), 16)
    options = Options("float16")
    plan = problem.select(options)
    out = problem.output(options)
    right = problem.offsets.clone()
    problem.offsets.fill_(0)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        problem.offsets.copy_(right)
        workspace = poisoned_workspace(plan, "cuda") if plan.workspace_size else None
        plan.run(problem.a, problem.b, out.view, problem.offsets, workspace=workspace)
        assert not stream.query(), "run() waited for the stream"
    stream.synchronize()
    assert problem.wrong(plan, options, out) is None


# ---- bad input

Call = dict[str, Any]
SIZES, N, K = (20, 0, 28), 40, 32
M = sum(SIZES)


@dataclass(frozen=True)
class Bad:
    """One way to misuse `run`, as a change to the arguments of a good call."""

    name: str
    error: str
    says: tuple[str, ...]  # patterns that the message must all contain
    change: Callable[[Call], Call]
    epilogue: dict[str, Any] = field(default_factory=dict)


def put(**new: Callable[[Call], Any]) -> Callable[[Call], Call]:
    return lambda call: {**call, **{name: make(call) for name, make in new.items()}}


WITH_BIAS = {"bias": "float16"}
WITH_SCALES = {"row_scale": True, "column_scale": True}
GATED = {"gate": "separate", "bias": "float16"}


def misplaced(operand: str, epilogue: dict[str, Any] | None = None) -> Bad:
    """The operand at an address within an element."""
    element = 4 if operand == "offsets" or "scale" in operand else 2
    says = (f"operand {operand}:", f"multiple of {element} bytes", "1 past one")
    change = put(**{operand: lambda x: askew(x[operand])})
    return Bad(f"{operand}_address", "Misaligned", says, change, epilogue or {})


BAD_CALLS = [
    *(misplaced(operand) for operand in ("a", "b", "d", "offsets")),
    *(misplaced(operand, GATED) for operand in ("b2", "bias", "bias2")),
    *(misplaced(operand, WITH_SCALES) for operand in ("row_scale", "column_scale")),
    Bad(
        "a_rank_3",
        "ShapeMismatch",
        ("operand a", rf"\[{M}, {K}\]", "got"),
        put(a=lambda x: x["a"].expand(2, M, K)),
    ),
    Bad(
        "a_rows",
        "ShapeMismatch",
        ("operand a", rf"\[{M}, {K}\]", rf"got \[{M - 1}, {K}\]"),
        put(a=lambda x: x["a"][1:]),
    ),
    Bad(
        "b_rank_2",
        "ShapeMismatch",
        ("operand b", rf"\[3, {K}, {N}\]", rf"got \[{K}, {N}\]"),
        put(b=lambda x: x["b"][0]),
    ),
    Bad(
        "b_groups",
        "ShapeMismatch",
        ("operand b", rf"\[3, {K}, {N}\]", rf"got \[2, {K}, {N}\]"),
        put(b=lambda x: x["b"][:2]),
    ),
    Bad("b_layout", "LayoutMismatch", ("operand b", "column-major"), put(b=lambda x: x["b"].contiguous())),
    Bad(
        "b_dtype",
        "DTypeMismatch",
        ("operand b", "float16 required", "got float32"),
        put(b=lambda x: x["b"].float()),
    ),
    Bad(
        "d_rows",
        "ShapeMismatch",
        ("operand d", rf"\[{M}, {N}\]", rf"got \[{M - 1}, {N}\]"),
        put(d=lambda x: x["d"][1:]),
    ),
    Bad("d_missing", "MissingOperand", ("operand d", "not given"), put(d=lambda x: None)),
    Bad("offsets_missing", "MissingOperand", ("operand offsets", "not given"), put(offsets=lambda x: None)),
    Bad(
        "offsets_dtype",
        "DTypeMismatch",
        ("operand offsets", "int32 required", "got int64"),
        put(offsets=lambda x: x["offsets"].long()),
    ),
    Bad(
        "offsets_length",
        "ShapeMismatch",
        ("operand offsets", r"\[4\]", r"got \[3\]"),
        put(offsets=lambda x: x["offsets"][1:]),
    ),
    Bad(
        "offsets_rank",
        "ShapeMismatch",
        ("operand offsets", r"\[4\]", r"got \[1, 4\]"),
        put(offsets=lambda x: x["offsets"][None]),
    ),
    Bad(
        "offsets_strided",
        "LayoutMismatch",
        ("operand offsets", "contiguous", "got stride 2"),
        put(offsets=lambda x: x["offsets"].repeat_interleave(2)[::2]),
    ),
    Bad(
        "bias_rank_1",
        "ShapeMismatch",
        ("operand bias", rf"\[3, {N}\]", rf"got \[{N}\]"),
        put(bias=lambda x: x["bias"][0]),
        WITH_BIAS,
    ),
    Bad("bias_missing", "MissingOperand", ("operand bias", "not given"), put(bias=lambda x: None), WITH_BIAS),
    Bad(
        "bias_unexpected",
        "MissingOperand",
        ("operand bias", "without it"),
        put(bias=lambda x: x["d"].new_zeros(3, N)),
    ),
    Bad(
        "bias_dtype",
        "DTypeMismatch",
        ("operand bias", "got bfloat16"),
        put(bias=lambda x: x["bias"].bfloat16()),
        WITH_BIAS,
    ),
    Bad(
        "row_scale_shape",
        "ShapeMismatch",
        ("operand row_scale", rf"\[{M}\]", rf"got \[{M - 1}\]"),
        put(row_scale=lambda x: x["row_scale"][1:]),
        WITH_SCALES,
    ),
    Bad(
        "row_scale_dtype",
        "DTypeMismatch",
        ("operand row_scale", "float32 required", "got float16"),
        put(row_scale=lambda x: x["row_scale"].half()),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_shape",
        "ShapeMismatch",
        ("operand column_scale", rf"\[3, {N}\]", rf"got \[{N}\]"),
        put(column_scale=lambda x: x["column_scale"][0]),
        WITH_SCALES,
    ),
    Bad(
        "column_scale_missing",
        "MissingOperand",
        ("operand column_scale", "not given"),
        put(column_scale=lambda x: None),
        WITH_SCALES,
    ),
    Bad("b2_missing", "MissingOperand", ("operand b2", "not given"), put(b2=lambda x: None), GATED),
    Bad(
        "b2_shape",
        "ShapeMismatch",
        ("operand b2", rf"\[3, {K}, {N}\]", "got"),
        put(b2=lambda x: x["b2"][:2]),
        GATED,
    ),
    Bad("bias2_missing", "MissingOperand", ("operand bias2", "not given"), put(bias2=lambda x: None), GATED),
    Bad("b2_unexpected", "MissingOperand", ("operand b2", "without it"), put(b2=lambda x: x["b"])),
    Bad("alpha_nan", "InvalidProblem", ("alpha", "finite", "got nan"), put(alpha=lambda x: float("nan"))),
    Bad(
        "d_on_a",
        "Overlap",
        ("operand d", "operand a"),
        put(a=lambda x: x["d"].view(-1).as_strided((M, K), (K, 1))),
    ),
    Bad("d_on_itself", "Overlap", ("operand d",), put(d=lambda x: x["d"][:1].expand(M, N))),
]


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(bad: Bad, device: str, seed: int) -> None:
    options = Options("float16", **bad.epilogue)
    groups = Groups(SIZES, N, K)
    problem = GroupedProblem(groups, "float16", "rcr", device, generator(device, seed), 16)
    plan = problem.select(options)
    d = torch.full((M, N), torch.nan, dtype=torch.float16, device=device)
    before = d.view(torch.int16).clone()
    call: Call = {
        "a": problem.a,
        "b": problem.factor(options),
        "d": d,
        "offsets": problem.offsets,
        **problem.operands(options),
    }
    for entrance in (plan.run, plan.can_implement):
        changed = bad.change(call)
        with pytest.raises(getattr(cutplan, bad.error)) as caught:
            entrance(*[changed.pop(name) for name in ("a", "b", "d", "offsets")], **changed)
        assert type(caught.value) is getattr(cutplan, bad.error)
        for pattern in bad.says:
            assert re.search(pattern, str(caught.value)), f"{pattern!r} not in {str(caught.value)!r}"
    assert torch.equal(d.view(torch.int16), before), "d was written"
    assert problem.complaint(plan, options) is None, "the next call is wrong"


@pytest.mark.cuda
@pytest.mark.parametrize("operand", ["a", "b", "d", "offsets"])
def test_wrong_device(operand: str, device: str, seed: int) -> None:
    problem = GroupedProblem(Groups(SIZES, N, K), "float16", "rcr", device, generator(device, seed), 16)
    options = Options("float16")
    plan = problem.select(options)
    call = {"a": problem.a, "b": problem.b, "d": problem.output(options).view, "offsets": problem.offsets}
    call[operand] = call[operand].cpu() if device == "cuda" else call[operand].cuda()
    got = "cpu" if device == "cuda" else "cuda"
    with pytest.raises(cutplan.DeviceMismatch, match=f"operand {operand}: must be on {device}.*got {got}"):
        plan.run(*call.values())


@pytest.mark.parametrize(
    "error, says, fields",
    [
        ("InvalidProblem", ("groups", ">= 0 required", "got -1"), {"groups": -1}),
        ("InvalidProblem", ("^m:", "got -8"), {"m": -8}),
        ("InvalidProblem", ("^n:", "got -8"), {"n": -8}),
        ("InvalidProblem", ("^k:", "got -8"), {"k": -8}),
        ("Unsupported", ("layout", "crr"), {"layout": "crr"}),
        ("Unsupported", ("layout", "rcc"), {"layout": "rcc"}),
        ("Unsupported", ("layout", "crr", "got rcr"), {"over": "k"}),
        ("Unsupported", ("c", "over m|grouped"), {"epilogue": {"c": True}}),
        ("Unsupported", ("residual", "over m|grouped"), {"epilogue": {"residual": True}}),
        ("Unsupported", ("aux", "over m|grouped"), {"epilogue": {"aux": "store"}}),
        ("Unsupported", ("bias", "over m|rows|\\bn\\b"), {"epilogue": {"bias": "m"}}),
        (
            "Unsupported",
            ("bias", "over k|\\bk\\b"),
            {"over": "k", "layout": "crr", "epilogue": {"bias": True}},
        ),
        (
            "Unsupported",
            ("activation", "over k|\\bk\\b"),
            {"over": "k", "layout": "crr", "epilogue": {"activation": "relu"}},
        ),
        (
            "Unsupported",
            ("gate", "over k|\\bk\\b"),
            {"over": "k", "layout": "crr", "epilogue": {"gate": "separate"}},
        ),
        (
            "Unsupported",
            ("row_scale", "over k|\\bk\\b"),
            {"over": "k", "layout": "crr", "epilogue": {"row_scale": True}},
        ),
        ("Unsupported", ("operands a and b", "float16 and bfloat16"), {"b": "bfloat16"}),
        ("Unsupported", ("operand d", "got float64"), {"d": "float64"}),
    ],
    ids=lambda x: str(x)[:60],
)
def test_bad_descriptor(error: str, says: tuple[str, ...], fields: dict[str, Any], device: str) -> None:
    good = {"groups": 3, "m": M, "n": N, "k": K, "a": "float16"}
    bad = {**good, **fields}
    if "epilogue" in bad:
        bad["epilogue"] = cutplan.Epilogue(**bad["epilogue"])
    with pytest.raises(getattr(cutplan, error)) as caught:
        cutplan.GroupedGemmPlan.select(cutplan.GroupedGemmDescriptor(**bad), device)
    assert type(caught.value) is getattr(cutplan, error)
    for pattern in says:
        assert re.search(pattern, str(caught.value)), f"{pattern!r} not in {str(caught.value)!r}"
    assert cutplan.GroupedGemmPlan.select(cutplan.GroupedGemmDescriptor(**good), device).sku.name


# ---- grouped_matmul


@pytest.mark.parametrize("device, operand", SERVED)
def test_grouped_matmul_over_m(device: str, operand: str, seed: int) -> None:
    """A fresh result, one that is given, gates and biases; rows of no group in `out` are left alone."""
    for layout in GROUPED_LAYOUTS["m"]:
        groups = Groups((20, 0, 33, 1), 40, 48, start=4, rest=5)
        problem = GroupedProblem(groups, operand, layout, device, generator(device, seed), 16)
        gates: Gates = (None, *GATES) if device == "cpu" or layout == "rcr" else (None, "separate")
        if device == "cuda" and operand in ("float32", "float64"):
            gates = (None,)
        for gate in gates:
            alpha = 1.0 if gate is None else 0.125
            options = Options(operand, bias=operand, activation="silu", gate=gate, alpha=alpha)
            if operand != "float64":
                options = replace(options, row_scale=True, column_scale=gate is None)
            plan = problem.select(options)
            named = {**problem.operands(options), "activation": "silu"}
            if gate == "interleaved":
                named["gate"] = gate
            b = problem.factor(options)
            fresh = cutplan.grouped_matmul(problem.a, b, problem.offsets, **named)
            assert fresh.shape == (groups.m, groups.n) and fresh.dtype == problem.a.dtype
            for group in range(len(groups.sizes)):
                expected = problem.expected(options, group)
                what = complaint(fresh[problem.rows(group)], expected, plan.precision_guarantee)
                assert what is None, f"group {group}: {what}"
            out = problem.output(options)
            returned = cutplan.grouped_matmul(problem.a, b, problem.offsets, out=out.view, **named)
            assert returned is out.view
            assert problem.wrong(plan, options, out) is None


@pytest.mark.parametrize("device, operand", SERVED)
def test_grouped_matmul_over_k(device: str, operand: str, seed: int) -> None:
    """The weight gradient of the same groups: X^T G for each, as transposed views."""
    groups = Groups((20, 0, 33, 1), 40, 48, "k", start=4, rest=5)
    problem = GroupedProblem(groups, operand, "crr", device, generator(device, seed), 16)
    wide = "float64" if operand == "float64" else "float32"
    for d in (operand, wide):
        options = Options(d, alpha=0.5)
        plan = problem.select(options)
        result = cutplan.grouped_matmul(problem.a, problem.b, problem.offsets, alpha=0.5, out_dtype=d)
        assert result.shape == (4, groups.m, groups.n) and result.dtype == TORCH[d]
        for group in range(4):
            what = complaint(result[group], problem.expected(options, group), plan.precision_guarantee)
            assert what is None, f"group {group}: {what}"
        assert (result[1] == 0).all()


def test_grouped_matmul_and_its_gradients(seed: int) -> None:
    """A layer of experts, forward and backward, against autograd on each expert alone, in float64."""
    source = generator("cpu", seed)
    sizes, n, k = (7, 0, 12, 5), 6, 9
    x = torch.randn(sum(sizes), k, dtype=torch.float64, generator=source)
    w = torch.randn(len(sizes), k, n, dtype=torch.float64, generator=source)
    grad = torch.randn(sum(sizes), n, dtype=torch.float64, generator=source)
    offsets = torch.tensor([0, 7, 7, 19, 24], dtype=torch.int32)
    y = cutplan.grouped_matmul(x, w, offsets)
    dx = cutplan.grouped_matmul(grad, w.mT, offsets)
    dw = cutplan.grouped_matmul(x.T, grad, offsets)
    plan = cutplan.GroupedGemmPlan.select(
        cutplan.GroupedGemmDescriptor(groups=4, m=24, n=6, k=24, a="float64", layout="rrr"), "cpu"
    )
    for group, (first, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        part = slice(first, end)
        for result, left, right in (
            (y[part], x[part], w[group]),
            (dx[part], grad[part], w[group].T),
            (dw[group], x[part].T, grad[part]),
        ):
            what = complaint(result, reference(Product.of(left, right)), plan.precision_guarantee)
            assert what is None, f"group {group}: {what}"


def test_grouped_matmul_refuses(seed: int) -> None:
    x, w = torch.zeros(8, 4), torch.zeros(2, 4, 3)
    offsets = torch.tensor([0, 3, 8], dtype=torch.int32)
    for error, says, call in (
        ("ShapeMismatch", "operand b", lambda: cutplan.grouped_matmul(x, w[:, :3], offsets)),
        ("ShapeMismatch", "operand offsets", lambda: cutplan.grouped_matmul(x, w, offsets[:2])),
        ("ShapeMismatch", "operand a", lambda: cutplan.grouped_matmul(x[None], w, offsets)),
        ("DTypeMismatch", "operand offsets", lambda: cutplan.grouped_matmul(x, w, offsets.long())),
        ("InvalidProblem", "operand offsets: entry 1", lambda: cutplan.grouped_matmul(x, w, offsets.flip(0))),
    ):
        with pytest.raises(getattr(cutplan, error), match=says):
            call()
