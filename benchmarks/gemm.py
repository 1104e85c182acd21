"""Matrix multiplication: cutplan's kernels against torch (cuBLAS) on the same operands, in one run.

    python -m benchmarks.gemm [--json FILE] [--quick] [--only REGEX] [--shapes MxNxK ...] [--arch sm80 ...]

"cutplan" is the kernel that select() picks on its own; "cutplan sm80" the one that it picks among that
architecture's. Beside plain products: a gated MLP layer against eager torch and torch.compile, grouped
products against torch._grouped_mm, and a copy, whose bandwidth is what products of few rows can reach.
Every result is compared once, before it is timed, with float64 arithmetic on the same inputs: an element
outside its plan's own error bound ends the run. A peer that refuses a problem is listed with its reason.
Ratios are the peer's time over cutplan's: above 1 is faster than the peer.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

import cutplan
from benchmarks import _report
from benchmarks._timing import WARM_UP_ROUNDS, Flush, Stopwatch
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
FEW_ROWS = tuple((m, n, 8192) for n in (8192, 28672) for m in (1, 16))
EPILOGUE_SHAPE = (4096, 4096, 4096)
EPILOGUES = ("none", "bias", "bias, gelu_erf", "bias, silu", "c")
GATED_SHAPE = (4096, 14336, 4096)
GROUPS, GROUPED_ROWS, GROUPED_EXTENTS = 64, 17122, (4096, 4096)
COPY_BYTES = 1 << 30
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
    math: str | None = None  # how float32 is multiplied
    flush: Flush = "written"  # how L2 is emptied before

    def __str__(self) -> str:
        fields = vars(self)
        return f"{self.group} {_report.extents(fields)} {self.layout} {_report.types(fields)}"


@dataclass(frozen=True)
class Grouped:
    """Products of uneven sizes, which share out m (an expert's tokens) or k (its weights' gradient)."""

    over: Literal["m", "k"]
    sizes: tuple[int, ...]
    n: int
    other: int  # k, or m over k
    dtype: str

    @property
    def fields(self) -> _report.Record:
        rows = sum(self.sizes)
        m, k = (rows, self.other) if self.over == "m" else (self.other, rows)
        layout = "rcr" if self.over == "m" else "crr"
        group = f"{len(self.sizes)} groups over {self.over}"
        return {
            **{"group": group, "m": m, "n": self.n, "k": k, "layout": layout},
            **{"dtype": self.dtype, "d": self.dtype},
        }

    def __str__(self) -> str:
        f = self.fields
        return f"{f['group']} {_report.extents(f)} {f['layout']} {self.dtype}"


def uneven(groups: int, rows: int) -> tuple[int, ...]:
    """Sizes as a router leaves them: the largest several times the mean, some near nothing."""
    chance = random.Random(groups)
    weights = [chance.random() ** 2 for _ in range(groups)]
    ends = [round(rows * end / sum(weights)) for end in itertools.accumulate(weights)]
    return tuple(end - start for start, end in itertools.pairwise([0, *ends]))


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


class Refused(Exception):
    """Why a peer does not take a problem."""


def refusing(name: str, make: Callable[[], Contender]) -> Contender:
    """A peer that has run once; raises Refused where it will not."""
    try:
        made = make()
        made.call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        lines = str(error).strip().splitlines()
        raise Refused(lines[0] if lines else type(error).__name__) from error
    return made


def _parts(epilogue: str) -> tuple[bool, bool, str]:
    """Whether there is a bias, whether a C, and the activation."""
    parts = epilogue.split(", ")
    activation = next((part for part in parts if part not in ("bias", "c")), "none")
    return "bias" in parts, "c" in parts, activation


def _select(case: Case, epilogue: str, device: str, arch: str | None) -> cutplan.GemmPlan | None:
    """None where the architecture has no kernel for the case."""
    bias, c, activation = _parts(epilogue)
    descriptor = cutplan.GemmDescriptor(
        m=case.m,
        n=case.n,
        k=case.k,
        a=case.dtype,
        d=case.d,
        c=case.dtype,
        bias=case.dtype,
        layout=cutplan.GemmLayout(case.layout),
        epilogue=cutplan.Epilogue(bias=bias, c=c, activation=cutplan.Activation(activation)),
    )
    preference = cutplan.PlanPreference(
        arch=cutplan.Arch(arch) if arch else None, math=cutplan.Math(case.math or "tf32x3")
    )
    if arch and not cutplan.gemm_kernels(descriptor, cutplan.device_properties(device), preference):
        return None
    return cutplan.GemmPlan.select(descriptor, device, preference)


def workspace_of(plan: Any, device: torch.device) -> torch.Tensor | None:
    return torch.empty(plan.workspace_size, dtype=torch.uint8, device=device) if plan.workspace_size else None


def _cutplan(plan: cutplan.GemmPlan, name: str, operands: Operands, d: torch.Tensor) -> Contender:
    epilogue = plan.descriptor.epilogue
    bias = operands.bias if epilogue.bias else None
    c = operands.c if epilogue.c else None
    scratch = workspace_of(plan, d.device)
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
    if case.math is not None:
        allowed = case.math == "tf32"

        def multiply() -> None:
            torch.backends.cuda.matmul.allow_tf32 = allowed
            torch.mm(a, b, out=d)

        return Contender("torch", multiply, {"call": f"mm(a, b, out=), allow_tf32={allowed}"})
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


def _refuse(case: object, what: str) -> None:
    sys.exit(f"wrong result for {case}: {what}")


def verify(case: object, contender: Contender, d: torch.Tensor, expected: Reference, guarantee: Any) -> None:
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
                if plan is None:
                    continue
                ours = _cutplan(plan, f"cutplan {arch}" if arch else "cutplan", operands, d)
                if ours.turn(epilogue) not in turns:
                    verify(case, ours, d, expected, plan.precision_guarantee)
                    turns[ours.turn(epilogue)] = ours.call
                contenders.append(ours)
            if peer := _torch(case, epilogue, operands, d):
                verify(case, peer, d, expected, None)
                turns[peer.turn(epilogue)] = peer.call
                contenders.append(peer)
            entries.append((epilogue, contenders))
            del expected
        del product
        samples = self.stopwatch.compare(turns, self.rounds, flush=case.flush)
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

    def gated(self, case: Case) -> list[_report.Record]:
        """silu(x w1) * (x w2): two weights, or one with their columns interleaved."""
        m, n, k, dtype = case.m, case.n, case.k, case.dtype
        x, w1, w2 = (
            torch.randn(shape, device=self.device, generator=self.source).to(getattr(torch, dtype))
            for shape in ((m, k), (n, k), (n, k))
        )
        both = torch.stack([w1, w2], dim=1).flatten(0, 1)  # [2 n, k]: columns of the product take turns
        d = torch.empty(m, n, dtype=x.dtype, device=self.device)
        scale = k**-0.5
        w1, w2, both = (w.mul_(scale) for w in (w1, w2, both))
        expected = reference(Product.of(x, w1.T), product2=Product.of(x, w2.T), activation="silu")
        fields: _report.Record = {**vars(case), "products": 2, "epilogue": "silu(x w1) * (x w2)"}
        contenders = []
        gates: tuple[tuple[Literal["separate", "interleaved"], Any, Any], ...] = (
            ("separate", w1.T, w2.T),
            ("interleaved", both.T, None),
        )
        for gate, b, b2 in gates:
            descriptor = cutplan.GemmDescriptor(
                m=m, n=n, k=k, a=dtype, epilogue=cutplan.Epilogue(activation="silu", gate=gate)
            )
            plan = cutplan.GemmPlan.select(descriptor, self.device)
            ours = _gated(plan, "cutplan" if b2 is not None else f"cutplan {gate}", x, b, b2, d)
            verify(case, ours, d, expected, plan.precision_guarantee)
            contenders.append(ours)

        def eager(x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.silu(x @ w1.T) * (x @ w2.T)

        def compiled() -> Contender:
            call = torch.compile(eager)
            return Contender("torch.compile", lambda: call(x, w1, w2), {"call": "compile(eager)"})

        peers: list[tuple[str, Callable[[], Contender]]] = [
            (
                "torch",
                lambda: Contender("torch", lambda: eager(x, w1, w2), {"call": "silu(x @ w1) * (x @ w2)"}),
            )
        ]
        if self.device != "cpu":
            peers.append(("torch.compile", compiled))
        return [self._against(case, fields, contenders, peers, d, expected)]

    def grouped(self, case: Grouped) -> list[_report.Record]:
        f = case.fields
        rows, dtype = sum(case.sizes), getattr(torch, case.dtype)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device=self.device, generator=self.source).to(dtype)

        ends = [0, *itertools.accumulate(case.sizes)]
        offsets = torch.tensor(ends, dtype=torch.int32, device=self.device)
        parts = [slice(first, end) for first, end in itertools.pairwise(ends)]
        if case.over == "m":
            a, b = normal(rows, case.other), normal(len(parts), case.n, case.other).mT
            d = torch.empty(rows, case.n, dtype=dtype, device=self.device)
            pieces = [reference(Product.of(a[part], b[g])) for g, part in enumerate(parts)]
            expected = joined(pieces, torch.cat)
        else:
            a, b = normal(rows, case.other).T, normal(rows, case.n)
            d = torch.empty(len(parts), case.other, case.n, dtype=dtype, device=self.device)
            pieces = [reference(Product.of(a[:, part], b[part])) for part in parts]
            expected = joined(pieces, torch.stack)
        del pieces
        descriptor = cutplan.GroupedGemmDescriptor(
            groups=len(parts), m=f["m"], n=f["n"], k=f["k"], a=case.dtype, over=case.over, layout=f["layout"]
        )
        plan = cutplan.GroupedGemmPlan.select(descriptor, self.device)
        scratch = workspace_of(plan, d.device)
        ours = Contender(
            "cutplan",
            lambda: plan.run(a, b, d, offsets, workspace=scratch),
            {"sku": plan.sku.name, "workspace_bytes": plan.workspace_size},
        )
        verify(case, ours, d, expected, plan.precision_guarantee)
        offs = offsets[1:]

        def peer() -> Contender:
            multiply = torch._grouped_mm
            return Contender("torch", lambda: multiply(a, b, offs=offs), {"call": "_grouped_mm(a, b, offs=)"})

        fields = {**f, "epilogue": "none", "sizes": list(case.sizes)}
        return [self._against(case, fields, [ours], [("torch", peer)], d, expected)]

    def _against(
        self,
        case: object,
        fields: _report.Record,
        ours: list[Contender],
        peers: Sequence[tuple[str, Callable[[], Contender]]],
        d: torch.Tensor,
        expected: Reference,
    ) -> _report.Record:
        """Times ours, already verified, and every peer that takes the problem."""
        contenders, refused = list(ours), []
        for name, make in peers:
            try:
                made = refusing(name, make)
            except Refused as why:
                refused.append({"name": name, "refused": str(why)})
            else:
                verify(case, made, d, expected, None)
                contenders.append(made)
        del expected
        samples = self.stopwatch.compare({c.name: c.call for c in contenders}, self.rounds)
        return {
            **fields,
            "contenders": [
                *({"name": c.name, **c.facts, "microseconds": samples[c.name]} for c in contenders),
                *refused,
            ],
        }

    def copy(self) -> _report.Record:
        """What memory gives: a device copy, whose bytes are read and written."""
        source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=self.device).random_(generator=self.source)
        target = torch.empty_like(source)
        samples = self.stopwatch.compare({"copy": lambda: target.copy_(source)}, self.rounds)["copy"]
        return {"bytes": COPY_BYTES, "microseconds": samples}


def joined(pieces: Sequence[Reference], join: Callable[[list[torch.Tensor]], torch.Tensor]) -> Reference:
    """The results of all groups as one."""
    return Reference(
        join([piece.exact for piece in pieces]),
        join([piece.magnitude for piece in pieces]),
        join([piece.error for piece in pieces]),
    )


def _gated(
    plan: cutplan.GemmPlan,
    name: str,
    x: torch.Tensor,
    b: torch.Tensor,
    b2: torch.Tensor | None,
    d: torch.Tensor,
) -> Contender:
    scratch = workspace_of(plan, d.device)
    return Contender(
        name,
        lambda: plan.run(x, b, d, b2=b2, workspace=scratch),
        {"sku": plan.sku.name, "workspace_bytes": plan.workspace_size},
    )


def _rows(entry: _report.Record, copy_bandwidth: float | None) -> list[list[str]]:
    rows: dict[str, list[str]] = {}  # by kernel
    for contender in entry["contenders"]:
        if _report.is_peer(contender["name"]):
            continue
        cells = [
            entry["group"],
            _report.extents(entry),
            entry["layout"],
            _report.types(entry),
            contender["sku"].removeprefix("gemm."),
            f"{_report.median(contender):.1f}",
            _report.rate(entry, contender, copy_bandwidth),
        ]
        for name in ("torch", "torch.compile"):
            peer = _report.find(entry, name)
            speed = _report.ratio(entry, contender, name)
            if peer and speed:
                cells += [f"{_report.median(peer):.1f}", f"{speed:.3f}"]
            elif name == "torch":
                cells += ["none", "none"]
        rows[contender["sku"]] = cells
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


def parse_shape(text: str) -> tuple[int, int, int]:
    m, n, k = (int(extent) for extent in text.split("x"))
    if min(m, n, k) < 1:
        raise ValueError("an extent below 1 takes no time")
    return m, n, k


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, str]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gemm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and every sample")
    parser.add_argument(
        "--shapes", type=parse_shape, nargs="+", help="MxNxK; leaves out the standard set and the epilogues"
    )
    parser.add_argument("--only", type=pattern, help="regular expression that a problem's line must hold")
    parser.add_argument("--list", action="store_true", help="print the problems and measure nothing")
    layouts = [str(layout) for layout in cutplan.GemmLayout]
    parser.add_argument("--layouts", nargs="+", default=["rcr", "rrr"], choices=layouts)
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
    if options.list:
        return options, ""
    device = _report.choose_device(parser, options.device)
    if device == "cpu" and not options.shapes:
        parser.error("the standard shapes take hours on a host: name smaller ones with --shapes")
    if options.arch is None:
        options.arch = ["sm80"] if device != "cpu" and "sm80" in cutplan.built_architectures() else []
    if options.seed is None:
        options.seed = time.time_ns() % 2**31
    return options, device


def _cases(options: argparse.Namespace) -> list[Case]:
    def each(
        group: str, shapes: Sequence[tuple[int, int, int]], layouts: Sequence[str], flush: Flush = "written"
    ) -> list[Case]:
        return [
            Case(f"{group}, {dtype}", m, n, k, layout, dtype, dtype, flush=flush)
            for m, n, k in shapes
            for layout in layouts
            for dtype in options.dtypes
        ]

    def wide(group: str, dtype: str, d: str, math: str | None = None) -> list[Case]:
        return [Case(group, m, n, k, "rcr", dtype, d, math) for m, n, k in SHAPES]

    if options.shapes:
        return each("given shapes", options.shapes, options.layouts)
    cases = each("six shapes", SHAPES, options.layouts)
    if "float16" in options.dtypes:
        cases += wide("float32 D", "float16", "float32")
    cases += each("few rows, clean L2", FEW_ROWS, options.layouts, "read")
    cases += each("K = 512", [SHORT_K], ["rcr"])
    cases += wide("tf32", "float32", "float32", "tf32") + wide("float32", "float32", "float32", "tf32x3")
    return cases + wide("float64", "float64", "float64")


Job = Callable[["Bench"], list[_report.Record]]


def _jobs(options: argparse.Namespace) -> list[tuple[str, str, Job]]:
    """(Line, part of the record, measurement) of everything that is asked for."""
    jobs: list[tuple[str, str, Job]] = []

    def add(line: str, part: str, job: Job) -> None:
        if options.only is None or options.only.search(line):
            jobs.append((line, part, job))

    for case in _cases(options):
        add(str(case), "entries", partial(Bench.measure, case=case, architectures=options.arch))
    if options.shapes:
        return jobs
    for dtype in options.dtypes:
        case = Case("epilogues", *EPILOGUE_SHAPE, "rcr", dtype, dtype)
        add(str(case), "epilogues", partial(Bench.measure, case=case, epilogues=EPILOGUES))
    for dtype in options.dtypes:
        gated = Case("gated MLP", *GATED_SHAPE, "rcr", dtype, dtype)
        add(str(gated), "gated", partial(Bench.gated, case=gated))
    for over in ("m", "k"):
        for dtype in options.dtypes:
            grouped = Grouped(over, uneven(GROUPS, GROUPED_ROWS), *GROUPED_EXTENTS, dtype)
            add(str(grouped), "grouped", partial(Bench.grouped, case=grouped))
    return jobs


def report(record: _report.Record) -> None:
    """The tables and lines that a run ends with."""
    copy = record.get("copy")
    bandwidth = _report.copy_bandwidth(record)
    entries = [*record["entries"], *record.get("gated", []), *record.get("grouped", [])]
    header = ["group", "shape", "layout", "type", "kernel", "us", "rate", "torch us", "ratio"]
    rows = [row for entry in entries for row in _rows(entry, bandwidth)]
    if any(len(row) > len(header) for row in rows):
        header += ["compiled us", "ratio"]
    _report.print_table(header, [row + [""] * (len(header) - len(row)) for row in rows])
    if record["epilogues"]:
        _print_epilogues(record["epilogues"])
    print()
    if copy:
        print(f"copy of {copy['bytes'] >> 20} MiB: {bandwidth:.0f} GB/s, read and written")
    for line in [
        *_report.summary(entries),
        *_report.bandwidth_summary(record["entries"], bandwidth),
        *_report.refusals(entries),
    ]:
        print(line)


def main(arguments: Sequence[str]) -> None:
    options, device = _parse(arguments)
    jobs = _jobs(options)
    if options.list:
        print("\n".join(line for line, _, _ in jobs))
        return
    if not jobs:
        sys.exit("benchmarks.gemm: no problem's line holds what --only asks for: --list prints them")
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    bench = Bench(device, options.seed, rounds)
    record = _report.begin(
        "gemm",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=bench.stopwatch.flush_bytes,
    )
    record |= {part: [] for part in ("entries", "epilogues", "gated", "grouped")}
    if device != "cpu":
        record["copy"] = bench.copy()
    for _, part, job in jobs:
        record[part] += job(bench)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
