"""Runs every CUDA kernel of the build at small, ragged sizes: what compute-sanitizer can watch.

    compute-sanitizer --tool memcheck python tests/sanitize.py
    compute-sanitizer --tool racecheck python tests/sanitize.py "f16.*rcr"     # slower: a part at a time

Needs torch with a GPU. Results are checked too, against float64 and each plan's own bound.
"""

from __future__ import annotations

import itertools
import re
import sys

import torch

import cutplan

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
    torch.cuda.synchronize()
    print(f"{runs} runs, {failures} failed")
    return 1 if failures or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
