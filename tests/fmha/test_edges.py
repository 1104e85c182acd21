"""Where there is little or nothing to attend to, and where there is more than 32 bits or a grid can count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import cutplan
from tests.fmha.oracle import Operands, attention
from tests.fmha.problems import SERVED, TORCH, Case, Problem, generator, poisoned_workspace, report
from tests.gemm.problems import askew
from tests.oracle import Reference, complaint

GRADIENTS = ("dq", "dk", "dv")


def both(
    case: Case, device: str, source: torch.Generator
) -> tuple[Problem, dict[str, torch.Tensor], str | None]:
    """Both passes: the problem, everything they wrote, and what is wrong with it."""
    problem = Problem(case, device, source)
    written: dict[str, torch.Tensor] = {}
    for plan in (problem.select(), problem.select_backward()):
        outputs = problem.outputs(plan)
        problem.enqueue(plan, outputs)
        if what := problem.judge(plan, outputs):
            return problem, written, what
        written |= {name: memory.view for name, memory in outputs.items()}
    return problem, written, None


@pytest.mark.parametrize("device, operand", SERVED)
def test_extents_of_nothing_and_of_one(device: str, operand: str, seed: int) -> None:
    """Zero and one in every extent that may be, forward and backward, plain and with everything on."""
    source = generator(device, seed)
    failures = []
    full: dict[str, Any] = {
        "softcap": 5.0,
        "alibi": "h",
        "bias": operand,
        "mask": "bhqk",
        "sink": True,
        "dropout_p": 0.5,
    }
    for extents in (
        {"batch": 0, "seq_q": 17, "seq_k": 9},
        {"heads": 0, "seq_q": 17, "seq_k": 9},
        {"seq_q": 0, "seq_k": 9},
        {"seq_q": 17, "seq_k": 0},
        {"seq_q": 0, "seq_k": 0},
        {"seq_q": 1, "seq_k": 1},
        {"seq_q": 1, "seq_k": 300},
        {"seq_q": 300, "seq_k": 1},
        {"seq_q": 1, "seq_k": 1, "dim": 1},
        {"packed": ((0, 0), (0, 0))},
        {"packed": ((5, 0), (0, 7), (3, 3), (1, 200))},
        {"packed": ()},
        {"seq_q": 40, "seq_k": 33, "seqused_k": (0, 0)},
        {"seq_q": 40, "seq_k": 33, "seqused_k": (1, 0)},
    ):
        for options in ({}, full, {"causal": "bottom_right"}, {"causal": "top_left", "sink": True}):
            if "packed" in extents:
                options = {name: value for name, value in options.items() if name not in ("bias", "mask")}
            case = Case(**{"dtype": operand, **extents, **options})
            failures.append(both(case, device, source)[2])
    report([failure for failure in failures if failure])


@pytest.mark.parametrize("device, operand", SERVED)
@pytest.mark.parametrize("dim", [64, 256])
@pytest.mark.parametrize("why", ["causal", "mask", "window", "lengths", "bias"])
def test_fully_masked_rows(device: str, operand: str, dim: int, why: str, seed: int) -> None:
    """Output exactly 0, LSE -inf, gradients exactly 0; with a sink the LSE is the sink."""
    seq_q, seq_k = 150, 90
    options: dict[str, dict[str, Any]] = {
        "causal": {"causal": "bottom_right"},
        "mask": {"mask": "bhqk"},
        "window": {"window": (-1, 5)},
        "lengths": {"seqused_k": (0, 7), "causal": "bottom_right"},
        "bias": {"bias": operand},
    }
    case = Case(seq_q, seq_k, dim, dtype=operand, heads_k=1, **options[why])
    problem = Problem(case, device, generator(device, seed))
    reference = problem.operands()
    if why == "bias":  # -inf excludes a key as a mask does
        lets = torch.rand(2, 2, seq_q, seq_k, device=device, generator=problem.source) < 0.8
        lets[:, :, 7:90] = False
        problem.bias.masked_fill_(~lets, -torch.inf)
        reference = replace(reference, bias=problem.bias.masked_fill(~lets, 0.0), mask=lets)
    if why == "mask":
        problem.mask[:, 1, 3:77] = False
        problem.mask[1, 0] = False
    problem.expected = attention(reference)
    empty = problem.expected["lse"].exact == -torch.inf
    assert 50 < int(empty.sum()) < empty.numel()
    forward, backward = problem.select(), problem.select_backward()
    written = {}
    for plan in (forward, backward):
        outputs = problem.outputs(plan)
        problem.enqueue(plan, outputs)
        assert problem.judge(plan, outputs) is None
        written |= {name: memory.view for name, memory in outputs.items()}
    assert (written["o"][empty] == 0).all() and (written["lse"][empty] == -torch.inf).all()
    assert (written["dq"][empty] == 0).all()
    # a key that no query sees, and every key where no query sees any
    unseen = problem.expected["dv"].magnitude == 0
    assert (written["dv"][unseen] == 0).all()
    unseen = problem.expected["dk"].magnitude == 0
    assert (written["dk"][unseen] == 0).all()


@pytest.mark.parametrize("device, operand", SERVED)
def test_a_sink_alone(device: str, operand: str, seed: int) -> None:
    """Rows that see no key, but a sink: output 0, LSE the sink, no gradient for it to take."""
    case = Case(70, 50, dtype=operand, sink=True, seqused_k=(0, 50))
    problem, written, what = both(case, device, generator(device, seed))
    assert what is None
    assert (written["o"][0] == 0).all() and (written["dq"][0] == 0).all()
    assert torch.equal(written["lse"][0], problem.sink[:, None].expand(2, 70))
    assert all((written[name][0] == 0).all() for name in ("dk", "dv"))


def test_many_heads_and_batches(device: str, seed: int) -> None:
    """More (batch, head) pairs than a grid has rows: 65535."""
    failures = []
    for batch, heads, heads_k, layout in (
        (1, 65540, 65540, "bhsd"),
        (65540, 1, 1, "bshd"),
        (300, 220, 110, "bhsd"),
        (2, 32770, 1, "bshd"),
    ):
        case = Case(2, 3, 8, batch=batch, heads=heads, heads_k=heads_k, layout=layout, alibi="h")
        failures.append(both(case, device, generator(device, seed))[2])
    lengths = tuple((index % 3, index % 4) for index in range(700))
    case = Case(packed=lengths, dim=8, heads=100, causal="top_left")
    failures.append(both(case, device, generator(device, seed))[2])
    report([failure for failure in failures if failure])


@pytest.mark.parametrize("device, operand", SERVED)
def test_large_scores(device: str, operand: str, seed: int) -> None:
    """Scores of hundreds and thousands: one key takes all the weight, and nothing overflows on the way."""
    for size in (30.0, 1000.0):
        problem = Problem(
            Case(65, 130, 64, dtype=operand, causal="bottom_right"), device, generator(device, seed)
        )
        problem.q.copy_(problem.q.sign() * 3)
        problem.k.copy_(
            torch.randn(problem.k.shape, generator=problem.source, device=device).sign() * size / 24
        )
        problem.__dict__.pop("expected", None)
        for plan in (problem.select(), problem.select_backward()):
            written = problem.run(plan)
            for name, value in written.items():
                assert value.isfinite().all(), (plan.sku.name, name, size)
            assert problem.complaint(plan) is None


@pytest.mark.parametrize("device, operand", SERVED)
def test_nan_stays_in_its_row(device: str, operand: str, seed: int) -> None:
    """A NaN among a query's values is a NaN in its output alone; one in a key reaches who sees the key."""
    problem = Problem(
        Case(100, 100, dtype=operand, causal="top_left", batch=1), device, generator(device, seed)
    )
    plan = problem.select()
    problem.q[0, 0, 31, 3] = torch.nan
    problem.k[0, 1, 60, 5] = torch.nan
    o = problem.run(plan)["o"]
    assert o[0, 0, 31].isnan().all() and not o[0, 0, :31].isnan().any() and not o[0, 0, 32:].isnan().any()
    assert o[0, 1, 60:].isnan().all() and not o[0, 1, :60].isnan().any()


@pytest.mark.cuda
@pytest.mark.large
@pytest.mark.parametrize("layout", ["bhsd", "bshd"])
def test_beyond_two_to_the_31_elements(layout: str, seed: int) -> None:
    """Operands that 32-bit offsets cannot address, forward and backward; checked in slices."""
    batch, heads, seq, dim = 9, 32, 60000, 128
    assert batch * heads * seq * dim > 2**31
    source = generator("cuda", seed)
    shape = (batch, heads, seq, dim) if layout == "bhsd" else (batch, seq, heads, dim)
    window = {"window": (100, 20), "layout": layout}

    def make() -> torch.Tensor:
        return torch.randn(shape, device="cuda", generator=source, dtype=torch.bfloat16)

    q, k = make(), make()
    v = k  # the same memory twice is an input like any other
    o, lse = cutplan.attention(q, k, v, return_lse=True, **window)
    grad = q
    gradients = cutplan.attention_backward(grad, q, k, v, o, lse, **window)
    forward = cutplan.FmhaDescriptor(
        batch=batch, heads=heads, seq_q=seq, seq_k=seq, dim=dim, dtype="bfloat16", lse=True, **window
    )
    bounds = [
        cutplan.FmhaPlan.select(forward, "cuda").precision_guarantee,
        cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward), "cuda").precision_guarantee,
    ]
    for b, h in ((0, 0), (batch // 2, 5), (batch - 1, heads - 1)):
        for first in (0, seq // 2, seq - 2048):
            # a stretch of rows: what is farther from its ends than two windows depends on nothing else
            rows = slice(first, first + 2048)
            part = [
                t[b, h, rows] if layout == "bhsd" else t[b, rows, h]
                for t in (q, k, v, grad, o, *gradients[:3])
            ]
            *operands, po, dq, dk, dv = (t[None, None] for t in part)
            exact = attention(Operands(*operands, window=(100, 20)), torch.bfloat16, computed_o=True)
            inner = slice(0 if first == 0 else 300, 2048 if first + 2048 == seq else 2048 - 300)
            for name, computed in (("o", po), ("dq", dq), ("dk", dk), ("dv", dv)):
                whole = exact[name]
                assert whole.scores is not None
                middle = (
                    t.expand_as(whole.exact)[:, :, inner]
                    for t in (whole.exact, whole.magnitude, whole.error, whole.scores)
                )
                what = complaint(computed[:, :, inner], Reference(*middle), bounds[name != "o"], name)
                assert what is None, f"batch {b}, head {h}, rows from {first}: {what}"


@pytest.mark.cuda
@pytest.mark.large
def test_strides_beyond_two_to_the_31(seed: int) -> None:
    """Few elements, far apart: every outer stride in turn exceeds 32 bits."""
    source = generator("cuda", seed)
    far = 2**31 + 64
    room = torch.empty(2 * far + 2**20, dtype=torch.float16, device="cuda")
    for dim in range(3):
        problem = Problem(
            Case(3, 130, batch=3, heads=3) if dim < 2 else Case(130, 3, batch=2, heads=2), "cuda", source
        )
        shape = problem.k.shape
        strides = [2**16, 2**14, 64]
        strides[dim] = far
        if dim == 2:
            strides[:2] = [2**16, 2**10]
        for name in ("k", "v"):
            start = 0 if name == "k" else 2**19
            spread = room.as_strided(shape, (*strides, 1), start)
            spread.copy_(getattr(problem, name))
            setattr(problem, name, spread)
        for plan in (problem.select(), problem.select_backward()):
            assert problem.complaint(plan) is None


@pytest.mark.parametrize("device, operand", SERVED)
def test_an_address_within_an_element(device: str, operand: str, seed: int) -> None:
    """Refused by name, whatever the operand: on a GPU reading there ends the context."""
    case = Case(
        20,
        30,
        dtype=operand,
        alibi="h",
        bias=operand,
        sink=True,
        seqused_k=(7, 30),
        dropout_p=0.5,
        narrow=True,
    )
    problem = Problem(case, device, generator(device, seed))
    forward, backward = problem.select(), problem.select_backward()
    outputs = {**problem.outputs(forward), **problem.outputs(backward)}
    whole = {name: getattr(problem, name) for name in ("grad", "q", "k", "v")}
    whole |= {name: memory.view for name, memory in outputs.items()} | problem.options
    options = set(problem.options)
    mains = (("q", "k", "v", "o"), ("grad", "q", "k", "v", "o", "lse", "dq", "dk", "dv"))
    scratch = [poisoned_workspace(plan, device) for plan in (forward, backward)]
    for plan, main, workspace in zip((forward, backward), mains, scratch, strict=True):
        further = options | ({"lse"} if plan is forward else {"dbias", "dalibi_slopes", "dsink"})
        for name in [*main, *sorted(further - {"scale", "dropout_p"})]:
            given = whole | {name: askew(whole[name])}
            with pytest.raises(cutplan.Misaligned, match=f"operand {name}: an address that is a multiple of"):
                plan.run(*(given[x] for x in main), **{x: given[x] for x in further}, workspace=workspace)
        assert problem.complaint(plan) is None  # on a GPU: the context lives


@pytest.mark.parametrize("device, operand", SERVED)
def test_types_of_the_output(device: str, operand: str, seed: int) -> None:
    """float32 outputs and gradients of 16-bit operands keep the narrower bound that their plan gives."""
    if operand in ("float32", "float64"):
        plans = [Problem(Case(8, 8, dtype=operand), device, generator(device, seed)).select()]
        assert plans[0].precision_guarantee.rounding == torch.finfo(TORCH[operand]).eps / 2
        return
    for o, grad in ((operand, "float32"), ("float32", operand), ("float32", "float32")):
        problem = Problem(Case(90, 70, dtype=operand, o=o, grad=grad), device, generator(device, seed))
        for plan, stored in ((problem.select(), o), (problem.select_backward(), grad)):
            assert plan.precision_guarantee.rounding == torch.finfo(TORCH[stored]).eps / 2
            assert problem.complaint(plan) is None
