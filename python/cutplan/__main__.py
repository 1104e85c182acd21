"""``cutplan``, or ``python -m cutplan``: info, what an installation can do; bench and tune, how fast."""

from __future__ import annotations

import argparse
import functools
import pathlib
import sys
from typing import TYPE_CHECKING

import cutplan

from . import _problems, _tuning

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


def _print_plan(summary: str, select: Callable[[], _Plan]) -> None:
    try:
        plan = select()
    except cutplan.Unsupported as error:
        print(f"  {summary}\n    none: {error}")
    else:
        print(f"  {summary}\n    {plan.sku}, workspace {plan.workspace_size} bytes")


def _gpus() -> str:
    """Which GPUs are used, or why none is."""
    count = cutplan.cuda_device_count()
    if count == 0:
        return f"no GPU used: {cutplan.cuda_unavailable_reason()}"
    found = []
    for device in (f"cuda:{i}" for i in range(count)):
        name = cutplan.device_properties(device).name
        try:
            cutplan.GemmPlan.select(_SAMPLES[0], device)
        except cutplan.Unsupported as error:
            found.append(f"{device} {name} not used: {str(error).splitlines()[0]}")
        else:
            found.append(f"{device} {name}")
    return "; ".join(found)


def _print_device(device: str) -> None:
    properties = cutplan.device_properties(device)
    if device == "cpu":
        print(f"\n{device}: {properties.sm_count} threads")
        return
    major, minor = divmod(properties.compute_capability, 10)
    print(
        f"\n{device}: {properties.name}, compute capability {major}.{minor}, "
        f"{properties.sm_count} SMs, {properties.shared_memory // 1024} KiB shared memory per block, "
        f"{properties.l2_bytes >> 20} MiB L2"
    )


def _print_choices(device: str) -> None:
    """Which kernel serves problems of the kinds that people run."""
    for gemm in _SAMPLES:
        _print_plan(_problems.summary(gemm), functools.partial(cutplan.GemmPlan.select, gemm, device))
    for forward in _ATTENTION_SAMPLES:
        summary = _problems.summary(forward)
        _print_plan(summary, functools.partial(cutplan.FmhaPlan.select, forward, device))
        backward = cutplan.FmhaBackwardDescriptor(forward)
        summary = _problems.summary(backward)
        _print_plan(summary, functools.partial(cutplan.FmhaBackwardPlan.select, backward, device))


def _print_info(kernels: bool) -> None:
    print(f"cutplan {cutplan.version()}, kernels for {', '.join(cutplan.built_architectures())}; {_gpus()}")
    for device in ["cpu", *(f"cuda:{i}" for i in range(cutplan.cuda_device_count()))]:
        _print_device(device)
        if kernels:
            _print_choices(device)
    if kernels:
        for family, registry in (("matmul", cutplan.gemm_registry()), ("attention", cutplan.fmha_registry())):
            print(f"\n{len(registry)} {family} kernels")
            for sku in registry:
                print(f"  {sku}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cutplan", description="What cutplan can do here, and how fast.")
    parser.add_argument("--version", action="version", version=f"cutplan {cutplan.version()}")
    parser.add_argument("--cmake-dir", action="store_true", help="print the directory for CMAKE_PREFIX_PATH")
    parser.add_argument("--include-dir", action="store_true", help="print the directory of the C++ headers")
    commands = parser.add_subparsers(dest="command")
    info = commands.add_parser("info", help="print what is built, and the devices that are there")
    info.add_argument(
        "--kernels",
        action="store_true",
        help="also the kernel that serves some common problems, and all others",
    )
    tune = commands.add_parser("tune", help="measure which kernel is the fastest, and keep the answer")
    bench = commands.add_parser("bench", help="print how fast each kernel is, fastest first")
    _tuning.add_arguments(tune, bench)
    options = parser.parse_args(arguments)
    if options.cmake_dir:
        print(_PACKAGE / "lib" / "cmake" / "cutplan")
    if options.include_dir:
        print(_PACKAGE / "include")
    if options.command == "info":
        _print_info(options.kernels)
    elif options.command in ("tune", "bench"):
        try:
            return _tuning.tune(tune, options) if options.command == "tune" else _tuning.bench(bench, options)
        except (
            cutplan.Error,
            ValueError,
            OverflowError,
            OSError,
            MemoryError,
        ) as error:
            parser.error(str(error))
    elif not (options.cmake_dir or options.include_dir):
        parser.print_help()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
