"""Device time of calls inside torch.compile, CUDA graphs and jax.jit, beside the same runs of a plan.

    python -m benchmarks.traced [--json FILE] [--quick] [--device cpu]

A program is a chain of calls, each of the result of the one before. Rounds run every contender once, in
random order, under torch's profiler, which sees all that a GPU does in the process, JAX's work too: a sample
is the time of all kernels and copies of one run, without the gaps between them. On the host it is the time
until the result is there. Results are compared with the plan's before they are timed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory too

import jax
import torch

import cutplan
import cutplan.jax as cj
import cutplan.torch as ct
from benchmarks import _report
from benchmarks._programs import PLAN, traced_rows

ROUNDS, QUICK_ROUNDS, WARM_UP_ROUNDS = 12, 3, 2


@dataclass(frozen=True)
class Problem:
    name: str
    start: torch.Tensor
    rest: tuple[torch.Tensor, ...]
    length: int
    plan: Callable[[torch.Tensor, torch.Tensor], None]  # of x, into a result
    of_torch: Callable[..., torch.Tensor]
    of_jax: Callable[..., Any]


def _scratch(plan: Any, device: str) -> torch.Tensor | None:
    size = plan.workspace_size
    return torch.empty(size, dtype=torch.uint8, device=device) if size else None


def problems(device: str, seed: int, quick: bool) -> list[Problem]:
    source = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=source, device=device).to(torch.bfloat16)

    size, length = (64, 3) if quick else (4096, 32)
    x, w = normal(size, size), normal(size, size) / size**0.5
    product = cutplan.GemmPlan.select(cutplan.describe(x, w, x), device)
    scratch = _scratch(product, device)

    batch, heads, rows, calls = (1, 2, 64, 3) if quick else (4, 16, 4096, 8)
    q = normal(batch, heads, rows, 128)
    described = cutplan.describe_attention(q, q, q, q, causal="top_left")
    attention = cutplan.FmhaPlan.select(described, device)
    more_scratch = _scratch(attention, device)
    return [
        Problem(
            f"matmul, {length} of {size} x {size} x {size}", x, (w,), length,
            lambda x, y: product.run(x, w, y, workspace=scratch), ct.matmul, cj.matmul,
        ),
        Problem(
            f"causal attention, {calls} of {batch} x {heads} x {rows} x 128", q, (), calls,
            lambda x, y: attention.run(x, x, x, y, workspace=more_scratch),
            lambda x: ct.attention(x, x, x, causal="top_left"),
            lambda x: cj.attention(x, x, x, causal="top_left"),
        ),
    ]  # fmt: skip


def contenders(problem: Problem) -> dict[str, Callable[[], torch.Tensor]]:
    """Each returns the chain's result once the device has it."""
    start, rest = problem.start, problem.rest
    buffers = torch.empty_like(start), torch.empty_like(start)

    def synchronized(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def call() -> torch.Tensor:
            y = run()
            if y.is_cuda:
                torch.cuda.synchronize()
            return y

        return call

    def plain() -> torch.Tensor:
        x = start
        for i in range(problem.length):
            problem.plan(x, buffers[i % 2])
            x = buffers[i % 2]
        return x

    def chain(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any, *rest: Any) -> Any:
            for _ in range(problem.length):
                x = function(x, *rest)
            return x

        return run

    compiled = torch.compile(chain(problem.of_torch), fullgraph=True)
    graphed = torch.compile(chain(problem.of_torch), fullgraph=True, mode="reduce-overhead")
    jitted = jax.jit(chain(problem.of_jax))
    arrays = [jax.dlpack.from_dlpack(t) for t in (start, *rest)]
    all_of_them = {
        PLAN: synchronized(plain),
        "torch.compile": synchronized(lambda: compiled(start, *rest)),
        "jax.jit": lambda: torch.from_dlpack(jax.block_until_ready(jitted(*arrays))),
    }
    if start.is_cuda:
        all_of_them["torch.compile, CUDA graph"] = synchronized(lambda: graphed(start, *rest))
    return all_of_them


def _microseconds(run: Callable[[], torch.Tensor], on_gpu: bool) -> float:
    if not on_gpu:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1e6
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
    on_device = torch.autograd.DeviceType.CUDA
    return float(sum(e.device_time_total for e in profile.events() if e.device_type == on_device))


def measure(problem: Problem, rounds: int) -> _report.Record:
    runs = contenders(problem)
    expected = runs[PLAN]().clone()
    for name, run in runs.items():
        if not torch.equal(run(), expected):
            sys.exit(f"benchmarks.traced: {problem.name}: {name} differs from the plan")
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(WARM_UP_ROUNDS + rounds):
        for name in random.sample(list(runs), len(runs)):
            microseconds = _microseconds(runs[name], problem.start.is_cuda)
            if i >= WARM_UP_ROUNDS:
                samples[name].append(round(microseconds, 1))
    return {
        "problem": problem.name,
        "contenders": [{"name": name, "microseconds": times} for name, times in samples.items()],
    }


def main(arguments: Sequence[str]) -> None:
    parser = _report.arguments_of("traced")
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    begun = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    record = _report.begin(
        "traced",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=0,
    )
    record["versions"]["jax"] = jax.__version__
    random.seed(options.seed)
    record["entries"] = [measure(p, rounds) for p in problems(device, options.seed, options.quick)]
    _report.finish(record, device, begun, options.json, lambda made: _report.print_table(*traced_rows(made)))


if __name__ == "__main__":
    main(sys.argv[1:])
