"""With batch_invariant=True the choice is free among kernels that sum in one order: bits say that they do."""

from __future__ import annotations

import random

import pytest
import torch

import cutplan
from tests.gemm.problems import GATES, LAYOUTS, Options, Problem, Shape, crossed_options, generator, report
from tests.gemm.test_kernels import serves


def results(problem: Problem, options: Options, kernel: str) -> list[torch.Tensor]:
    """The bits of D and, where it is stored, aux."""
    outputs = [problem.output(options)]
    if options.store is not None:
        outputs.append(problem.output(options, options.store))
    problem.enqueue(problem.select(options, kernel=kernel, math="fast"), options, *(o.view for o in outputs))
    return [o.bits for o in outputs]


@pytest.mark.cuda
@pytest.mark.parametrize(
    "operand, math",
    [(x, "strict") for x in ("float16", "bfloat16", "float64", "float32")]
    + [("float32", "tf32x3"), ("float32", "tf32")],
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_kernels_of_one_order_give_the_same_bits(operand: str, math: str, layout: str, seed: int) -> None:
    """All of them against one, which is every pair: every epilogue, sums of full and of cut steps of K."""
    device = "cuda"
    chance, source = random.Random(seed), generator(device, seed)
    invariant = cutplan.PlanPreference(batch_invariant=True, math=math)
    properties = cutplan.device_properties(device)
    gates = [gate for gate in (None, *GATES) if serves(operand, layout, gate, properties)]
    every = crossed_options(operand, chance, gates)
    failures, seen = [], set()
    for shape in (Shape(200, 264, 1040), Shape(17, 136, 72), Shape(3, 200, 4104, batch=2)):
        problem = Problem(shape, operand, layout, device, source, 16)
        for options in every if shape.k == 1040 else chance.sample(every, 8):
            skus = cutplan.gemm_kernels(problem.descriptor(options), properties, invariant)
            expected = results(problem, options, skus[0].name)
            for sku in skus[1:]:
                same = all(map(torch.equal, results(problem, options, sku.name), expected))
                if not same:
                    failures.append(f"{sku.name} and {skus[0].name} differ: {layout} {shape} {options}")
            seen |= {(str(sku.arch), sku.schedule) for sku in skus}
    report(failures)
    if properties.compute_capability == 90 and operand in ("float16", "bfloat16") and layout == "rcr":
        built = set(cutplan.built_architectures())
        assert {arch for arch, _ in seen} == built & {"sm80", "sm89", "sm90"}
        assert "sm90" not in built or ("sm90", "swap_ab") in seen
