"""Matrix multiplication: cutplan's kernels against torch (cuBLAS) on the same operands, in one run.

    python -m benchmarks.gemm [--json FILE] [--quick] [--shapes 4096x4096x4096 ...] [--arch sm80 ...]

"cutplan" is the kernel that select() picks on its own; "cutplan sm80" the one that it picks among that
architecture's. Every result is compared once, before it is timed, with float64 arithmetic on the same inputs:
an element outside its plan's own error bound ends the run. Ratios are the peer's time over cutplan's: above 1
is faster than the peer.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import cutplan
from benchmarks import _report
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch
from tests.oracle import Product, Reference, complaint, reference

SHAPES = (
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (2048, 28672, 8192),
    (64, 28672, 8192),
    (16, 8192, 8192),
    (1, 4096, 4096),
)
SHORT_K = (8192, 8192, 512)
EPILOGUE_SHAPE = (4096, 4096, 4096)
EPILOGUES = ("none", "bias", "bias, gelu_erf", "bias, silu", "c")
ROUNDS, QUICK_ROUNDS = 60, 10

# Frobenius norm of the peer's error relative to the result's: only to show that both computed the same.
_PEER_TOLERANCE = 0.01


@dataclass(frozen=True)
class Case:
    group: str  # of cases that are summed up together
    m: int
    n: int
    k: int
    layout: str
    dtype: str
    d: str


@dataclass(frozen=True)
class Operands:
    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    bias: torch.Tensor

    @staticmethod
    def of(case: Case, device: str, source: torch.Generator) -> Operands:
        def normal(rows: int, cols: int, row_major: bool = True) -> torch.Tensor:
            shape = (rows, cols) if row_major else (cols, rows)
            x = torch.randn(shape, device=device, generator=source).to(getattr(torch, case.dtype))
            return x if row_major else x.T

        return Operands(
            normal(case.m, case.k, case.layout[0] == "r"),
            normal(case.k, case.n, case.layout[1] == "r"),
            normal(case.m, case.n),
            normal(1, case.n)[0],
        )


@dataclass(frozen=True)
class Contender:
    name: str
    call: Callable[[], object]
    facts: _report.Record

    def turn(self, epilogue: str) -> str:
        """A kernel that was picked twice takes one turn."""
        return f"{self.facts.get('sku', self.name)}, {epilogue}"


def _parts(epilogue: str) -> tuple[bool, bool, str]:
    """Whether there is a bias, whether a C, and the activation."""
    parts = epilogue.split(", ")
    activation = next((part for part in parts if part not in ("bias", "c")), "none")
    return "bias" in parts, "c" in parts, activation


def _select(case: Case, epilogue: str, device: str, arch: str | None) -> cutplan.GemmPlan:
    bias, c, activation = _parts(epilogue)
    descriptor = cutplan.GemmDescriptor(
        m=case.m,
        n=case.n,
        k=case.k,
        a=case.dtype,
        d=case.d,
        c=case.dtype,
        bias=case.dtype,
        layout=case.layout,
        epilogue=cutplan.Epilogue(bias=bias, c=c, activation=activation),
    )
    return cutplan.GemmPlan.select(descriptor, device, cutplan.PlanPreference(arch=arch))


def _cutplan(plan: cutplan.GemmPlan, name: str, operands: Operands, d: torch.Tensor) -> Contender:
    epilogue = plan.descriptor.epilogue
    bias = operands.bias if epilogue.bias else None
    c = operands.c if epilogue.c else None
    scratch = (
        torch.empty(plan.workspace_size, dtype=torch.uint8, device=d.device) if plan.workspace_size else None
    )
    a, b = operands.a, operands.b
    return Contender(
        name,
        lambda: plan.run(a, b, d, bias=bias, c=c, workspace=scratch),
        {"sku": plan.sku.name, "workspace_bytes": plan.workspace_size},
    )


def _torch(case: Case, epilogue: str, operands: Operands, d: torch.Tensor) -> Contender | None:
    """torch's way to the same result; None where it has none, and then it is said why."""
    a, b, c, bias = operands.a, operands.b, operands.c, operands.bias
    with_bias, with_c, activation = _parts(epilogue)
    if case.d != case.dtype:
        overload = getattr(torch.ops.aten.mm, "dtype_out", None)
        if overload is None or d.device.type == "cpu":
            where = f"torch {torch.__version__} on {d.device.type}"
            print(f"no peer for {case.dtype} -> {case.d}: {where} has no such product")
            return None
        return Contender(
            "torch", lambda: overload(a, b, d.dtype, out=d), {"call": "mm(a, b, out_dtype=, out=)"}
        )
    if epilogue == "none":
        return Contender("torch", lambda: torch.mm(a, b, out=d), {"call": "mm(a, b, out=)"})
    added = c if with_c else bias
    call = "addmm(c, a, b)" if with_c else "addmm(bias, a, b)"
    if activation == "none":
        return Contender("torch", lambda: torch.addmm(added, a, b), {"call": call})
    function = {"gelu_erf": torch.nn.functional.gelu, "silu": torch.nn.functional.silu}[activation]
    return Contender(
        "torch", lambda: function(torch.addmm(added, a, b)), {"call": f"{function.__name__}({call})"}
    )


def _refuse(case: Case, what: str) -> None:
    sys.exit(f"benchmarks.gemm: wrong result for {case}: {what}")


def _verify(case: Case, contender: Contender, d: torch.Tensor, expected: Reference, guarantee: Any) -> None:
    """`guarantee` is None for the peer, which gives none."""
    d.fill_(torch.nan)
    returned = contender.call()
    result = returned if isinstance(returned, torch.Tensor) else d
    if guarantee is not None:
        what = complaint(result, expected, guarantee)
    else:
        error = float((result.double() - expected.exact).norm() / expected.exact.norm())
        what = None if error <= _PEER_TOLERANCE else f"relative error {error:.3g}"
    if what is not None:
        _refuse(case, f"{contender.facts.get('sku', contender.name)}: {what}")


class Bench:
    """Measures on one device, with one source of random numbers."""

    def __init__(self, device: str, seed: int, rounds: int) -> None:
        self.device = device
        self.rounds = rounds
        self.stopwatch = Stopwatch(device, seed)
        self.source = torch.Generator(device).manual_seed(seed)

    def measure(
        self, case: Case, epilogues: Sequence[str] = ("none",), architectures: Sequence[str] = ()
    ) -> list[_report.Record]:
        """One entry for each epilogue, all of them interleaved."""
        operands = Operands.of(case, self.device, self.source)
        d = torch.empty(case.m, case.n, dtype=getattr(torch, case.d), device=self.device)
        product = Product.of(operands.a, operands.b)
        turns: dict[str, Callable[[], object]] = {}
        entries = []
        for epilogue in epilogues:
            bias, c, activation = _parts(epilogue)
            expected = reference(
                product,
                bias=operands.bias if bias else None,
                c=operands.c if c else None,
                beta=1.0 if c else 0.0,
                activation=activation,
            )
            contenders: list[Contender] = []
            for arch in (None, *architectures):
                plan = _select(case, epilogue, self.device, arch)
                ours = _cutplan(plan, f"cutplan {arch}" if arch else "cutplan", operands, d)
                if ours.turn(epilogue) not in turns:
                    _verify(case, ours, d, expected, plan.precision_guarantee)
                    turns[ours.turn(epilogue)] = ours.call
                contenders.append(ours)
            if peer := _torch(case, epilogue, operands, d):
                _verify(case, peer, d, expected, None)
                turns[peer.turn(epilogue)] = peer.call
                contenders.append(peer)
            entries.append((epilogue, contenders))
            del expected
        del product
        samples = self.stopwatch.compare(turns, self.rounds)
        return [
            {
                **vars(case),
                "epilogue": epilogue,
                "contenders": [
                    {
                        "name": contender.name,
                        **contender.facts,
                        "microseconds": samples[contender.turn(epilogue)],
                    }
                    for contender in contenders
                ],
            }
            for epilogue, contenders in entries
        ]


def _rows(entry: _report.Record) -> list[list[str]]:
    peer = _report.find(entry, "torch")
    rows: dict[str, list[str]] = {}  # by kernel
    for contender in entry["contenders"]:
        if contender is peer:
            continue
        speed = _report.ratio(entry, contender)
        rows[contender["sku"]] = [
            _report.extents(entry),
            entry["layout"],
            _report.types(entry),
            contender["sku"].removeprefix("gemm."),
            f"{_report.median(contender):.1f}",
            _report.rate(entry, contender),
            f"{_report.median(peer):.1f}" if peer else "none",
            f"{speed:.3f}" if speed else "none",
        ]
    return list(rows.values())


def _print_epilogues(entries: list[_report.Record]) -> None:
    rows = []
    for entry in entries:
        plain = next(e for e in entries if e["epilogue"] == "none" and e["dtype"] == entry["dtype"])
        cells = [_report.extents(entry), entry["dtype"], entry["epilogue"]]
        for name in ("cutplan", "torch"):
            contender, base = _report.find(entry, name), _report.find(plain, name)
            assert contender and base
            cells += [
                f"{_report.median(contender):.1f}",
                f"{_report.median(contender) / _report.median(base):.3f}",
            ]
        rows.append([*cells, f"{_report.ratio(entry, entry['contenders'][0]):.3f}"])
    print("\nEpilogues, layout rcr; torch eager: addmm, then the activation")
    header = ["shape", "type", "epilogue", "us", "x plain", "torch us", "x plain", "ratio"]
    _report.print_table(header, rows)


def _shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(extent) for extent in text.split("x"))
    if min(m, n, k) < 1:
        raise ValueError("an extent below 1 takes no time")
    return m, n, k


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, str]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gemm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and every sample")
    parser.add_argument(
        "--shapes", type=_shape, nargs="+", help="MxNxK; leaves out the standard set and the epilogues"
    )
    parser.add_argument("--layouts", nargs="+", default=["rcr", "rrr"], choices=["rcr", "rrr", "crr", "ccr"])
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"], help="of A, B and D")
    parser.add_argument(
        "--arch", nargs="*", help="architectures whose best kernel is measured too (default: sm80 if built)"
    )
    parser.add_argument("--device", help='"cuda:1", or "cpu" for the host backend (default: cuda:0)')
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the operands and the order (default: a fresh one)"
    )
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    if device == "cpu" and not options.shapes:
        parser.error("the standard shapes take hours on a host: name smaller ones with --shapes")
    if options.arch is None:
        options.arch = ["sm80"] if device != "cpu" and "sm80" in cutplan.built_architectures() else []
    if options.seed is None:
        options.seed = time.time_ns() % 2**31
    return options, device


def _cases(options: argparse.Namespace) -> list[Case]:
    def each(group: str, shapes: Sequence[tuple[int, int, int]], layouts: Sequence[str]) -> list[Case]:
        return [
            Case(group, m, n, k, layout, dtype, dtype)
            for m, n, k in shapes
            for layout in layouts
            for dtype in options.dtypes
        ]

    if options.shapes:
        return each("given shapes", options.shapes, options.layouts)
    cases = each("six shapes", SHAPES, options.layouts)
    if "float16" in options.dtypes:
        cases += [Case("float32 D", m, n, k, "rcr", "float16", "float32") for m, n, k in SHAPES]
    return cases + each("K = 512", [SHORT_K], ["rcr"])


def main(arguments: Sequence[str]) -> None:
    options, device = _parse(arguments)
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    bench = Bench(device, options.seed, rounds)
    record: _report.Record = {
        "benchmark": "gemm",
        "command": _report.command_line("benchmarks.gemm", arguments),
        **_report.machine(device),
        "seed": options.seed,
        "rounds": rounds,
        "warm_up_rounds": WARM_UP_ROUNDS,
        "flush_bytes": bench.stopwatch.flush_bytes,
    }
    versions = record["versions"]
    print(
        f"{record['device']['name']}, torch {versions['torch']}, CUDA {versions['cuda']}, "
        f"cutplan {versions['cutplan']}, seed {options.seed}; medians of {rounds}"
    )

    entries = []
    for case in _cases(options):
        entries += bench.measure(case, architectures=options.arch)
        print(".", end="", file=sys.stderr, flush=True)
    epilogues = []
    if not options.shapes:
        for dtype in options.dtypes:
            epilogues += bench.measure(Case("epilogues", *EPILOGUE_SHAPE, "rcr", dtype, dtype), EPILOGUES)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    record["entries"] = entries
    record["epilogues"] = epilogues
    if device != "cpu":
        record["nvidia_smi_after"] = _report.nvidia_smi(_report.gpu_uuid(device))
    record["seconds"] = round(time.perf_counter() - start, 1)

    header = ["shape", "layout", "type", "kernel", "us", "rate", "torch us", "ratio"]
    _report.print_table(header, [row for entry in entries for row in _rows(entry)])
    if epilogues:
        _print_epilogues(epilogues)
    print()
    for line in _report.summary(entries):
        print(line)
    print(f"{record['seconds']} s in all")
    if options.json:
        _report.write(options.json, record)


if __name__ == "__main__":
    main(sys.argv[1:])
