"""``python -m cutplan info``: what this installation can do; ``--cmake-dir`` and others: for builds."""

from __future__ import annotations

import argparse
import pathlib
import sys

import cutplan

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


def _summary(g: cutplan.GemmDescriptor) -> str:
    text = f"{g.m} x {g.n} x {g.k} {g.a} -> {g.d} {g.layout}"
    if g.batch != 1:
        text += f", batch {g.batch}"
    if g.epilogue != cutplan.Epilogue():
        text += f", bias, {g.epilogue.activation}"
    return text


def _print_info() -> None:
    print(f"cutplan {cutplan.version()}, built for {', '.join(cutplan.built_architectures())}")
    kernels = cutplan.gemm_registry()
    print(f"\n{len(kernels)} matmul kernels")
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
        for descriptor in _SAMPLES:
            try:
                plan = cutplan.GemmPlan.select(descriptor, device)
            except cutplan.Unsupported as error:
                print(f"  {_summary(descriptor)}\n    none: {error}")
            else:
                print(f"  {_summary(descriptor)}\n    {plan.sku}, workspace {plan.workspace_size} bytes")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cutplan", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["info"], help="print version, kernels and devices")
    parser.add_argument("--cmake-dir", action="store_true", help="print the directory for CMAKE_PREFIX_PATH")
    parser.add_argument("--include-dir", action="store_true", help="print the directory of the C++ headers")
    options = parser.parse_args(arguments)
    if options.cmake_dir:
        print(_PACKAGE / "lib" / "cmake" / "cutplan")
    if options.include_dir:
        print(_PACKAGE / "include")
    if options.command == "info":
        _print_info()
    elif not (options.cmake_dir or options.include_dir):
        parser.print_help()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
