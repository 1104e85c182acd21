"""Host time of a call: what checks, imports and Python add to a bare kernel launch.

python -m benchmarks.overhead [--json FILE]

The problems are tiny, and calls are timed in batches that fit the launch queue: a longer loop without
synchronisation would measure the GPU. The GPU is waited for outside the timing. "launch floor" is the same
kernel enqueued from C++ over and over, its operands imported and checked once. `g` and `w` require grad:
their calls are recorded.
"""

from __future__ import annotations

import argparse
import pathlib
import random
import statistics
import subprocess
import sys
import timeit
from collections.abc import Callable, Sequence

import torch

import cutplan
import cutplan.torch
from benchmarks import _report

PROBLEMS = ((64, 64, 64), (128, 256, 64))
ARCHITECTURES = ("sm80", "sm90")  # a launch with tensor maps and clusters costs more than a plain one
DTYPE = "float16"
CALLS = 500  # the launch queue holds 1024
ROUNDS = 40
IMPORTS = 9
FLOOR = "launch floor"
RUN = "plan.run(a, b, d)"

# Each is timed as it stands here.
STATEMENTS = (
    RUN,
    "plan.run(a, b, d, stream=stream)",
    "plan.can_implement(a, b, d)",
    "cutplan.matmul(a, b, out=d)",
    "cutplan.matmul(a, b)",
    "torch.mm(a, b, out=d)",
    "torch.mm(a, b)",
    "cutplan.torch.matmul(a, b)",
    "torch.ops.cutplan.matmul(a, b)",
    "torch.nn.functional.linear(g, w)",
    "cutplan.torch.linear(g, w)",
    "torch.ops.cutplan.matmul(g, b)",
    "cutplan.matmul(x, y)",
    "torch.bmm(x, y)",
    "cutplan.attention(q, q, q)",
    "scaled_dot_product_attention(q, q, q)",
    "cutplan.torch.scaled_dot_product_attention(q, q, q)",
    "cutplan.inspect(a)",
    "cutplan.describe(a, b, d)",
    "cutplan.GemmPlan.select(descriptor, device)",
)

_IMPORT = """
import sys, time
start = time.perf_counter()
import cutplan
frameworks = [m for m in ("numpy", "torch", "jax", "cupy") if m in sys.modules]
print((time.perf_counter() - start) * 1e3, *frameworks)
"""

Batch = Callable[[], float]  # runs CALLS calls and returns the microseconds of one


def _batch(statement: str, names: dict[str, object]) -> Batch:
    timer = timeit.Timer(statement, globals=names)
    return lambda: timer.timeit(CALLS) / CALLS * 1e6


def _measure(extents: tuple[int, int, int], device: str, arch: str | None) -> _report.Record:
    m, n, k = extents
    dtype = getattr(torch, DTYPE)
    a = torch.randn(m, k, device=device).to(dtype)
    b = torch.randn(n, k, device=device).to(dtype).T
    d = torch.empty(m, n, device=device, dtype=dtype)
    descriptor = cutplan.describe(a, b, d)
    # Without split K: one launch, as the floor's.
    plan = cutplan.GemmPlan.select(
        descriptor,
        device,
        cutplan.PlanPreference(max_workspace_bytes=0, arch=cutplan.Arch(arch) if arch else None),
    )
    stream = torch.cuda.current_stream().cuda_stream if device != "cpu" else None
    names = {
        "a": a,
        "b": b,
        "d": d,
        "plan": plan,
        "descriptor": descriptor,
        "device": device,
        "stream": stream,
        "x": a.expand(4, m, k).contiguous(),
        "y": b.expand(4, k, n).contiguous(),
        "q": a.expand(1, 4, m, k).contiguous(),
        "g": a.clone().requires_grad_(),  # recorded, so that the backward pass could run
        "w": b.t().contiguous().requires_grad_(),
        "scaled_dot_product_attention": torch.nn.functional.scaled_dot_product_attention,
        "cutplan": cutplan,
        "torch": torch,
    }
    batches = {
        statement: _batch(statement, names)
        for statement in STATEMENTS
        if device != "cpu" or "stream" not in statement
    }
    if device == "cpu":
        print("on the host a call computes before it returns: these times hold the multiplication itself")
    else:
        batches[FLOOR] = lambda: plan.measure_launch(a, b, d, launches=CALLS, stream=stream) * 1e6

    samples: dict[str, list[float]] = {name: [] for name in batches}
    order = list(batches)
    for i in range(ROUNDS + 1):
        random.shuffle(order)
        for name in order:
            microseconds = batches[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if i > 0:  # the first warms up
                samples[name].append(round(microseconds, 4))
    return {
        "m": m,
        "n": n,
        "k": k,
        "dtype": DTYPE,
        "sku": plan.sku.name,
        "calls": CALLS,
        "microseconds": samples,
    }


def _architectures(device: str) -> list[str | None]:
    """Those whose kernels this device runs; None where it is the host."""
    if device == "cpu":
        return [None]
    descriptor = cutplan.GemmDescriptor(m=64, n=64, k=64, a=DTYPE)
    properties = cutplan.device_properties(device)
    return [
        arch
        for arch in ARCHITECTURES
        if cutplan.gemm_kernels(descriptor, properties, cutplan.PlanPreference(arch=cutplan.Arch(arch)))
    ]


def _print(problem: _report.Record) -> None:
    samples = problem["microseconds"]
    floor = samples.get(FLOOR)
    rows = []
    for name in (name for name in (FLOOR, *STATEMENTS) if name in samples):
        median = statistics.median(samples[name])
        row = [name, f"{median:.2f}", f"{min(samples[name]):.2f}"]
        if floor:
            enqueues = name.startswith(("plan.run", "cutplan.matmul", "torch.mm", "cutplan.torch.matmul"))
            row.append(f"{median - statistics.median(floor):.2f}" if enqueues else "")
        rows.append(row)
    print(f"\n{_report.extents(problem)} {problem['dtype']}, {problem['sku']}: microseconds a call")
    _report.print_table(["", "median", "least", *(["beyond the floor"] if floor else [])], rows)


def _imports() -> tuple[list[float], list[str]]:
    """Milliseconds of `import cutplan` in fresh interpreters, and the frameworks that it brought along."""
    times, frameworks = [], set[str]()
    for _ in range(IMPORTS):
        command = [sys.executable, "-c", _IMPORT]
        elapsed, *imported = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.split()
        times.append(round(float(elapsed), 3))
        frameworks.update(imported)
    return times, sorted(frameworks)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and every sample")
    parser.add_argument("--device", help='"cuda:1", or "cpu" for the host backend (default: cuda:0)')
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    record: _report.Record = {
        "benchmark": "overhead",
        "command": _report.command_line("benchmarks.overhead", arguments),
        **_report.machine(device),
        "problems": [
            _measure(extents, device, arch) for extents in PROBLEMS for arch in _architectures(device)
        ],
    }
    record["import_milliseconds"], record["import_frameworks"] = _imports()
    print(f"{record['device']['name']}; medians of {ROUNDS} batches of {CALLS} calls")
    for problem in record["problems"]:
        _print(problem)
    times = record["import_milliseconds"]
    frameworks = ", ".join(record["import_frameworks"]) or "no framework"
    print(
        f"\nimport cutplan: {statistics.median(times):.1f} ms, at least {min(times):.1f} ms, "
        f"imports {frameworks}"
    )
    if options.json:
        _report.write(options.json, record)


if __name__ == "__main__":
    main(sys.argv[1:])
