"""``python -m cutplan``: info, what an installation can do; bench and tune, how fast; --cmake-dir."""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from typing import TYPE_CHECKING

import cutplan

from . import _tuning

if TYPE_CHECKING:
    from collections.abc import Callable

    _Plan = cutplan.GemmPlan | cutplan.FmhaPlan | cutplan.FmhaBackwardPlan

_PACKAGE = pathlib.Path(__file__).resolve().parent

# A few problems of the kinds that people run: square, tall, small, batched.
_SAMPLES = (
    cutplan.GemmDescriptor(m=4096, n=4096, k=4096, a="bfloat16"),
    cutplan.GemmDescriptor(m=4096, n=4096, k=4096, a="float16", d="float32", layout="rrr"),
    cutplan.GemmDescriptor(
        m=16, n=4096, k=4096, a="bfloat16", epilogue=cutplan.Epilogue(bias=True, activation="silu")
    ),
    cutplan.GemmDescriptor(m=128, n=128, k=64, a="float16", batch=256),
    cutplan.GemmDescriptor(m=1000, n=1000, k=1001, a="float16"),
    cutplan.GemmDescriptor(m=1024, n=1024, k=1024, a="float32"),
    cutplan.GemmDescriptor(m=1024, n=1024, k=1024, a="float64"),
)

_ATTENTION_SAMPLES = (
    cutplan.FmhaDescriptor(batch=4, heads=16, seq_q=4096, seq_k=4096, dim=128, dtype="bfloat16", lse=True),
    cutplan.FmhaDescriptor(
        batch=4, heads=32, heads_k=8, seq_q=4096, seq_k=4096, dim=128, dtype="bfloat16", causal="bottom_right"
    ),
    cutplan.FmhaDescriptor(heads=32, heads_k=8, seq_q=1, seq_k=32768, dim=128, dtype="float16"),
    cutplan.FmhaDescriptor(batch=2, heads=8, seq_q=1024, seq_k=1024, dim=64, dtype="float32"),
    cutplan.FmhaDescriptor(batch=2, heads=8, seq_q=1024, seq_k=1024, dim=64, dtype="float64"),
)


def _attention_summary(g: cutplan.FmhaDescriptor) -> str:
    text = f"{g.batch} x {g.heads} heads x {g.seq_q} x {g.seq_k} x {g.dim} {g.dtype}"
    if g.heads_k != g.heads:
        text += f", {g.heads_k} key heads"
    if g.causal is not None:
        text += f", causal {g.causal}"
    return text


def _print_plan(summary: str, select: Callable[[], _Plan]) -> None:
    try:
        plan = select()
    except cutplan.Unsupported as error:
        print(f"  {summary}\n    none: {error}")
    else:
        print(f"  {summary}\n    {plan.sku}, workspace {plan.workspace_size} bytes")


def _print_info() -> None:
    print(f"cutplan {cutplan.version()}, built for {', '.join(cutplan.built_architectures())}")
    for family, kernels in (("matmul", cutplan.gemm_registry()), ("attention", cutplan.fmha_registry())):
        print(f"\n{len(kernels)} {family} kernels")
        for sku in kernels:
            print(f"  {sku}")
    count = cutplan.cuda_device_count()
    if count == 0:
        print(f"\nno CUDA device: {cutplan.cuda_unavailable_reason()}")
    for device in ["cpu", *(f"cuda:{i}" for i in range(count))]:
        properties = cutplan.device_properties(device)
        if device == "cpu":
            print(f"\n{device}: {properties.sm_count} threads")
        else:
            major, minor = divmod(properties.compute_capability, 10)
            print(
                f"\n{device}: {properties.name}, compute capability {major}.{minor}, "
                f"{properties.sm_count} SMs, {properties.shared_memory // 1024} KiB shared memory per block, "
                f"{properties.l2_bytes >> 20} MiB L2"
            )
        for gemm in _SAMPLES:
            _print_plan(_tuning.summary(gemm), functools.partial(cutplan.GemmPlan.select, gemm, device))
        for forward in _ATTENTION_SAMPLES:
            summary = _attention_summary(forward)
            _print_plan(summary, functools.partial(cutplan.FmhaPlan.select, forward, device))
            backward = cutplan.FmhaBackwardDescriptor(forward)
            _print_plan(
                f"{summary}, backward", functools.partial(cutplan.FmhaBackwardPlan.select, backward, device)
            )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cutplan", description=__doc__)
    parser.add_argument("--cmake-dir", action="store_true", help="print the directory for CMAKE_PREFIX_PATH")
    parser.add_argument("--include-dir", action="store_true", help="print the directory of the C++ headers")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("info", help="print version, kernels and devices")
    tune = commands.add_parser("tune", help="measure which kernel is the fastest, and keep the answer")
    bench = commands.add_parser("bench", help="print how fast each kernel is, fastest first")
    _tuning.add_arguments(tune, bench)
    options = parser.parse_args(arguments)
    if options.cmake_dir:
        print(_PACKAGE / "lib" / "cmake" / "cutplan")
    if options.include_dir:
        print(_PACKAGE / "include")
    if options.command == "info":
        _print_info()
    elif options.command == "tune":
        return _tuning.tune(tune, options)
    elif options.command == "bench":
        return _tuning.bench(bench, options)
    elif not (options.cmake_dir or options.include_dir):
        parser.print_help()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
