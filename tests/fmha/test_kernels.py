"""Every attention kernel of this build that this machine can run, by name, held to its plan's own bound.

Each test is one kernel, forward or backward, and loops over combinations inside, which keeps thousands of
them cheap, and reports all that fail. Every element of every output is compared with float64.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import cutplan
from tests.fmha.problems import (
    SERVED,
    Case,
    Problem,
    as_parameters,
    generator,
    is_backward,
    kernels,
    output_types,
    report,
    serves,
    sweep,
)

every_kernel = as_parameters(kernels())

# Of q and k, and of v and o.
DIMS = [
    *((d, d) for d in (1, 8, 17, 40, 64, 80, 96, 128, 192, 256)),
    *((64, 128), (192, 128), (33, 57), (72, 16), (1, 256), (100, 99)),
]

MASKS: list[dict[str, Any]] = [
    {},
    {"causal": "top_left"},
    {"causal": "bottom_right"},
    {"window": (5, 0)},
    {"window": (0, 9), "align": "top_left"},
    {"window": (33, -1)},
    {"window": (-1, 40), "align": "top_left"},
    {"window": (70, 3), "causal": "top_left"},
    {"window": (16, -1), "causal": "bottom_right"},
    {"mask": "bhqk"},
    {"mask": "k"},
    {"mask": "q", "causal": "bottom_right"},
    {"mask": "bk"},
    {"mask": "hqk", "window": (40, 40)},
    {"mask": ""},
]

SCORES: list[dict[str, Any]] = [
    {},
    {"softcap": 3.0},
    {"alibi": "h"},
    {"alibi": "bh", "softcap": 20.0},
    {"sink": True},
    {"sink": True, "alibi": "h", "narrow": True},
    {"dropout_p": 0.25},
    {"dropout_p": 0.0},
    {"scale": 0.2},
    {"scale": -0.05},
    {"alibi": "bh", "sink": True, "dropout_p": 0.6},
]

BIASES = ["bhqk", "hqk", "qk", "bhk", "k", "q", "bh", ""]


def biased(operand: str) -> list[dict[str, Any]]:
    types = sorted({operand, "float32"})
    return [{"bias": types[i % len(types)], "bias_dims": dims} for i, dims in enumerate(BIASES)]


def everything(operand: str) -> dict[str, Any]:
    return {"softcap": 10.0, "alibi": "bh", "bias": operand, "sink": True, "dropout_p": 0.1}


class Choice:
    """Draws what a test does not walk through."""

    def __init__(self, sku: cutplan.KernelSku, device: str, seed: int) -> None:
        self.sku, self.random, self.operand = sku, random.Random(seed), str(sku.a)
        base = Case(64, 64, dtype=self.operand)
        self.dims = [
            (dim, dim_v) for dim, dim_v in DIMS if serves(sku, replace(base, dim=dim, dim_v=dim_v), device)
        ]
        assert self.dims, f"{sku.name} serves none of the head dimensions"
        tile_m, tile_n = (min(extent, 128) if extent else 64 for extent in sku.tile[:2])
        self.rows = (1, 3, tile_m - 1, tile_m, tile_m + 1, tile_m + 37, 2 * tile_m + 5)
        self.keys = (1, 2, tile_n - 1, tile_n, tile_n + 1, tile_n + 43, 3 * tile_n + 7)

    def one_of(self, values: Sequence[Any]) -> Any:
        return self.random.choice(values)

    def extents(self) -> dict[str, Any]:
        # the largest sizes one side at a time
        long_q = self.random.random() < 0.5
        return {
            "seq_q": self.one_of(self.rows if long_q else self.rows[:-1]),
            "seq_k": self.one_of(self.keys[:-1] if long_q else self.keys),
        }

    def rest(self) -> dict[str, Any]:
        """Dimensions, heads, types and memory."""
        dim, dim_v = self.one_of(self.dims)
        heads, heads_k = self.one_of([(2, 2), (4, 2), (3, 1), (1, 1), (6, 3)])
        element = 8 if self.operand == "float64" else 4 if self.operand == "float32" else 2
        return {
            "dim": dim,
            "dim_v": dim_v,
            "batch": self.one_of([1, 2, 3]),
            "heads": heads,
            "heads_k": heads_k,
            "layout": self.one_of(["bhsd", "bshd"]),
            "o": self.one_of(output_types(self.operand)),
            "grad": self.one_of(output_types(self.operand)),
            "pad": self.one_of([0, 0, 3, 8]),
            "offset": self.one_of([0, 0, 1]),
            "alignment": self.one_of([16, 16, 16, element]),
        }

    def case(self, **given: Any) -> Case:
        options: dict[str, Any] = {"dtype": self.operand, **self.extents(), **self.rest(), **given}
        return Case(**options)


@every_kernel
def test_masks_and_scores(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Pairs of mask and score option, every other one, on whatever extents, types and memory come up."""
    choice = Choice(sku, device, seed)
    scores = [*SCORES, *biased(choice.operand), everything(choice.operand)]
    half = choice.random.randrange(2)
    cases = [
        choice.case(**mask, **score)
        for i, mask in enumerate(MASKS)
        for j, score in enumerate(scores)
        if (i + j) % 2 == half
    ]
    sweep(sku, device, seed, cases)


@every_kernel
def test_dimensions(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Every head dimension that the kernel serves, in both layouts, plain and with everything."""
    choice = Choice(sku, device, seed)
    cases = [
        choice.case(dim=dim, dim_v=dim_v, layout=layout, **how)
        for dim, dim_v in choice.dims
        for layout in ("bhsd", "bshd")
        for how in ({}, {"causal": choice.one_of(["top_left", "bottom_right"])}, everything(choice.operand))
    ]
    sweep(sku, device, seed, cases)


@every_kernel
def test_lengths(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Lengths 1, tile - 1, tile, tile + 1, and several tiles, of queries and of keys."""
    choice = Choice(sku, device, seed)
    masks = ({}, {"causal": "top_left"}, {"causal": "bottom_right"}, {"window": (9, 9)}, {"mask": "bhqk"})
    cases = [
        choice.case(seq_q=seq_q, seq_k=seq_k, batch=1, **choice.one_of(masks))
        for seq_q, seq_k in itertools.product(choice.rows, choice.keys)
    ]
    sweep(sku, device, seed, cases)


@every_kernel
def test_sequences_of_different_lengths(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """seqused_k and packed sequences, empty ones among them, under masks and score options."""
    choice = Choice(sku, device, seed)
    unbiased: list[dict[str, Any]] = [s for s in SCORES if "bias" not in s]
    cases = []
    for mask in MASKS[:9]:
        for _ in range(2):
            lengths = [
                (choice.one_of((0, *choice.rows[:-1])), choice.one_of((0, *choice.keys[:-1])))
                for _ in range(choice.one_of([1, 2, 4]))
            ]
            case = choice.case(packed=tuple(lengths), **mask, **choice.one_of(unbiased))
            cases.append(case)
            used = tuple(choice.random.randint(0, keys) for _, keys in lengths)
            cases.append(replace(case, seqused_k=used))
    for mask in MASKS:
        case = choice.case(**mask, **choice.one_of([*SCORES, *biased(choice.operand)]))
        used = tuple(choice.random.randint(0, case.seq_k) for _ in range(case.batch))
        cases.append(replace(case, seqused_k=used))
    sweep(sku, device, seed, cases)


@every_kernel
def test_memory(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Padded and offset operands, addresses that no vector load can take, and operands of stride 0."""
    choice = Choice(sku, device, seed)
    element = sku.a.bits // 8
    cases = []
    for memory in (
        {"pad": 1, "alignment": element},
        {"offset": 1, "alignment": element},
        {"pad": 5, "offset": 3, "alignment": element},
        {"pad": 1, "offset": 1},
        {"pad": 40, "offset": 2},
        {"shared": frozenset({"kh", "vh"})},
        {"shared": frozenset({"kb", "vb"})},
        {"shared": frozenset({"qb", "qh", "kb", "vh"})},
        {"shared": frozenset({"qh", "gb", "gh"}), "pad": 9},
    ):
        for how in ({}, {"causal": "bottom_right"}, everything(choice.operand)):
            for layout in ("bhsd", "bshd"):
                cases.append(choice.case(batch=2, layout=layout, **how, **memory))
    sweep(sku, device, seed, cases)


@every_kernel
def test_uniform_weights(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Equal scores and small integers: every weight is 1 / n, and a key dropped or doubled cannot hide."""
    choice = Choice(sku, device, seed)

    def check(problem: Problem, plan: Any) -> str | None:
        problem.q.zero_()
        return problem.complaint(plan)

    cases = [choice.case(batch=1, integers=True, **mask) for mask in MASKS[:9] for _ in range(2)]
    sweep(sku, device, seed, cases, check)


@every_kernel
def test_gradients_that_nobody_asked_for(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Backward without dbias, dalibi_slopes and dsink, though the options are on; forward without LSE."""
    choice = Choice(sku, device, seed)
    failures = []
    for _ in range(4):
        problem = Problem(choice.case(**everything(choice.operand)), device, generator(device, seed))
        how = {"kernel": sku.name, "math": "tf32"}
        plan = problem.select_backward(False, **how) if is_backward(sku) else problem.select(False, **how)
        outputs = set(problem.outputs(plan))
        assert outputs == ({"dq", "dk", "dv"} if is_backward(sku) else {"o"})
        failures.append(problem.complaint(plan))
    report([failure for failure in failures if failure])


@every_kernel
def test_several_splits(sku: cutplan.KernelSku, device: str, seed: int) -> None:
    """Forward kernels that cut the keys into parts, backward ones that add to dQ in turn: forced by name."""
    choice = Choice(sku, device, seed)
    failures = []
    found = {sku.name}
    for suffix in (".k2", ".k3", ".k5", ".k8", ".ordered"):
        name = sku.name + suffix
        for how in (
            {},
            {"causal": "bottom_right"},
            {"window": (300, 0)},
            {"seqused_k": (0, 511)},
            {"sink": True, "mask": "bk", "alibi": "h"},
        ):
            case = choice.case(batch=2, seq_q=choice.one_of([1, 3, 70]), seq_k=1021, **how)
            problem = Problem(case, device, generator(device, seed))
            descriptor = problem.backward_descriptor() if is_backward(sku) else problem.descriptor()
            preference = cutplan.PlanPreference(kernel=name, math="tf32")
            if not cutplan.fmha_kernels(descriptor, cutplan.device_properties(device), preference):
                continue
            select = problem.select_backward if is_backward(sku) else problem.select
            plan = select(kernel=name, math="tf32")
            found.add(plan.sku.name)
            failures.append(problem.complaint(plan))
    report([failure for failure in failures if failure])
    if str(sku.arch) != "host" and choice.operand in ("float16", "bfloat16"):
        assert len(found) == (2 if is_backward(sku) else 5), f"{sku.name}: only {found}"


@pytest.mark.parametrize("device, operand", SERVED)
def test_forward_feeds_backward(device: str, operand: str, seed: int) -> None:
    """As in training: O and LSE are those that the forward wrote. The bound is then relative to O's terms."""
    source = generator(device, seed)
    failures = []
    for how in ({}, {"causal": "bottom_right"}, {"heads_k": 1, **everything(operand)}, {"mask": "bhqk"}):
        problem = Problem(Case(97, 130, 64, dtype=operand, pad=8, **how), device, source)
        forward, backward = problem.select(), problem.select_backward()
        written = problem.run(forward)
        outputs = problem.outputs(backward)
        problem.enqueue(backward, outputs, given=(written["o"], written["lse"]))
        failures.append(problem.judge(backward, outputs, problem.expected_after_forward()))
    report([failure for failure in failures if failure])
