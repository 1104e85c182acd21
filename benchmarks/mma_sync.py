"""The mma.sync design in its class: cutplan's sm80 and sm89 kernels and CUTLASS's stock 2.x ones, in one run.

    python -m benchmarks.mma_sync --cutlass DIR [--json FILE]

DIR is a folder of CUTLASS headers, such as build/all/third_party/cutlass/cutlass_library/source/include after
`make wheel`; nvcc compiles the stock kernels from them when the benchmark starts. Ratios are the better stock
kernel's time over cutplan's: above 1 is faster.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import torch

import cutplan
from benchmarks import _report
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch
from tests.oracle import Product, complaint, reference

SHAPES = ((4096, 4096, 4096), (8192, 8192, 8192), (8192, 8192, 512))
ARCHITECTURES = ("sm80", "sm89")
STOCK = ("128x256x32_s3", "256x128x64_s3")
ROUNDS = 40


def _compile(cutlass: pathlib.Path, folder: pathlib.Path) -> ctypes.CDLL:
    source = pathlib.Path(__file__).with_name("cutlass_stock.cu")
    library = folder / "cutlass_stock.so"
    command = ["nvcc", "-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", "-shared"]
    command += ["-Xcompiler=-fPIC", "-gencode=arch=compute_80,code=[sm_80,sm_90]", f"-I{cutlass}"]
    subprocess.run([*command, str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def _call(function: Callable[..., int], *arguments: object) -> None:
    if status := function(*arguments):
        sys.exit(f"benchmarks.mma_sync: a stock kernel answers cutlass::Status {status}")


def _measure(
    shape: tuple[int, int, int], library: ctypes.CDLL, stopwatch: Stopwatch, seed: int, device: str
) -> _report.Record:
    m, n, k = shape
    source = torch.Generator(device).manual_seed(seed)
    a = torch.randn(m, k, device=device, generator=source).half()
    b = torch.randn(n, k, device=device, generator=source).half().T
    d = torch.empty(m, n, device=device, dtype=torch.float16)
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    expected = reference(Product.of(a, b))
    contenders: list[_report.Record] = []
    calls: dict[str, Callable[[], object]] = {}
    for arch in ARCHITECTURES:
        if arch not in cutplan.built_architectures():
            continue
        # With no workspace K is not split, as it is not in the stock kernels.
        preference = cutplan.PlanPreference(arch=cutplan.Arch(arch), max_workspace_bytes=0)
        plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), device, preference)
        d.fill_(torch.nan)
        plan.run(a, b, d)
        if what := complaint(d, expected, plan.precision_guarantee):
            sys.exit(f"benchmarks.mma_sync: wrong result of {plan.sku.name}: {what}")
        name = f"cutplan {arch}"
        calls[name] = functools.partial(plan.run, a, b, d)
        contenders.append({"name": name, "sku": plan.sku.name})
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in (a, b, d)]
    for tile in STOCK:
        name = f"stock {tile}"
        calls[name] = functools.partial(
            _call, getattr(library, f"multiply_{tile}"), m, n, k, *pointers, stream
        )
        contenders.append({"name": name})
    samples = stopwatch.compare(calls, ROUNDS)
    for contender in contenders:
        contender["microseconds"] = samples[contender["name"]]
    return {
        "m": m,
        "n": n,
        "k": k,
        "layout": "rcr",
        "dtype": "float16",
        "d": "float16",
        "contenders": contenders,
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mma_sync",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cutlass", type=pathlib.Path, required=True, help="folder of CUTLASS headers")
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and every sample")
    parser.add_argument("--device", help='"cuda:1" (default: cuda:0)')
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    seed = time.time_ns() % 2**31
    with tempfile.TemporaryDirectory() as folder:
        library = _compile(options.cutlass, pathlib.Path(folder))
        stopwatch = Stopwatch(device, seed)
        record: _report.Record = {
            "benchmark": "mma_sync",
            "command": "python -m benchmarks.mma_sync --cutlass DIR",
            **_report.machine(device),
            "seed": seed,
            "rounds": ROUNDS,
            "warm_up_rounds": WARM_UP_ROUNDS,
            "flush_bytes": stopwatch.flush_bytes,
            "entries": [_measure(shape, library, stopwatch, seed, device) for shape in SHAPES],
        }
    rows = []
    for entry in record["entries"]:
        stock = min(_report.median(c) for c in entry["contenders"] if c["name"].startswith("stock"))
        rows += [
            [
                _report.extents(entry),
                contender["name"],
                contender.get("sku", "").removeprefix("gemm."),
                f"{_report.median(contender):.1f}",
                _report.rate(entry, contender),
                f"{stock / _report.median(contender):.3f}",
            ]
            for contender in entry["contenders"]
        ]
    _report.print_table(["shape", "", "kernel", "us", "rate", "ratio"], rows)
    if options.json:
        _report.write(options.json, record)


if __name__ == "__main__":
    main(sys.argv[1:])
