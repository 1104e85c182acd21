"""Runs every CUDA kernel of the build at small, ragged sizes: what compute-sanitizer can watch.

    compute-sanitizer --tool memcheck python tests/sanitize.py
    compute-sanitizer --tool racecheck python tests/sanitize.py "gemm.*f16.*rcr"    # slower: a part at a time
    compute-sanitizer --tool initcheck python tests/sanitize.py "fmha_backward.*d64"

Needs torch with a GPU, and pytest. Results are checked too, against float64 and each plan's own bound.
"""

from __future__ import annotations

import itertools
import pathlib
import re
import sys
from typing import Any

import torch

import cutplan

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # run as a file, not as a module

from tests.fmha.problems import Case, Problem, described, is_backward  # noqa: E402

ROW_MAJOR = {"r": True, "c": False}


def operand(rows: int, cols: int, row_major: bool, dtype: torch.dtype) -> torch.Tensor:
    """A random matrix whose leading dimension is padded to a multiple of 8 elements."""
    runs, length = (rows, cols) if row_major else (cols, rows)
    stored = torch.randn(runs, (length + 7) // 8 * 8, device="cuda").to(dtype)[:, :length]
    return stored if row_major else stored.t()


def check(kernel: str, dtype: torch.dtype, layout: str, m: int, n: int, k: int, full: bool) -> str | None:
    a = operand(m, k, ROW_MAJOR[layout[0]], dtype)
    b = operand(k, n, ROW_MAJOR[layout[1]], dtype)
    d = torch.full((m, n), float("nan"), device="cuda", dtype=torch.float32 if full else dtype)
    bias = torch.randn(n, device="cuda").to(d.dtype) if full else None
    c = torch.randn(m, n, device="cuda").to(d.dtype) if full else None
    epilogue = cutplan.Epilogue(bias=full, c=full, activation="gelu_erf" if full else "none")
    descriptor = cutplan.GemmDescriptor(
        m=m, n=n, k=k, a=dtype, d=d.dtype, layout=layout, epilogue=epilogue, alignment=16
    )
    try:
        plan = cutplan.GemmPlan.select(descriptor, "cuda:0", cutplan.PlanPreference(kernel=kernel))
    except cutplan.Unsupported as refusal:
        return str(refusal)
    scratch = torch.empty(max(plan.workspace_size, 1), device="cuda", dtype=torch.uint8)
    plan.run(a, b, d, c=c, bias=bias, alpha=0.5, workspace=scratch)
    exact = 0.5 * (a.double() @ b.double())
    magnitude = 0.5 * (a.double().abs() @ b.double().abs())
    if c is not None and bias is not None:
        exact = torch.nn.functional.gelu(exact + c.double() + bias.double())
        magnitude += c.double().abs() + bias.double().abs()
    guarantee = plan.precision_guarantee
    bound = torch.tensor(
        [
            guarantee.error_bound(x, y)
            for x, y in zip(magnitude.flatten().tolist(), exact.flatten().tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    error = (d.double() - exact).abs().flatten().cpu()
    wrong = int((~(error <= bound)).sum())
    return f"{wrong} elements beyond the bound" if wrong else None


def check_attention(sku: cutplan.KernelSku, name: str, case: Case, seed: int) -> str | None:
    """What is wrong with one run of the kernel of that name; NOT_SERVED where it does not take the case."""
    source = torch.Generator("cuda").manual_seed(seed)
    backward = is_backward(sku)
    preference = cutplan.PlanPreference(kernel=name, math="tf32")
    problem = described(case)
    descriptor = problem.backward_descriptor() if backward else problem.descriptor()
    if not cutplan.fmha_kernels(descriptor, cutplan.device_properties("cuda"), preference):
        return NOT_SERVED
    problem = Problem(case, "cuda", source)
    select = problem.select_backward if backward else problem.select
    return problem.complaint(select(kernel=name, math="tf32"))


NOT_SERVED = "not served"


def attention_cases(sku: cutplan.KernelSku) -> list[Case]:
    """Small and ragged, every option off and on, in both layouts, with and without vector loads."""
    operand, largest = str(sku.a), sku.tile[2] or 256
    tm, tn = sku.tile[:2]
    odd = {"pad": 1, "alignment": sku.a.bits // 8, "layout": "bshd"}
    full: dict[str, Any] = {
        "causal": "bottom_right",
        "window": (tn, -1),
        "softcap": 8.0,
        "alibi": "bh",
        "bias": operand,
        "bias_dims": "hqk",
        "mask": "bqk",
        "sink": True,
        "dropout_p": 0.3,
    }
    packed = {
        "packed": ((tm + 5, tn + 3), (0, 7), (9, 0), (3, 2 * tn + 1)),
        "causal": "top_left",
        "sink": True,
    }
    return [
        Case(tm + 3, 2 * tn + 5, largest, batch=1, dtype=operand),
        Case(
            7, tn + 1, largest - 8 if largest > 8 else largest, 8, heads=4, heads_k=2, dtype=operand, **full
        ),
        Case(tm + 1, tn - 1, largest - 1 or 1, heads=2, heads_k=1, dtype=operand, **odd),
        Case(tm - 1, 70, max(largest // 2, 1), dtype=operand, seqused_k=(0, 41), **odd, **full),
        Case(dim=largest, heads=2, heads_k=1, dtype=operand, **packed),
    ]


def sanitize_attention(pattern: str) -> tuple[int, int]:
    """Runs and failures."""
    runs = failures = 0
    for sku in cutplan.fmha_registry():
        if str(sku.arch) == "host" or not re.search(pattern, sku.name):
            continue
        served = 0
        for name, (index, case) in itertools.product(
            (sku.name, f"{sku.name}.k2", f"{sku.name}.ordered"), enumerate(attention_cases(sku))
        ):
            problem = check_attention(sku, name, case, index)
            if problem == NOT_SERVED:
                continue
            served += 1
            if problem:
                failures += 1
                print(problem)
        if served == 0:
            print(f"{sku.name}: this device cannot run it")
        runs += served
    return runs, failures


def main(pattern: str) -> int:
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    failures = runs = 0
    for sku in cutplan.gemm_registry():
        if str(sku.arch) == "host" or not re.search(pattern, sku.name):
            continue
        names = [sku.name] if str(sku.arch) == "sm90" else [sku.name, sku.name + ".k2"]
        tm, tn, tk = sku.tile
        shapes = [(tm + 3, tn + 9, 3 * tk + 5), (7, 33, 4 * tk)]
        for name, (m, n, k), full in itertools.product(names, shapes, (False, True)):
            runs += 1
            problem = check(name, types[str(sku.a)], sku.layout, m, n, k, full)
            if problem:
                failures += 1
                print(f"{name} m={m} n={n} k={k} full={full}: {problem}")
    more_runs, more_failures = sanitize_attention(pattern)
    runs, failures = runs + more_runs, failures + more_failures
    torch.cuda.synchronize()
    print(f"{runs} runs, {failures} failed")
    return 1 if failures or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
