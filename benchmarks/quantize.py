"""Quantisation, both ways, against the copy that moves as many bytes, and torch, eager and compiled.

    python -m benchmarks.quantize [--json FILE] [--quick] [--only REGEX] [--device cpu]

Every round runs each contender once, in random order. A problem's bytes are those that it must read and
write, each once; of x with one scale for all, or for columns, which is read before it is known, twice. "copy"
is torch's copy of a tensor of half as many. Ours is a plan's run() on operands that are there. Codes are
compared with torch's before they are timed: one in 100 may differ, for torch rounds the quotient before it
rounds to a code, and of 16-bit x many quotients are ties but for what 1 / scale was rounded by.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

import cutplan
from benchmarks import _report
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch
from benchmarks.attention_ops import QUICK_ROUNDS, ROUNDS, Problem, measure, report

if TYPE_CHECKING:
    from cutplan._typing import GranularityLike

ROWS, COLUMNS = 16384, 8192
_LARGEST = {"int8": 127, "int4": 7, "float8_e4m3fn": 448, "float8_e5m2": 57344}


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class Cases:
    def __init__(self, device: str, seed: int, scale: int) -> None:
        self.device, self.rows, self.columns = device, ROWS // scale, COLUMNS // scale
        self.source = torch.Generator(device).manual_seed(seed)

    def operands(
        self, x_type: str, dtype: str, granularity: GranularityLike, group_size: int, symmetric: bool
    ) -> tuple[torch.Tensor, cutplan.Quantized]:
        x = torch.randn(self.rows, self.columns, generator=self.source, device=self.device)
        x = x.to(getattr(torch, x_type))
        q = cutplan.quantize(
            x, dtype, granularity=granularity, group_size=group_size or None, symmetric=symmetric
        )
        return x, q

    def spread(self, of_scales: torch.Tensor, granularity: GranularityLike, group_size: int) -> torch.Tensor:
        """One for each element, without memory of their own where they are many."""
        if granularity in ("tensor", "column"):
            return of_scales
        if granularity == "row":
            return of_scales[:, None]
        down = 1 if granularity == "group" else group_size
        return of_scales.repeat_interleave(group_size, 1).repeat_interleave(down, 0)

    def quantize(
        self,
        dtype: str,
        granularity: GranularityLike,
        group_size: int = 0,
        *,
        x: str = "bfloat16",
        symmetric: bool = True,
        static: bool = False,
    ) -> Problem:
        values, q = self.operands(x, dtype, granularity, group_size, symmetric)
        descriptor = cutplan.QuantizeDescriptor(
            rows=self.rows, columns=self.columns, x=x, dtype=dtype, granularity=granularity,
            group_size=group_size, symmetric=symmetric, static_scale=static,
        )  # fmt: skip
        plan = cutplan.QuantizePlan.select(descriptor, self.device)
        scratch = torch.empty(plan.workspace_size, dtype=torch.uint8, device=self.device)
        rows, columns = self.rows, self.columns
        groups = columns // max(group_size, 1)
        extents, over = {
            "tensor": ((rows, columns), (0, 1)),
            "row": ((rows, columns), (1,)),
            "column": ((rows, columns), (0,)),
            "group": ((rows, groups, group_size), (2,)),
            "block": ((rows // max(group_size, 1), group_size, groups, group_size), (1, 3)),
        }[granularity]  # fmt: skip
        largest = _LARGEST[dtype]

        def eager() -> torch.Tensor:
            wide = values.view(extents).float()
            zero: Any = 0
            if not symmetric:
                least, most = wide.amin(over, keepdim=True), wide.amax(over, keepdim=True)
                least, most = least.clamp(max=0), most.clamp(min=0)
                steps = 15 if dtype == "int4" else 255
                inverse = 1 / (most / steps - least / steps)
                zero = (0 if dtype == "int4" else -128) - (least * inverse).round()
            elif static:
                inverse = 1 / q.scale
            else:
                inverse = 1 / (wide.abs().amax(over, keepdim=True) / largest)
            scaled = (wide * inverse).view(rows, columns) if symmetric else wide * inverse
            if dtype.startswith("float8"):
                return scaled.clamp(-largest, largest).to(getattr(torch, dtype))
            if symmetric:
                codes = scaled.round().clamp(-largest, largest).to(torch.int8)
            else:
                bounds = (0, 15) if dtype == "int4" else (-128, 127)
                codes = (scaled.round() + zero).clamp(*bounds).to(torch.int8).view(rows, columns)
            if dtype == "int8":
                return codes
            return ((codes[:, 0::2] & 15) | (codes[:, 1::2] << 4)).view(torch.uint8)

        passes = 2 if granularity in ("tensor", "column") and not static else 1
        size = str(group_size) if group_size else ""
        how = f"{granularity}{size}{'' if symmetric else ', zero'}{', given' if static else ''}"
        return Problem(
            f"quantize {dtype}, {how}", f"{rows} x {columns} {x}",
            passes * _bytes(values) + _bytes(q.data, q.scale),
            lambda: plan.run(values, q.data, q.scale, zero=q.zero, workspace=scratch), eager,
            lambda: q.data,
        )  # fmt: skip

    def dequantize(
        self, dtype: str, granularity: GranularityLike, group_size: int = 0, *, symmetric: bool = True
    ) -> Problem:
        out, q = self.operands("bfloat16", dtype, granularity, group_size, symmetric)
        descriptor = cutplan.DequantizeDescriptor(
            rows=self.rows, columns=self.columns, dtype=dtype, out="bfloat16", granularity=granularity,
            group_size=group_size, symmetric=symmetric,
        )  # fmt: skip
        plan = cutplan.DequantizePlan.select(descriptor, self.device)
        scale = self.spread(q.scale, granularity, group_size)
        zero = 0 if q.zero is None else self.spread(q.zero, granularity, group_size)

        def eager() -> torch.Tensor:
            codes = q.data
            if dtype == "int4":
                codes = torch.stack([codes & 15, codes >> 4], -1).flatten(-2).to(torch.int8)
                codes = torch.where(codes > 7, codes - 16, codes) if symmetric else codes
            return ((codes.float() - zero) * scale).to(out.dtype)

        size = str(group_size) if group_size else ""
        return Problem(
            f"dequantize {dtype}, {granularity}{size}{'' if symmetric else ', zero'}",
            f"{self.rows} x {self.columns} bfloat16", _bytes(out, q.data, q.scale),
            lambda: plan.run(q.data, q.scale, out, zero=q.zero), eager, lambda: out, exact=True,
        )  # fmt: skip

    def all(self) -> list[Callable[[], Problem]]:
        return [
            lambda: self.quantize("float8_e4m3fn", "tensor", static=True),
            lambda: self.quantize("float8_e4m3fn", "tensor"),
            lambda: self.quantize("float8_e4m3fn", "row"),
            lambda: self.quantize("float8_e4m3fn", "group", 128),
            lambda: self.quantize("float8_e4m3fn", "block", 128),
            lambda: self.quantize("float8_e5m2", "row"),
            lambda: self.quantize("int8", "row"),
            lambda: self.quantize("int8", "row", symmetric=False),
            lambda: self.quantize("int8", "row", x="float32"),
            lambda: self.quantize("int8", "column"),
            lambda: self.quantize("int4", "group", 128),
            lambda: self.quantize("int4", "group", 32, symmetric=False),
            lambda: self.dequantize("float8_e4m3fn", "block", 128),
            lambda: self.dequantize("int8", "row"),
            lambda: self.dequantize("int8", "column"),
            lambda: self.dequantize("int4", "group", 128),
            lambda: self.dequantize("int4", "group", 32, symmetric=False),
        ]


def check(problem: Problem) -> None:
    problem.ours()
    got, wanted = problem.result().clone(), problem.eager()
    assert isinstance(wanted, torch.Tensor)
    if problem.exact:
        different = (got != wanted).float().mean().item()
    else:
        a, b = got.view(torch.uint8), wanted.view(torch.uint8)
        different = (a != b).float().mean().item()
    if different > (0 if problem.exact else 1e-2):
        sys.exit(
            f"benchmarks.quantize: {problem.name} {problem.shape}: {different:.2%} of codes are not torch's"
        )


def main(arguments: Sequence[str]) -> None:
    parser = _report.arguments_of("quantize")
    parser.add_argument("--only", metavar="REGEX", help="of a problem's name")
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    stopwatch = Stopwatch(device, options.seed)
    record = _report.begin(
        "quantize",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=stopwatch.flush_bytes,
    )
    record["entries"] = []
    for make in Cases(device, options.seed, 8 if options.quick else 1).all():
        problem = make()
        if options.only is None or re.search(options.only, problem.name):
            record["entries"].append(measure(problem, stopwatch, rounds, device, check))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
