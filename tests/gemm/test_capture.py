"""CUDA graphs: a captured run computes on what the operands hold when the graph is replayed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import cutplan
from tests.environment import capturing
from tests.gemm.operands import PACKED, QUANTISED, Packing, format_of, types_of
from tests.gemm.packed import single_packings
from tests.gemm.problems import (
    ALL_LAYOUTS,
    LAYOUTS,
    TORCH,
    Options,
    Problem,
    Shape,
    d_types,
    generator,
    poisoned_workspace,
)
from tests.oracle import Product, complaint, reference

pytestmark = pytest.mark.cuda


def architectures(operand: str, layout: str) -> list[str]:
    """Those in this build that the GPU here can run."""
    properties = cutplan.device_properties("cuda")
    a, b = types_of(operand)
    form = format_of(operand)
    packing = {} if form is None else {"weights": Packing().of(form, 512)}
    descriptor = cutplan.GemmDescriptor(m=512, n=512, k=512, a=a, b=b, layout=layout, **packing)
    kernels = cutplan.gemm_kernels(descriptor, properties, cutplan.PlanPreference(math="fast"))
    return sorted({str(sku.arch) for sku in kernels})


def replay_all(operand: str, layout: str, every: list[Options], source: torch.Generator) -> None:
    for arch in architectures(operand, layout):
        # the second splits K on most cards: its workspace is part of the graph
        for shape in (
            Shape(517, 384, 512),
            Shape(64, 128, 16384),
            Shape(100, 72, 264, batch=3, shared="b", d_pad=1),
        ):
            for options in every:
                replay(shape, options, operand, layout, arch, source)


@pytest.mark.parametrize("operand", TORCH)
@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_capture_and_replay(operand: str, layout: str, seed: int) -> None:
    """New values in every operand between replays, with the terms that each epilogue has."""
    source = generator("cuda", seed)
    every = [
        Options(operand, bias=operand, c=operand, activation="gelu_tanh", alpha=0.5, beta=-1.0),
        Options(operand, bias=operand, bias_over="m", residual=operand, store=operand, activation="silu"),
        Options(operand, gradient=operand, activation="gelu_erf"),
    ]
    if operand in ("float16", "bfloat16"):
        every.append(Options(operand, row_scale=True, column_scale=True, activation="relu"))
        if layout in LAYOUTS:
            every.append(Options(operand, bias=operand, gate="separate", activation="silu", alpha=0.125))
    replay_all(operand, layout, every, source)


@pytest.mark.parametrize("operand", [*QUANTISED, *PACKED])
@pytest.mark.parametrize("layout", ["rcr", "rcc", "rrr", "ccr", "crr"])
def test_capture_of_codes(operand: str, layout: str, seed: int) -> None:
    """New codes, scales, zeros and orders of rows between replays."""
    form = format_of(operand)
    if form is not None and layout != "rcr":
        return  # the one that devices read packed weights in
    d = d_types(operand)[0]
    every = [Options(d, bias=d, activation="silu")]
    if form is not None:
        every += [replace(every[0], weights=packing) for packing in single_packings(form)]
    else:
        every += [replace(every[0], a_scale="row", b_scale="column", amax=True)]
        every += [replace(every[0], a_scale="group", b_scale="block")]
        every += [replace(every[0], a_zero="row", b_zero="column")] if operand == "int8" else []
    replay_all(operand, layout, every, generator("cuda", seed))


def replay(
    shape: Shape, options: Options, operand: str, layout: str, arch: str, source: torch.Generator
) -> None:
    problem = Problem(shape, operand, layout, "cuda", source, 16)
    properties = cutplan.device_properties("cuda")
    preference = {"arch": arch, "math": "fast"}
    if not cutplan.gemm_kernels(
        problem.descriptor(options), properties, cutplan.PlanPreference(**preference)
    ):
        return  # another architecture's kernels serve it
    plan = problem.select(options, **preference)
    out = problem.output(options)
    aux = None if options.store is None else problem.output(options, options.store)
    amax = problem.amax() if options.amax else None
    named = problem.operands(options)
    if aux is not None:
        named["aux"] = aux.view
    if amax is not None:
        named["amax"] = amax.view[0]
    workspace = poisoned_workspace(plan, "cuda") if plan.workspace_size else None
    b = problem.factor(options)  # packed weights are made where they are first asked for
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with capturing(graph):
        plan.run(problem.a, b, out.view, workspace=workspace, **named)
    assert not out.touched(), "a captured run must not execute"
    for _ in range(2):
        problem.refill()
        for memory in (out, aux, amax):
            if memory is not None:
                memory.integers.fill_(memory.poison)
        if workspace is not None:
            workspace.fill_(0xFF)
        graph.replay()
        what = problem.wrong(plan, options, out, aux, amax)
        assert what is None, f"{plan.sku.name} {layout} {shape} {options}: {what}"


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
    with capturing(graph):
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
    with capturing(graph):
        with pytest.raises(cutplan.ShapeMismatch):
            plan.run(problem.a[:-1], problem.b, out.view)
        plan.run(problem.a, problem.b, out.view)
    graph.replay()
    assert complaint(out.view, problem.expected(options), plan.precision_guarantee) is None
