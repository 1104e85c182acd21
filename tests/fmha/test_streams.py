"""Order and company: work lands on the stream that was asked for, streams and threads leave each other alone,
and a plan runs on its own device."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

import cutplan
from tests.environment import allocates
from tests.fmha.problems import Case, Problem, generator, poisoned_workspace

pytestmark = pytest.mark.cuda

# Long enough that a run which does not wait for its stream is seen to have run too early.
_CYCLES = 50_000_000


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("how", ["explicit", "integer", "current"])
def test_runs_on_the_stream_it_is_given(how: str, backward: bool, seed: int) -> None:
    problem = Problem(Case(256, 256), "cuda", generator("cuda", seed))
    plan = problem.select_backward() if backward else problem.select()
    outputs = problem.outputs(plan)
    keywords: dict[str, Any] = {"given": problem.given} if backward else {}
    if plan.workspace_size:
        keywords["workspace"] = poisoned_workspace(plan, "cuda")
    late = problem.q.clone()
    problem.q.fill_(torch.nan)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(_CYCLES)
        problem.q.copy_(late)
        if how == "current":
            problem.enqueue(plan, outputs, **keywords)
    if how != "current":
        problem.enqueue(plan, outputs, stream=stream if how == "explicit" else stream.cuda_stream, **keywords)
    assert not stream.query(), "run() waited for the stream"
    stream.synchronize()
    assert problem.judge(plan, outputs) is None


def test_two_streams(seed: int) -> None:
    """Forward and backward plans at once, each with scratch of its own, many times over."""
    problems = [
        Problem(
            Case(1000, 1024, 128, heads=4, heads_k=2, causal="bottom_right"), "cuda", generator("cuda", seed)
        ),
        Problem(Case(1, 9000, 64, batch=1, heads=8, heads_k=1), "cuda", generator("cuda", seed + 1)),
    ]
    runs = [(p, plan) for p in problems for plan in (p.select(), p.select_backward(deterministic=True))]
    streams = [torch.cuda.Stream() for _ in runs]
    scratch = [poisoned_workspace(plan, "cuda") if plan.workspace_size else None for _, plan in runs]
    outs = [[problem.outputs(plan) for _ in range(10)] for problem, plan in runs]
    given = [
        {} if "o" in out[0] else {"given": problem.given}
        for (problem, _), out in zip(runs, outs, strict=True)
    ]
    torch.cuda.synchronize()
    for i in range(10):
        for (problem, plan), stream, workspace, out, how in zip(
            runs, streams, scratch, outs, given, strict=True
        ):
            problem.enqueue(plan, out[i], stream=stream, workspace=workspace, **how)
    torch.cuda.synchronize()
    for (problem, plan), out in zip(runs, outs, strict=True):
        assert [problem.judge(plan, one) for one in out] == [None] * 10


def test_two_threads(seed: int) -> None:
    """Plans shared by two threads, each on a stream of its own, while both select further plans."""
    problems = [
        Problem(Case(300, 264, bias="float16"), "cuda", generator("cuda", seed + i)) for i in range(2)
    ]
    plans = [problems[0].select(max_workspace_bytes=0), problems[0].select_backward()]
    outs = [[[p.outputs(plan) for plan in plans] for _ in range(20)] for p in problems]
    given = [p.given for p in problems]
    torch.cuda.synchronize()
    failures: list[BaseException] = []

    def work(which: int) -> None:
        try:
            problem, stream = problems[which], torch.cuda.Stream()
            with torch.cuda.stream(stream):
                scratch = poisoned_workspace(plans[1], "cuda") if plans[1].workspace_size else None
                for i, (first, second) in enumerate(outs[which]):
                    descriptor = cutplan.FmhaDescriptor(
                        heads=2, seq_q=64 + i, seq_k=64, dim=64, dtype="float16"
                    )
                    cutplan.FmhaPlan.select(descriptor, "cuda")
                    problem.enqueue(plans[0], first, stream=stream)
                    problem.enqueue(plans[1], second, given=given[which], stream=stream, workspace=scratch)
            stream.synchronize()
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for problem, runs in zip(problems, outs, strict=True):
        for out in runs:
            assert [problem.judge(plan, one) for plan, one in zip(plans, out, strict=True)] == [None, None]


def test_run_allocates_nothing(seed: int) -> None:
    for case in (Case(1, 9000, batch=1, heads=8, heads_k=1), Case(500, 500, 128)):
        problem = Problem(case, "cuda", generator("cuda", seed))
        for plan in (
            problem.select(),
            problem.select_backward(),
            problem.select_backward(deterministic=True),
        ):
            outputs = problem.outputs(plan)
            how: dict[str, Any] = {} if "o" in outputs else {"given": problem.given}
            how["workspace"] = torch.empty(plan.workspace_size + 1, dtype=torch.uint8, device="cuda")
            problem.enqueue(plan, outputs, **how)

            def work(
                plan: Any = plan, problem: Problem = problem, outputs: Any = outputs, how: Any = how
            ) -> None:
                for _ in range(50):
                    problem.enqueue(plan, outputs, **how)

            assert not allocates(work), plan.sku.name


def test_sm_count_is_honoured_without_changing_the_answer(seed: int) -> None:
    problem = Problem(Case(777, 1000, 128, causal="bottom_right"), "cuda", generator("cuda", seed))
    for sms in (1, 8, 100):
        for plan in (problem.select(sm_count=sms), problem.select_backward(sm_count=sms)):
            assert problem.complaint(plan) is None


@pytest.mark.two_gpus
def test_second_device(seed: int) -> None:
    """A plan for cuda:1 runs there while cuda:0 is current, and leaves cuda:0 current."""
    torch.cuda.set_device(0)
    there = Problem(Case(200, 136, sink=True), "cuda:1", generator("cuda:1", seed))
    here = Problem(Case(200, 136, sink=True), "cuda:0", generator("cuda:0", seed))
    for plan in (there.select(), there.select_backward()):
        assert plan.device == "cuda:1"
        assert there.complaint(plan) is None
        assert torch.cuda.current_device() == 0
        with pytest.raises(cutplan.DeviceMismatch, match="must be on cuda:1.*got cuda:0"):
            here.enqueue(plan, here.outputs(plan))
