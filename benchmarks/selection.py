"""How well the cost model picks: the likely kernels of many problems against each other and against torch.

    python -m benchmarks.selection [--json FILE] [--shapes MxNxK ...]    measures, then judges
    python -m benchmarks.selection --attention [--json FILE]             the same for attention, without torch
    python -m benchmarks.selection --judge FILE                          judges a measured file; needs no GPU

The problems are common sizes, few rows by the usual widths of models, and extents drawn at random. Of
each the first kernels in the cost model's order are timed, all of one architecture, and the choice with
batch_invariant=True. The verdict is on the model of this build, whenever the times were taken: how much
longer its choice takes than the fastest, torch's time over that of its choice, and what batch invariance
keeps of its speed. What tuning tables know is left aside, and results are checked elsewhere: in
benchmarks.gemm and the tests.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

import cutplan
from benchmarks import _report
from benchmarks._selection import attention, judge, rank
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch
from benchmarks.gemm import parse_shape, workspace_of

CANDIDATES = 16
ROUNDS = 11
KINDS = (("bfloat16", "rcr"), ("float16", "rrr"))
COMMON = (
    (8192, 8192, 512),
    (8192, 8192, 256),
    (4096, 4096, 512),
    (4096, 4096, 1024),
    (2048, 2048, 2048),
    (1024, 4096, 4096),
    (512, 4096, 4096),
    (1024, 1024, 1024),
    (2048, 4096, 1024),
    (256, 8192, 4096),
    (768, 3072, 768),
    (4096, 3072, 768),
    (4096, 768, 3072),
    (16384, 1024, 1024),
    (3000, 3000, 3000),
    (128, 4096, 4096),
    (512, 512, 512),
    (1536, 1536, 4096),
    (1024, 8192, 2048),
    (2048, 8192, 8192),
    (4096, 11008, 4096),
    (6144, 6144, 6144),
)
WIDTHS = ((4096, 4096), (28672, 8192), (8192, 8192), (4096, 14336), (1024, 8192))  # N and K
ROWS = (1, 8, 16, 17, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384)
UNALIGNED = ((2048, 2048, 968), (2048, 2048, 1992), (4096, 4096, 200), (4096, 4104, 4096), (1111, 2048, 4096))
RANDOM, SEED = 40, 5

# Attention: head dimension; batch, heads, key heads, queries, keys.
DIMS = (64, 96, 128, 192, 256)
EXTENTS = (
    (4, 16, 16, 4096, 4096),
    (1, 32, 8, 8192, 8192),
    (16, 16, 16, 1024, 1024),
    (8, 12, 12, 512, 512),
    (32, 8, 8, 197, 197),
    (2, 16, 16, 300, 2048),
    (1, 8, 8, 256, 4096),
)
FEW_QUERIES = (
    (1, 32, 8, 1, 8192),
    (16, 32, 8, 1, 4096),
    (64, 32, 8, 1, 2048),
    (1, 32, 32, 1, 32768),
    (4, 32, 8, 8, 8192),
    (1, 64, 8, 16, 131072),
)


def shapes() -> list[tuple[int, int, int]]:
    chance = random.Random(SEED)

    def drawn(low: float, high: float) -> int:
        return int(2 ** chance.uniform(low, high))

    few_rows = [(m, n, k) for n, k in WIDTHS for m in ROWS]
    anything = [(drawn(4, 13.3), drawn(8, 13.3) // 8 * 8, drawn(7, 13) // 8 * 8) for _ in range(RANDOM)]
    return [*COMMON, *few_rows, *anything, *UNALIGNED]


def _measure(
    problem: _report.Record, properties: cutplan.DeviceProperties, device: str, stopwatch: Stopwatch
) -> _report.Record:
    """The problem with the median of each kernel and of torch, in microseconds."""
    m, n, k = problem["shape"]
    dtype = getattr(torch, problem["dtype"])
    a = torch.randn(m, k, device=device).to(dtype)
    b = torch.randn(n, k, device=device).to(dtype).T
    if problem["layout"] == "rrr":
        b = b.contiguous()
    d = torch.empty(m, n, dtype=dtype, device=device)
    descriptor = cutplan.describe(a, b, d)
    ranked = rank(problem, properties)
    contenders: dict[str, Callable[[], object]] = {"torch": lambda: torch.mm(a, b, out=d)}
    likely = [sku for sku in ranked if sku.arch == ranked[0].arch][:CANDIDATES]
    for sku in [*likely, *rank(problem, properties, batch_invariant=True)[:1]]:
        plan = cutplan.GemmPlan.select(descriptor, device, cutplan.PlanPreference(kernel=sku.name))
        contenders[sku.name] = partial(plan.run, a, b, d, workspace=workspace_of(plan, d.device))
    samples = stopwatch.compare(contenders, ROUNDS)
    return {**problem, "medians": {name: statistics.median(taken) for name, taken in samples.items()}}


def attention_problems() -> list[_report.Record]:
    """Both passes; causal for every other problem, and each in one of the two types."""
    problems = []
    for backward, extents in ((False, EXTENTS), (False, FEW_QUERIES), (True, EXTENTS)):
        for i, (dim, (batch, heads, heads_k, seq_q, seq_k)) in enumerate(itertools.product(DIMS, extents)):
            given = {
                "batch": batch,
                "heads": heads,
                "heads_k": heads_k,
                "seq_q": seq_q,
                "seq_k": seq_k,
                "dim": dim,
                "dtype": "bfloat16" if i % 3 else "float16",
                "causal": "bottom_right" if i % 2 else None,
            }
            problems.append({"attention": given, "backward": backward})
    return problems


def _measure_attention(problem: _report.Record, device: str) -> _report.Record:
    """The problem with the median of each kernel, in microseconds."""
    g, preference = attention(problem), cutplan.PlanPreference(tune="off")
    measured = (
        cutplan.measure_fmha(g, device, preference, candidates=CANDIDATES)
        if isinstance(g, cutplan.FmhaDescriptor)
        else cutplan.measure_fmha(g, device, preference, candidates=CANDIDATES)
    )
    return {**problem, "medians": {entry.sku.name: entry.seconds * 1e6 for entry in measured}}


def report(record: _report.Record) -> None:
    verdicts, unmeasured = judge(record)
    header = ["problems", "count", "choice / fastest", "at most", "torch / choice", "batch-invariant"]
    rows = [
        [
            group,
            str(v.count),
            f"{v.loss:.3f}",
            f"{v.worst:.3f}",
            *("-" if x is None else f"{x:.3f}" for x in (v.gain, v.invariant)),
        ]
        for group, v in verdicts.items()
    ]
    _report.print_table(header, rows)
    for choice in unmeasured:
        print(f"not measured: {choice}")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and the medians")
    parser.add_argument("--judge", type=pathlib.Path, help="a file that --json made")
    parser.add_argument("--shapes", type=parse_shape, nargs="+", help="MxNxK instead of the standard set")
    parser.add_argument("--attention", action="store_true", help="attention instead of matrix products")
    parser.add_argument("--device", help='"cuda:1", or "cpu" for the host backend (default: cuda:0)')
    options = parser.parse_args(arguments)
    if options.judge:
        report(json.loads(options.judge.read_text()))
        return
    device = _report.choose_device(parser, options.device)
    if device == "cpu" and not options.shapes and not options.attention:
        parser.error("the standard shapes take hours on a host: name smaller ones with --shapes")
    start = time.perf_counter()
    stopwatch = Stopwatch(device, SEED)
    record = _report.begin(
        "selection",
        arguments,
        device,
        seed=SEED,
        rounds=ROUNDS,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=stopwatch.flush_bytes,
    )
    if options.attention:
        record["benchmark"] = "attention_selection"
    properties = cutplan.device_properties(device)
    record["device"]["shared_memory"] = properties.shared_memory
    record["problems"] = []
    if options.attention:
        for problem in attention_problems():
            record["problems"].append(_measure_attention(problem, device))
            print(".", end="", file=sys.stderr, flush=True)
    for dtype, layout in () if options.attention else KINDS:
        for shape in options.shapes or shapes():
            problem = {"shape": list(shape), "dtype": dtype, "layout": layout}
            record["problems"].append(_measure(problem, properties, device, stopwatch))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
