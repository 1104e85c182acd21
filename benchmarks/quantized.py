"""Products of quantised operands and of packed weights against torch's on the same codes, in one run.

    python -m benchmarks.quantized [--json FILE] [--quick] [--only REGEX] [--device cpu]

int8 against torch._int_mm, which stops at int32 sums; float8 against torch._scaled_mm, with scales of a
tensor, of rows, and of groups and blocks of 128, and groups of rows against torch._scaled_grouped_mm; packed
weights against torch's int4 product (_weight_int4pack_mm) and, as users without quantisation have it, against
16-bit products of the same values, torch's and ours. "cutplan fast" leaves sums of float8 in the tensor core,
as torch does with use_fast_accum. Operands of M of at most 64 are read at a rate that is given in GB/s of b
and its scales, and as a share of a copy's; what multiplies more in FLOP/s.

Every result is compared once, before it is timed, with float64 arithmetic on the same codes and scales: ours
within its plan's own error bound. What refuses a problem, ours too, is listed with its reason. Ratios are the
other's time over cutplan's: above 1 is faster.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

import cutplan
from benchmarks import _quantized, _report, gemm
from benchmarks._timing import WARM_UP_ROUNDS, Flush
from benchmarks.gemm import Contender, Refused, joined, refusing, uneven, verify, workspace_of
from tests.gemm.codes import meaning
from tests.oracle import Product, Reference, reference

if TYPE_CHECKING:
    from cutplan._typing import GranularityLike, WeightFormatLike

Extents = tuple[int, int, int]

SHAPES: tuple[Extents, ...] = (
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (2048, 28672, 8192),
    (4096, 14336, 4096),
    (512, 8192, 8192),
    (128, 8192, 8192),
    (64, 28672, 8192),
    (16, 8192, 8192),
    (1, 4096, 4096),
)
INT4_ROWS = (1, 8, 16, 32, 64, 128, 256, 2048, 4096)
FORMAT_ROWS = (1, 16, 128, 2048)
WEIGHTS = ((8192, 8192), (28672, 8192))  # n, k
FORMATS: tuple[WeightFormatLike, ...] = ("uint4", "int8", "e4m3", "nf4", "e2m1")
GROUP = 128
SMALLER = 32  # times, of extents with --quick

# What scales of A and B go together: the name, A's granularity and B's.
SCALES: dict[str, tuple[GranularityLike, GranularityLike]] = {
    "tensor scales": ("tensor", "tensor"),
    "row and column scales": ("row", "column"),
    "1x128 and 128x128 scales": ("group", "block"),
    "1x128 and 1x128 scales": ("group", "group"),
}


@dataclass(frozen=True)
class Codes:
    """A factor of a product: codes and scales, as matmul takes them, and what they stand for."""

    data: torch.Tensor
    scale: torch.Tensor
    wide: torch.Tensor  # float64

    @property
    def bytes(self) -> int:
        return _bytes(self.data, self.scale)


@dataclass(frozen=True)
class Entrant:
    """One of those that are timed; `make` raises where it does not take the problem."""

    name: str
    make: Callable[[], tuple[Contender, cutplan.PrecisionGuarantee | None]]
    expected: Reference


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _peer(
    name: str, call: str, run: Callable[[], object], expected: Reference, of_b: int | None = None
) -> Entrant:
    facts = {"call": call} if of_b is None else {"call": call, "bytes_of_b": of_b}
    return Entrant(name, lambda: (refusing(name, lambda: Contender(name, run, facts)), None), expected)


class Bench(gemm.Bench):
    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, generator=self.source)

    def codes(self, lines: int, k: int, dtype: str, of: GranularityLike, of_a: bool) -> Codes:
        """Of normal values [lines, k]: A, or B transposed. Scales along K lie as torch wants them, whose own
        order is that of the lines; those of blocks the other way."""
        kind: Any = "row" if of == "column" else of
        size = GROUP if of in ("group", "block") else None
        q = cutplan.quantize(self.normal(lines, k), dtype, granularity=kind, group_size=size)
        data, scale = q.data, q.scale
        if of == "group":
            scale = scale.T.contiguous().T
        if not of_a:
            data, scale = data.T, scale.T if scale.dim() == 2 else scale
        factor = None if of == "tensor" else scale
        wide = meaning(data, factor, None if of == "tensor" else str(of), None, None, of_a=of_a)
        return Codes(data, scale, wide * scale.double() if of == "tensor" else wide)

    def planned(
        self,
        name: str,
        descriptor: cutplan.GemmDescriptor | cutplan.GroupedGemmDescriptor,
        run: Callable[[Any, torch.Tensor | None], object],
        of_b: int,
        expected: Reference,
        math: str = "tf32x3",
    ) -> Entrant:
        """`run` calls a plan with a workspace; `of_b`: bytes of b and its scales."""

        def make() -> tuple[Contender, cutplan.PrecisionGuarantee | None]:
            preference = cutplan.PlanPreference(math=cutplan.Math(math))
            plan: cutplan.GemmPlan | cutplan.GroupedGemmPlan
            try:
                if isinstance(descriptor, cutplan.GemmDescriptor):
                    plan = cutplan.GemmPlan.select(descriptor, self.device, preference)
                else:
                    plan = cutplan.GroupedGemmPlan.select(descriptor, self.device, preference)
            except cutplan.Unsupported as error:
                raise Refused(str(error).splitlines()[0]) from error
            scratch = workspace_of(plan, torch.device(self.device))
            facts = {
                "sku": plan.sku.name,
                "workspace_bytes": plan.workspace_size,
                "bytes_of_b": of_b,
            }
            return Contender(name, lambda: run(plan, scratch), facts), plan.precision_guarantee

        return Entrant(name, make, expected)

    def compare(
        self, fields: _report.Record, entrants: Sequence[Entrant], d: torch.Tensor
    ) -> list[_report.Record]:
        """Everyone that takes the problem, verified, and timed in turns."""
        case = f"{fields['group']} {_report.extents(fields)}"
        contenders, refused = [], []
        for entrant in entrants:
            try:
                made, guarantee = entrant.make()
            except Refused as why:
                refused.append({"name": entrant.name, "refused": str(why)})
            else:
                verify(case, made, d, entrant.expected, guarantee)
                contenders.append(made)
        # What is written has yet to be written back: much, beside what a product of few rows reads.
        flush: Flush = "read" if fields["m"] <= _quantized.FEW else "written"
        samples = self.stopwatch.compare({c.name: c.call for c in contenders}, self.rounds, flush=flush)
        timed = [{"name": c.name, **c.facts, "microseconds": samples[c.name]} for c in contenders]
        return [
            {"layout": "rcr", "d": "bfloat16", "flush": flush, **fields, "contenders": [*timed, *refused]}
        ]

    def scaled(
        self,
        name: str,
        extents: Extents,
        dtype: str,
        scales: str,
        a: Codes,
        b: Codes,
        d: torch.Tensor,
        math: str = "tf32x3",
    ) -> Entrant:
        """Our product of these."""
        (m, n, k), (of_a, of_b) = extents, SCALES[scales]
        descriptor = cutplan.GemmDescriptor(
            m=m,
            n=n,
            k=k,
            a=dtype,
            b=dtype,
            d="bfloat16",
            a_scale=of_a,
            b_scale=of_b,
        )
        return self.planned(
            name,
            descriptor,
            lambda plan, scratch: plan.run(
                a.data, b.data, d, a_scale=a.scale, b_scale=b.scale, workspace=scratch
            ),
            b.bytes,
            reference(Product.of(a.wide, b.wide)),
            math,
        )

    def pair(self, extents: Extents, dtype: str, scales: str) -> tuple[Codes, Codes]:
        m, n, k = extents
        of_a, of_b = SCALES[scales]
        return self.codes(m, k, dtype, of_a, True), self.codes(n, k, dtype, of_b, False)

    def int8(self, extents: Extents) -> list[_report.Record]:
        m, n, k = extents
        scales = "row and column scales"
        a, b = self.pair(extents, "int8", scales)
        d = torch.empty(m, n, dtype=torch.bfloat16, device=self.device)
        sums = reference(Product.of(a.data, b.data))
        entrants = [
            self.scaled("cutplan", extents, "int8", scales, a, b, d),
            _peer(
                "torch",
                "_int_mm(a, b): int32 sums, without scales",
                lambda: torch._int_mm(a.data, b.data),
                sums,
                _bytes(b.data),
            ),
        ]
        fields = {"group": f"int8, {scales}", "m": m, "n": n, "k": k, "dtype": "int8"}
        return self.compare(fields, entrants, d)

    def float8(self, extents: Extents, scales: str) -> list[_report.Record]:
        m, n, k = extents
        dtype = "float8_e4m3fn"
        a, b = self.pair(extents, dtype, scales)
        d = torch.empty(m, n, dtype=torch.bfloat16, device=self.device)
        exact = reference(Product.of(a.wide, b.wide))
        along_k = SCALES[scales][0] == "group"
        entrants = [self.scaled("cutplan", extents, dtype, scales, a, b, d)]
        if along_k:
            rows = "row and column scales"
            x, w = self.pair(extents, dtype, rows)
            entrants.append(self.scaled("cutplan row scales", extents, dtype, rows, x, w, d))
        else:
            entrants.append(self.scaled("cutplan fast", extents, dtype, scales, a, b, d, "fast"))
        is_row = scales == "row and column scales"
        a_scale, b_scale = (a.scale[:, None], b.scale[None]) if is_row else (a.scale, b.scale)
        for fast in (False,) if along_k else (False, True):
            multiply = partial(
                torch._scaled_mm,
                a.data,
                b.data,
                a_scale,
                b_scale,
                out_dtype=torch.bfloat16,
                use_fast_accum=fast,
            )
            call = f"_scaled_mm(a, b, scale_a, scale_b, use_fast_accum={fast})"
            entrants.append(_peer("torch fast" if fast else "torch", call, multiply, exact, b.bytes))
        fields = {"group": f"e4m3, {scales}", "m": m, "n": n, "k": k, "dtype": dtype}
        return self.compare(fields, entrants, d)

    def grouped_float8(self, sizes: Sequence[int], extents: tuple[int, int]) -> list[_report.Record]:
        """Uneven groups of rows, by rows' and columns' scales, and by groups and blocks along K."""
        (n, k), rows, dtype = extents, sum(sizes), "float8_e4m3fn"
        ends = [0, *itertools.accumulate(sizes)]
        offsets = torch.tensor(ends, dtype=torch.int32, device=self.device)
        parts = [slice(first, end) for first, end in itertools.pairwise(ends)]
        d = torch.empty(rows, n, dtype=torch.bfloat16, device=self.device)

        def entrants_of(name: str, scales: str, with_peer: bool) -> list[Entrant]:
            of_a, of_b = SCALES[scales]
            a = self.codes(rows, k, dtype, of_a, True)
            data = torch.empty(len(sizes), n, k, dtype=a.data.dtype, device=self.device)
            each, pieces = [], []
            for group, part in enumerate(parts):
                one = self.codes(n, k, dtype, of_b, False)
                data[group].copy_(one.data.T)
                each.append(one.scale)
                pieces.append(reference(Product.of(a.wide[part], one.wide)))
            b, scale = data.mT, torch.stack(each)
            exact = joined(pieces, torch.cat)
            descriptor = cutplan.GroupedGemmDescriptor(
                groups=len(sizes),
                m=rows,
                n=n,
                k=k,
                a=dtype,
                b=dtype,
                d="bfloat16",
                a_scale=of_a,
                b_scale=of_b,
            )
            found = [
                self.planned(
                    name,
                    descriptor,
                    lambda plan, scratch: plan.run(
                        a.data, b, d, offsets, a_scale=a.scale, b_scale=scale, workspace=scratch
                    ),
                    _bytes(b, scale),
                    exact,
                )
            ]
            if with_peer:
                multiply = partial(
                    torch._scaled_grouped_mm,
                    a.data,
                    b,
                    a.scale,
                    scale,
                    offs=offsets[1:],
                    out_dtype=torch.bfloat16,
                )
                found.append(
                    _peer("torch", "_scaled_grouped_mm(a, b, scale_a, scale_b, offs=)", multiply, exact)
                )
            return found

        entrants = [
            *entrants_of("cutplan", "row and column scales", True),
            *entrants_of("cutplan block scales", "1x128 and 128x128 scales", False),
        ]
        group = f"e4m3, {len(sizes)} groups of rows"
        fields = {"group": group, "m": rows, "n": n, "k": k, "dtype": dtype, "sizes": list(sizes)}
        return self.compare(fields, entrants, d)

    def packed(self, form: WeightFormatLike, extents: Extents) -> list[_report.Record]:
        """16-bit rows times packed weights: int4 with bfloat16 scales, as torch's kernel has it; what
        pack_weights() makes of floats in every other format, of uint4 with zeros."""
        m, n, k = extents
        x = self.normal(m, k).bfloat16()
        codes = torch.randint(0, 16, (k, n), generator=self.source, device=self.device).to(torch.uint8)
        scale = (self.normal(-(-k // GROUP), n).abs() + 0.5).mul_(k**-0.5).bfloat16()
        if form == "int4":
            weights = cutplan.pack_weights(codes, form, group_size=GROUP, scale=scale)
        else:
            weights = cutplan.pack_weights(self.normal(k, n) * k**-0.5, form, group_size=GROUP)
        wide = cutplan.unpack_weights(weights, "float32")
        w = wide.bfloat16().T.contiguous().T  # columns as F.linear has them
        d = torch.empty(m, n, dtype=torch.bfloat16, device=self.device)
        exact, exact16 = reference(Product.of(x, wide)), reference(Product.of(x, w))
        del wide
        of_packing = cutplan.GemmDescriptor(
            m=m, n=n, k=k, a="bfloat16", d="bfloat16", weights=weights.packing
        )
        entrants = [
            self.planned(
                "cutplan",
                of_packing,
                lambda plan, scratch: plan.run(x, weights.data, d, workspace=scratch),
                _bytes(weights.data),
                exact,
            ),
            self.planned(
                "cutplan bfloat16",
                cutplan.GemmDescriptor(m=m, n=n, k=k, a="bfloat16"),
                lambda plan, scratch: plan.run(x, w, d, workspace=scratch),
                _bytes(w),
                exact16,
            ),
            _peer("torch bfloat16", "mm(x, w, out=)", lambda: torch.mm(x, w, out=d), exact16, _bytes(w)),
        ]
        if form == "int4":
            entrants.append(self._torch_int4(x, codes, scale, exact))
        fields = {"group": f"bfloat16 and {form}", "m": m, "n": n, "k": k, "dtype": "bfloat16"}
        return self.compare(fields, entrants, d)

    def _torch_int4(
        self, x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, expected: Reference
    ) -> Entrant:
        """Of (code - 8) scale + 0; two codes to a byte, the first in the high half."""

        def make() -> tuple[Contender, None]:
            def contender() -> Contender:
                rows = codes.T
                pairs = (rows[:, ::2] << 4 | rows[:, 1::2]).contiguous()
                tiles = torch.ops.aten._convert_weight_to_int4pack(pairs, 8)
                scales = torch.stack([scale, torch.zeros_like(scale)], -1).contiguous()
                multiply = torch.ops.aten._weight_int4pack_mm
                return Contender(
                    "torch",
                    lambda: multiply(x, tiles, GROUP, scales),
                    {"call": "_weight_int4pack_mm(x, w, 128, scales)", "bytes_of_b": _bytes(tiles, scales)},
                )

            return refusing("torch", contender), None

        return Entrant("torch", make, expected)


def report(record: _report.Record) -> None:
    """The table and the lines that a run ends with."""
    bandwidth, entries = _report.copy_bandwidth(record), record["entries"]
    _report.print_table(*_quantized.rows(record))
    print()
    if bandwidth:
        print(f"copy of {record['copy']['bytes'] >> 20} MiB: {bandwidth:.0f} GB/s, read and written")
    for line in [*_quantized.means(entries), *_report.refusals(entries)]:
        print(line)


Job = Callable[[Bench], list[_report.Record]]


def _jobs(quick: bool) -> list[tuple[str, Job]]:
    """(Line, measurement) of everything that there is."""

    def less(extent: int) -> int:
        return max(1, extent // SMALLER) if quick else extent

    def each(shapes: Sequence[Extents]) -> list[Extents]:
        return list(dict.fromkeys((less(m), less(n), less(k)) for m, n, k in shapes))

    jobs: list[tuple[str, Job]] = []

    def add(line: str, extents: Extents, job: Job) -> None:
        jobs.append((f"{line} {'x'.join(map(str, extents))}", job))

    for extents in each(SHAPES):
        add("int8, row and column scales", extents, partial(Bench.int8, extents=extents))
    for scales in SCALES:
        for extents in each(SHAPES):
            add(f"e4m3, {scales}", extents, partial(Bench.float8, extents=extents, scales=scales))
    sizes = uneven(less(gemm.GROUPS), less(gemm.GROUPED_ROWS))
    n, k = (less(extent) for extent in gemm.GROUPED_EXTENTS)
    add(
        f"e4m3, {len(sizes)} groups of rows",
        (sum(sizes), n, k),
        partial(Bench.grouped_float8, sizes=sizes, extents=(n, k)),
    )
    int4 = each([(m, *weights) for weights in WEIGHTS for m in INT4_ROWS])
    others = each([(m, *WEIGHTS[0]) for m in FORMAT_ROWS])
    for form, shapes in (("int4", int4), *((form, others) for form in FORMATS)):
        for extents in shapes:
            add(f"bfloat16 and {form}", extents, partial(Bench.packed, form=form, extents=extents))
    return jobs


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantized",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", help="default: the first GPU")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="small problems, few rounds: whether it runs")
    parser.add_argument("--only", type=gemm.pattern, metavar="REGEX", help="that a problem's line must hold")
    parser.add_argument("--list", action="store_true", help="print the problems and measure nothing")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    jobs = [
        (line, job) for line, job in _jobs(options.quick) if options.only is None or options.only.search(line)
    ]
    if options.list:
        print("\n".join(line for line, _ in jobs))
        return
    if not jobs:
        sys.exit("benchmarks.quantized: no problem's line holds what --only asks for: --list prints them")
    device = _report.choose_device(parser, options.device)
    if device == "cpu" and not options.quick:
        parser.error("these problems take hours on a host: --quick makes them small")
    start = time.perf_counter()
    rounds = gemm.QUICK_ROUNDS if options.quick else gemm.ROUNDS
    bench = Bench(device, options.seed, rounds)
    record = _report.begin(
        "quantized",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=bench.stopwatch.flush_bytes,
    )
    record["entries"] = []
    if device != "cpu":
        record["copy"] = bench.copy()
    for _, job in jobs:
        record["entries"] += job(bench)
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
