"""CUDA graphs: a captured run computes on what the operands hold when the graph is replayed."""

from __future__ import annotations

import pytest
import torch

import cutplan
from tests.gemm.problems import LAYOUTS, Options, Problem, Shape, generator, poisoned_workspace, random_values
from tests.oracle import Product, complaint, reference

pytestmark = pytest.mark.cuda


def architectures() -> list[str]:
    """Those in this build that the GPU here can run."""
    properties = cutplan.device_properties("cuda")
    descriptor = cutplan.GemmDescriptor(m=512, n=512, k=512, a="float16")
    return sorted({str(sku.arch) for sku in cutplan.gemm_kernels(descriptor, properties)})


@pytest.mark.parametrize("operand", ["float16", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_capture_and_replay(operand: str, layout: str, seed: int) -> None:
    source = generator("cuda", seed)
    for arch in architectures():
        # the second splits K on most cards: its workspace is part of the graph
        for shape in (
            Shape(517, 384, 512),
            Shape(64, 128, 16384),
            Shape(100, 72, 264, batch=3, shared="b", d_pad=1),
        ):
            options = Options(operand, bias=operand, c=operand, activation="gelu_tanh", alpha=0.5, beta=-1.0)
            problem = Problem(shape, operand, layout, "cuda", source, 16)
            plan = problem.select(options, arch=arch)
            out = problem.output(options)
            c, bias = problem.extra("c", operand), problem.extra("bias", operand)
            workspace = poisoned_workspace(plan, "cuda") if plan.workspace_size else None

            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                plan.run(
                    problem.a, problem.b, out.view, c=c, bias=bias, alpha=0.5, beta=-1.0, workspace=workspace
                )
            assert not out.touched(), "a captured run must not execute"

            for _ in range(3):
                for operand_view in (
                    problem.a,
                    problem.b if "b" not in shape.shared else problem.b[0],
                    c,
                    bias,
                ):
                    operand_view.copy_(random_values(operand_view.shape, False, source))
                if workspace is not None:
                    workspace.fill_(0xFF)
                out.integers.fill_(out.poison)
                graph.replay()
                assert out.stray_write() is None
                expected = reference(
                    Product.of(problem.a, problem.b),
                    c=c,
                    bias=bias,
                    alpha=0.5,
                    beta=-1.0,
                    activation="gelu_tanh",
                )
                what = complaint(out.view, expected, plan.precision_guarantee)
                assert what is None, f"{plan.sku.name} {shape}: {what}"


def test_a_graph_of_many_plans(seed: int) -> None:
    """A chain of layers, captured once, replayed on new inputs."""
    source = generator("cuda", seed)
    layers = 6
    width = 256
    x = [torch.empty(96, width, dtype=torch.bfloat16, device="cuda") for _ in range(layers + 1)]
    weights = [
        torch.randn(width, width, device="cuda", generator=source).bfloat16() / 16 for _ in range(layers)
    ]
    descriptor = cutplan.GemmDescriptor(
        m=96, n=width, k=width, a="bfloat16", epilogue=cutplan.Epilogue(activation="silu")
    )
    plan = cutplan.GemmPlan.select(descriptor, "cuda", cutplan.PlanPreference(max_workspace_bytes=0))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i, weight in enumerate(weights):
            plan.run(x[i], weight.T, x[i + 1])
    for _ in range(3):
        x[0].copy_(torch.randn(96, width, device="cuda", generator=source))
        graph.replay()
        for i, weight in enumerate(weights):
            expected = reference(Product.of(x[i], weight.T), activation="silu")
            what = complaint(x[i + 1], expected, plan.precision_guarantee)
            assert what is None, f"layer {i}: {what}"


def test_refusals_during_capture_leave_the_graph_intact(seed: int) -> None:
    problem = Problem(Shape(64, 64, 64), "float16", "rcr", "cuda", generator("cuda", seed), 16)
    options = Options("float16")
    plan = problem.select(options, max_workspace_bytes=0)
    out = problem.output(options)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        with pytest.raises(cutplan.ShapeMismatch):
            plan.run(problem.a[:-1], problem.b, out.view)
        plan.run(problem.a, problem.b, out.view)
    graph.replay()
    assert complaint(out.view, problem.expected(options), plan.precision_guarantee) is None
