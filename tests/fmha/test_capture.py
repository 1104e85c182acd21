"""CUDA graphs: a captured run computes on what the operands hold when the graph is replayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import cutplan
from tests.environment import capturing
from tests.fmha.problems import Case, Problem, generator, poisoned_workspace

pytestmark = pytest.mark.cuda

CASES: list[Case] = [
    Case(300, 300, 64, causal="bottom_right", heads=4, heads_k=2),
    Case(
        1, 5000, 128, heads=8, heads_k=2, batch=1
    ),  # splits its keys on most cards: its workspace is in the graph
    Case(77, 260, 96, bias="float16", bias_dims="hqk", alibi="bh", sink=True, softcap=9.0, layout="bshd"),
    Case(65, 200, 64, mask="bqk", dropout_p=0.3, seqused_k=(200, 50)),
    Case(packed=((70, 90), (1, 300), (0, 5)), dim=128, causal="bottom_right", dropout_p=0.1, heads=3),
    Case(130, 130, 256, causal="top_left"),
]


def refill(problem: Problem, turn: int) -> None:
    """New values everywhere, and other lengths."""
    if problem.seqused_k is not None:
        used = [(37 * (turn + 1) + 91 * b) % problem.case.seq_k for b in range(problem.case.batch)]
        problem.seqused_k.copy_(torch.tensor(used))
    if problem.cu_seqlens_k is not None:
        last = problem.case.total_k
        problem.cu_seqlens_k.copy_(torch.tensor([0, 20 * turn + 3, 100 + 50 * turn, last]))
    problem.fill()
    # fill() leaves NaN beyond the lengths that the case began with
    for x in (problem.k, problem.v):
        x.copy_(x.nan_to_num(0.5))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("operand", ["float16", "bfloat16", "float32"])
def test_capture_and_replay(operand: str, deterministic: bool, seed: int) -> None:
    source = generator("cuda", seed)
    for case in CASES:
        fields: dict[str, Any] = {**vars(case), "dtype": operand}
        if case.bias is not None:
            fields["bias"] = operand
        problem = Problem(Case(**fields), "cuda", source)
        for pick in (problem.select, problem.select_backward):
            plan = pick(deterministic=deterministic)
            outputs = problem.outputs(plan)
            workspace = poisoned_workspace(plan, "cuda") if plan.workspace_size else None
            o, lse = (x.clone() for x in problem.given)
            how: dict[str, Any] = {"workspace": workspace}
            if "o" not in outputs:
                how["given"] = (o, lse)
            graph = torch.cuda.CUDAGraph()
            with capturing(graph):
                problem.enqueue(plan, outputs, **how)
            assert not any(memory.touched() for memory in outputs.values()), "a captured run must not execute"
            for turn in range(3):
                refill(problem, turn)
                if workspace is not None:
                    workspace.fill_(0xFF)
                for memory in outputs.values():
                    memory.reset()
                for held, new in zip((o, lse), problem.given, strict=True):
                    held.copy_(new)
                graph.replay()
                what = problem.judge(plan, outputs)
                assert what is None, f"replay {turn}: {what}"


def test_a_training_step(seed: int) -> None:
    """Forward and backward of three layers in one graph, the backward reading what the forward wrote."""
    problem = Problem(
        Case(256, 256, 64, causal="bottom_right", heads=4, dtype="bfloat16"), "cuda", generator("cuda", seed)
    )
    forward = problem.select(max_workspace_bytes=0)
    backward = problem.select_backward()
    workspace = poisoned_workspace(backward, "cuda") if backward.workspace_size else None
    first, second = problem.outputs(forward), problem.outputs(backward)
    graph = torch.cuda.CUDAGraph()
    with capturing(graph):
        for _ in range(3):
            problem.enqueue(forward, first)
            given = (first["o"].view, first["lse"].view)
            problem.enqueue(backward, second, given=given, workspace=workspace)
    for _ in range(3):
        problem.fill()
        graph.replay()
        assert problem.judge(forward, first) is None
        assert problem.judge(backward, second, problem.expected_after_forward()) is None


def test_refusals_during_capture_leave_the_graph_intact(seed: int) -> None:
    problem = Problem(Case(64, 64), "cuda", generator("cuda", seed))
    plan = problem.select(max_workspace_bytes=0)
    outputs = problem.outputs(plan)
    graph = torch.cuda.CUDAGraph()
    with capturing(graph):
        with pytest.raises(cutplan.ShapeMismatch):
            plan.run(problem.q[1:], problem.k, problem.v, outputs["o"].view, lse=outputs["lse"].view)
        problem.enqueue(plan, outputs)
    graph.replay()
    assert problem.judge(plan, outputs) is None
