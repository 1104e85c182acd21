"""Order and company: work lands on the stream that was asked for, streams and threads leave each other alone,
and a plan runs on its own device."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

import cutplan
from tests.environment import allocates
from tests.gemm.operands import Packing
from tests.gemm.problems import Options, Problem, Shape, generator, poisoned_workspace
from tests.gemm.test_kernels import has_kernel
from tests.oracle import complaint

pytestmark = pytest.mark.cuda

# Long enough that a run which does not wait for its stream is seen to have run too early.
_CYCLES = 50_000_000


# What is multiplied, with what its epilogue adds.
KINDS = {
    "float16": Options("float16"),
    "int8": Options("bfloat16", a_scale="row", b_scale="column"),
    "float8_e4m3fn": Options("bfloat16", a_scale="tensor", b_scale="tensor"),
    "float16*int4": Options("float16", weights=Packing(zero="integers")),
    "bfloat16*int8": Options("bfloat16"),
    "bfloat16*nf4": Options("bfloat16"),
}
kinds = pytest.mark.parametrize("operand", KINDS)


@kinds
@pytest.mark.parametrize("how", ["explicit", "integer", "current"])
def test_runs_on_the_stream_it_is_given(how: str, operand: str, seed: int) -> None:
    if not has_kernel("cuda", operand, "rcr"):
        return
    problem = Problem(Shape(256, 256, 256), operand, "rcr", "cuda", generator("cuda", seed), 16)
    options = KINDS[operand]
    factor, named = problem.factor(options), problem.operands(options)
    plan = problem.select(options, max_workspace_bytes=0)
    expected = problem.expected(options)
    out = problem.output(options)
    late = problem.a.clone()
    problem.a.zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(_CYCLES)
        problem.a.copy_(late)
        if how == "current":
            plan.run(problem.a, factor, out.view, **named)
    if how != "current":
        handle = stream if how == "explicit" else stream.cuda_stream
        plan.run(problem.a, factor, out.view, stream=handle, **named)
    assert not stream.query(), "run() waited for the stream"
    stream.synchronize()
    assert complaint(out.view, expected, plan.precision_guarantee) is None


@kinds
def test_two_streams(operand: str, seed: int) -> None:
    """Two plans at once, each with scratch of its own, many times over."""
    if not has_kernel("cuda", operand, "rcr"):
        return
    options = replace(KINDS[operand], bias=KINDS[operand].d, activation="gelu_erf")
    other = "rrr" if has_kernel("cuda", operand, "rrr") else "rcr"
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    problems = [
        Problem(Shape(1024, 1000, 2048), operand, "rcr", "cuda", generator("cuda", seed), 16),
        Problem(Shape(64, 128, 32768), operand, other, "cuda", generator("cuda", seed + 1), 16),
    ]
    plans = [problem.select(options) for problem in problems]
    scratch = [poisoned_workspace(plan, "cuda") if plan.workspace_size else None for plan in plans]
    outs = [[problem.output(options) for _ in range(20)] for problem in problems]
    named = [problem.operands(options) for problem in problems]
    factors = [problem.factor(options) for problem in problems]
    torch.cuda.synchronize()
    for i in range(20):
        for problem, plan, stream, workspace, out, factor, terms in zip(
            problems, plans, streams, scratch, outs, factors, named, strict=True
        ):
            plan.run(problem.a, factor, out[i].view, **terms, stream=stream, workspace=workspace)
    torch.cuda.synchronize()
    for problem, plan, out in zip(problems, plans, outs, strict=True):
        for one in out:
            assert one.stray_write() is None
            assert complaint(one.view, problem.expected(options), plan.precision_guarantee) is None
            assert torch.equal(one.view, out[0].view)


def test_two_threads(seed: int) -> None:
    """One plan shared by two threads, each on a stream of its own, while both select further plans."""
    options = Options("float16", c="float16", beta=1.0)
    problems = [
        Problem(Shape(300, 264, 512), "float16", "rcr", "cuda", generator("cuda", seed + i), 16)
        for i in range(2)
    ]
    plan = problems[0].select(options, max_workspace_bytes=0)
    expected = [problem.expected(options) for problem in problems]
    outs = [[problem.output(options) for _ in range(50)] for problem in problems]
    torch.cuda.synchronize()
    failures: list[BaseException] = []

    def work(which: int) -> None:
        try:
            problem, stream = problems[which], torch.cuda.Stream()
            for i, out in enumerate(outs[which]):
                cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=64 + i, n=64, k=64, a="float16"), "cuda")
                c = problem.extra("c", "float16")
                plan.run(problem.a, problem.b, out.view, c=c, beta=1.0, stream=stream)
            stream.synchronize()
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for which, runs in enumerate(outs):
        for out in runs:
            assert out.stray_write() is None
            assert complaint(out.view, expected[which], plan.precision_guarantee) is None


@kinds
def test_run_allocates_nothing(operand: str, seed: int) -> None:
    if not has_kernel("cuda", operand, "rcr"):
        return
    problem = Problem(Shape(64, 128, 32768), operand, "rcr", "cuda", generator("cuda", seed), 16)
    options = KINDS[operand]
    factor, named = problem.factor(options), problem.operands(options)
    plan = problem.select(options)
    out, workspace = (
        problem.output(options),
        torch.empty(plan.workspace_size + 1, dtype=torch.uint8, device="cuda"),
    )
    plan.run(problem.a, factor, out.view, workspace=workspace, **named)

    def work() -> None:
        for _ in range(100):
            plan.run(problem.a, factor, out.view, workspace=workspace, **named)

    assert not allocates(work)


@kinds
def test_sm_count_is_honoured_without_changing_the_answer(operand: str, seed: int) -> None:
    if not has_kernel("cuda", operand, "rcr"):
        return
    problem = Problem(Shape(1111, 1000, 520), operand, "rcr", "cuda", generator("cuda", seed), 16)
    options = replace(KINDS[operand], bias=KINDS[operand].d)
    for sms in (1, 8, 100):
        plan = problem.select(options, sm_count=sms)
        assert problem.complaint(plan, options) is None


@pytest.mark.two_gpus
def test_second_device(seed: int) -> None:
    """A plan for cuda:1 runs there while cuda:0 is current, and leaves cuda:0 current."""
    options = Options("float16", bias="float16")
    problem = Problem(Shape(200, 136, 264), "float16", "rrr", "cuda:1", generator("cuda:1", seed), 16)
    torch.cuda.set_device(0)
    plan = problem.select(options)
    assert plan.device == "cuda:1"
    assert problem.complaint(plan, options) is None
    assert torch.cuda.current_device() == 0
    here = Problem(Shape(200, 136, 264), "float16", "rrr", "cuda:0", generator("cuda:0", seed), 16)
    with pytest.raises(cutplan.DeviceMismatch, match="operand a: must be on cuda:1.*got cuda:0"):
        plan.run(here.a, here.b, here.output(options).view, bias=here.extra("bias", "float16"))
