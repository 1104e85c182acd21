"""The ops around attention against the copy that moves as many bytes, and torch, eager and compiled.

    python -m benchmarks.attention_ops [--json FILE] [--quick] [--only REGEX] [--device cpu]

Every round runs each contender once, in random order. A problem's bytes are those that it must read and
write, each once; "copy" is torch's copy of a tensor of half as many. Ours is a plan's run() on operands that
are there. Small problems stand beside "launch", torch's fill of one element. Results are compared with
torch's before they are timed.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

import cutplan
from benchmarks import _attention_ops, _report
from benchmarks._attention_ops import COMPILED, COPY, EAGER, LAUNCH, OURS
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch

ROUNDS, QUICK_ROUNDS = 30, 5


@dataclass(frozen=True)
class Problem:
    """`ours` and `eager` compute the same; `bytes` is what must be moved."""

    name: str
    shape: str
    bytes: int
    ours: Callable[[], object]
    eager: Callable[[], object]
    result: Callable[[], torch.Tensor]  # ours, after a run
    exact: bool = False


def _bytes(*tensors: torch.Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def _angles(rows: int, dim: int, device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    frequency = 10000.0 ** (-torch.arange(0, dim, 2, device=device, dtype=torch.float64) / dim)
    angles = torch.arange(rows, device=device, dtype=torch.float64)[:, None] * frequency
    return angles.cos().to(dtype), angles.sin().to(dtype)


class Cases:
    def __init__(self, device: str, seed: int, scale: int) -> None:
        self.device, self.scale = device, scale
        self.source = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(shape, generator=self.source, device=self.device).to(dtype)

    def merge_states(self, parts: int) -> Problem:
        shape = (max(8 // self.scale, 1), 32, 4096 // self.scale, 128)
        o, lse = self.normal(parts, *shape), self.normal(parts, *shape[:-1], dtype=torch.float32)
        out, out_lse = torch.empty_like(o[0]), torch.empty_like(lse[0])
        plan = cutplan.MergeStatesPlan.select(
            cutplan.MergeStatesDescriptor(
                parts=parts, batch=shape[0], heads=shape[1], rows=shape[2], dim=shape[3], dtype="bfloat16"
            ),
            self.device,
        )

        def eager() -> tuple[torch.Tensor, torch.Tensor]:
            total = torch.logsumexp(lse, 0)
            return (torch.exp(lse - total)[..., None] * o).sum(0).to(o.dtype), total

        return Problem(
            "merge_states", f"{parts} x {list(shape)}", _bytes(o, lse, out, out_lse),
            lambda: plan.run(o, lse, out, out_lse=out_lse), eager, lambda: out,
        )  # fmt: skip

    def alibi(self, backward: bool) -> Problem:
        shape = (2, 32, 2048 // self.scale, 2048 // self.scale)
        scores, out = self.normal(*shape), torch.empty(shape, dtype=torch.bfloat16, device=self.device)
        slopes = torch.rand(shape[1], generator=self.source, device=self.device)
        forward = cutplan.AlibiDescriptor(
            batch=shape[0], heads=shape[1], seq_q=shape[2], seq_k=shape[3], dtype="bfloat16"
        )
        rows = torch.arange(shape[2], device=self.device)[:, None]
        distance = (torch.arange(shape[3], device=self.device) - rows).float()
        if not backward:
            plan = cutplan.AlibiPlan.select(forward, self.device)
            return Problem(
                "alibi", str(list(shape)), _bytes(scores, out), lambda: plan.run(scores, slopes, out),
                lambda: scores + (slopes[:, None, None] * distance).to(scores.dtype), lambda: out,
            )  # fmt: skip
        back = cutplan.AlibiBackwardPlan.select(cutplan.AlibiBackwardDescriptor(forward), self.device)
        scratch = torch.empty(back.workspace_size, dtype=torch.uint8, device=self.device)
        dslopes = torch.empty_like(slopes)
        return Problem(
            "alibi_backward", str(list(shape)), _bytes(scores, out),
            lambda: back.run(scores, dscores=out, dslopes=dslopes, workspace=scratch),
            lambda: (scores.clone(), (scores.float() * distance).sum((0, 2, 3))), lambda: out, exact=True,
        )  # fmt: skip

    def rope(self, batch: int, seq: int, *, backward: bool = False, interleaved: bool = False) -> Problem:
        heads, heads_k, dim = 32, 8, 128
        q, k = self.normal(batch, heads, seq, dim), self.normal(batch, heads_k, seq, dim)
        q_out, k_out = torch.empty_like(q), torch.empty_like(k)
        forward = cutplan.RopeDescriptor(
            batch=batch,
            heads=heads,
            heads_k=heads_k,
            seq=seq,
            dim=dim,
            dtype="bfloat16",
            interleaved=interleaved,
        )
        plan: Any = cutplan.RopePlan.select(forward, self.device)
        if backward:
            plan = cutplan.RopeBackwardPlan.select(cutplan.RopeBackwardDescriptor(forward), self.device)
        cos, sin = _angles(seq, dim, self.device, torch.float32)
        sin = -sin if backward else sin

        def turned(x: torch.Tensor) -> torch.Tensor:
            if not interleaved:
                return _rotate(x.float(), cos, sin).to(x.dtype)
            pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
            return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)

        name = "rope_backward" if backward else "rope, interleaved" if interleaved else "rope"
        return Problem(
            name, f"{batch} x ({heads} + {heads_k}) x {seq} x {dim}", 2 * _bytes(q, k),
            lambda: plan.run(q, k, q_out, k_out), lambda: (turned(q), turned(k)), lambda: q_out,
        )  # fmt: skip

    def append(
        self, batch: int, rows: int, *, cache: str = "bfloat16", pages: int = 0, turned: bool = False
    ) -> Problem:
        heads, dim, capacity = 8, 128, max(2 * rows, 128)
        k, v = self.normal(batch, rows, heads, dim), self.normal(batch, rows, heads, dim)
        cache_type = torch.bfloat16 if cache == "bfloat16" else getattr(torch, cache)
        shape = (batch * capacity // pages, pages, heads, dim) if pages else (batch, capacity, heads, dim)
        caches = [torch.zeros(shape, device=self.device).to(cache_type) for _ in "kv"]
        offsets = torch.randint(0, capacity - rows + 1, (batch,), generator=self.source, device=self.device)
        arguments: dict[str, Any] = {}
        fields: dict[str, Any] = {"sequences": batch, "capacity": capacity}
        if pages:
            table = torch.randperm(batch * capacity // pages, generator=self.source, device=self.device)
            arguments["block_table"] = table.int().view(batch, -1)
            fields = {"pages": shape[0], "page_size": pages, "max_pages": capacity // pages}
        cos, sin = _angles(capacity, dim, self.device, torch.float32)
        if turned:
            arguments |= {"cos": cos, "sin": sin}
            fields |= {"table_rows": capacity, "rotary_dim": dim}
        if cache != "bfloat16":
            arguments |= {name: torch.ones(1, device=self.device) for name in ("k_scale", "v_scale")}
        plan = cutplan.KvCacheAppendPlan.select(
            cutplan.KvCacheAppendDescriptor(
                batch=batch, heads=heads, seq=rows, dim=dim, dtype="bfloat16", cache=cache, layout="bshd",
                offsets="int64", **fields,
            ),
            self.device,
        )  # fmt: skip
        sequence = torch.arange(batch, device=self.device)[:, None].expand(batch, rows)

        def eager() -> None:
            at = offsets[:, None] + torch.arange(rows, device=self.device)
            keys = _rotate(k.float(), cos[at][:, :, None], sin[at][:, :, None]).to(k.dtype) if turned else k
            place = (arguments["block_table"].gather(1, at // pages), at % pages) if pages else (sequence, at)
            for to, rows_of in zip(caches, (keys, v), strict=True):
                to[place] = rows_of.to(cache_type)

        how = "".join([f", {cache}" if cache != "bfloat16" else "", f", pages of {pages}" if pages else ""])
        return Problem(
            f"kv_cache_append{', rope' if turned else ''}{how}", f"{batch} x {heads} x {rows} x {dim}",
            _bytes(k, v) + 2 * k.numel() * cache_type.itemsize,
            lambda: plan.run(k, v, caches[0], caches[1], offsets, **arguments), eager,
            lambda: caches[0].float(),
        )  # fmt: skip

    def all(self) -> list[Callable[[], Problem]]:
        rows, batch = 4096 // self.scale, max(8 // self.scale, 1)
        return [
            lambda: self.merge_states(2),
            lambda: self.merge_states(4),
            lambda: self.alibi(False),
            lambda: self.alibi(True),
            lambda: self.rope(batch, rows),
            lambda: self.rope(batch, rows, interleaved=True),
            lambda: self.rope(batch, rows, backward=True),
            lambda: self.append(64 // self.scale, 1024),
            lambda: self.append(64 // self.scale, 1024, pages=16),
            lambda: self.append(64 // self.scale, 1024, turned=True),
            lambda: self.append(64 // self.scale, 1024, cache="float8_e4m3fn"),
            lambda: self.append(64, 1),
            lambda: self.append(64, 1, turned=True),
            lambda: self.append(64, 1, pages=16),
            lambda: self.rope(64, 1),
        ]


def _check(problem: Problem) -> None:
    """Ours against torch's, whose arithmetic is that of float32 rounded to bfloat16 on its way."""
    problem.ours()
    got = problem.result().float().clone()
    expected: Any = problem.eager()
    wanted = expected[0] if isinstance(expected, tuple) else expected
    wanted = problem.result().float() if wanted is None else wanted.float()
    worst = (got - wanted).abs().max().item()
    if worst > (0 if problem.exact else 0.05 * max(1.0, wanted.abs().max().item())):
        sys.exit(f"benchmarks.attention_ops: {problem.name} {problem.shape}: off by {worst}")


def measure(
    problem: Problem,
    stopwatch: Stopwatch,
    rounds: int,
    device: str,
    check: Callable[[Problem], None] = _check,
) -> _report.Record:
    check(problem)
    half = max(problem.bytes // 2, 16)
    source, target = (torch.zeros(half, dtype=torch.uint8, device=device) for _ in range(2))
    one = torch.zeros(1, device=device)
    contenders: dict[str, Callable[[], object]] = {
        OURS: problem.ours,
        COPY: lambda: target.copy_(source),
        EAGER: problem.eager,
    }
    if device != "cpu":
        contenders[LAUNCH] = lambda: one.fill_(1.0)
        contenders[COMPILED] = torch.compile(problem.eager, dynamic=False)
    samples = stopwatch.compare(contenders, rounds)
    return {
        "group": problem.name,
        "shape": problem.shape,
        "bytes": problem.bytes,
        "contenders": [{"name": name, "microseconds": times} for name, times in samples.items()],
    }


def report(record: _report.Record) -> None:
    _report.print_table(*_attention_ops.rows(record))


def main(arguments: Sequence[str]) -> None:
    parser = _report.arguments_of("attention_ops")
    parser.add_argument("--only", metavar="REGEX", help="of an op's name")
    options = parser.parse_args(arguments)
    device = _report.choose_device(parser, options.device)
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    stopwatch = Stopwatch(device, options.seed)
    record = _report.begin(
        "attention_ops",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=stopwatch.flush_bytes,
    )
    record["entries"] = []
    for make in Cases(device, options.seed, 16 if options.quick else 1).all():
        problem = make()
        if options.only is None or re.search(options.only, problem.name):
            record["entries"].append(measure(problem, stopwatch, rounds, device))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
