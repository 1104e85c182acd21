"""Attention: cutplan's kernels, torch's FlashAttention-2, cuDNN and memory-efficient backends, in one run.

    python -m benchmarks.fmha [--json FILE] [--quick] [--only REGEX] [--shapes BxHxHkxSqxSkxD ...]

Every round runs each contender once, in random order. Ours is the kernel that select() picks; backward also
with deterministic=True. Before it is timed, every result is compared with float64 arithmetic on the same
inputs, for one batch entry and group of heads: an element of ours outside its plan's own error bound ends the
run. Peers run through scaled_dot_product_attention, held to one backend, and backward through
torch.autograd.grad alone, without the forward; where that function has no such mask, through the backend's
own operator. A peer that refuses a problem is listed with its reason. Ratios are the peer's time over
cutplan's: above 1 is faster.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import cutplan
from benchmarks import _attention, _report
from benchmarks._timing import WARM_UP_ROUNDS, Stopwatch
from tests.fmha.oracle import Guarantee, Operands, Results, attention
from tests.oracle import complaint

TOKENS, WIDTH = 16384, 2048
ROUNDS, QUICK_ROUNDS = 20, 5
MEMORY_LENGTHS = (1024, 2048, 4096, 8192, 16384)
BACKENDS = {
    _attention.FA2: SDPBackend.FLASH_ATTENTION,
    _attention.CUDNN: SDPBackend.CUDNN_ATTENTION,
    _attention.EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
}

# Frobenius norm of a peer's error relative to the result's: only to show that all computed the same.
_PEER_TOLERANCE = 0.02


@dataclass(frozen=True)
class Case:
    group: str  # of cases that are summed up together
    batch: int
    heads: int
    heads_k: int
    seq_q: int
    seq_k: int
    dim: int
    mask: str = "full"  # "full", "causal", "window <left>", "bias", "bias, dbias"
    dtype: str = "bfloat16"
    backward: bool = False

    def __str__(self) -> str:
        return f"{self.group} {_attention.problem(vars(self))} {self.mask} {self.dtype}"

    @property
    def biased(self) -> bool:
        return self.mask.startswith("bias")

    @property
    def dbias(self) -> bool:
        return self.mask == "bias, dbias"

    @property
    def window(self) -> tuple[int, int]:
        return (int(self.mask.split()[1]), 0) if self.mask.startswith("window") else (-1, -1)

    @property
    def causal(self) -> Literal["bottom_right"] | None:
        return "bottom_right" if self.mask == "causal" else None


def _square(group: str, seq: int, dim: int, mask: str = "full", **more: Any) -> Case:
    """16384 tokens of a model 2048 wide."""
    heads = WIDTH // dim
    return Case(group, max(TOKENS // seq, 1), heads, heads, seq, seq, dim, mask, **more)


def standard_cases() -> list[Case]:
    cases = [
        _square("forward", seq, dim, mask)
        for dim in (64, 128, 256)
        for mask in ("full", "causal")
        for seq in (2048, 8192, 16384)
    ]
    cases += [
        _square("backward", seq, dim, mask, backward=True)
        for dim in (64, 128, 256)
        for mask in ("full", "causal")
        for seq in (2048, 8192)
    ]
    for mask in ("full", "causal"):
        cases.append(_square("512 tokens", 512, 128, mask))
        cases.append(_square("512 tokens, backward", 512, 128, mask, backward=True))
    gqa = Case("grouped heads", 2, 32, 8, 8192, 8192, 128, "causal")
    window = _square("window", 8192, 128, "window 1024")
    bias = Case("bias", 4, 16, 16, 4096, 4096, 128, "bias")
    for case in (gqa, window, bias):
        cases += [case, replace(case, group=f"{case.group}, backward", backward=True)]
    cases.append(replace(bias, group="bias, backward", mask="bias, dbias", backward=True))
    cases += [
        Case("one query", batch, 32, 8, 1, keys, 128)
        for batch, keys in ((1, 8192), (16, 8192), (64, 4096), (1, 131072))
    ]
    for seq in (2048, 8192):
        cases.append(_square("float16", seq, 128, "causal", dtype="float16"))
    cases.append(_square("float16, backward", 8192, 128, "causal", dtype="float16", backward=True))
    return cases


@dataclass(frozen=True)
class Tensors:
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    grad: torch.Tensor
    bias: torch.Tensor | None

    @staticmethod
    def of(case: Case, device: str, source: torch.Generator) -> Tensors:
        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(shape, device=device, generator=source).to(getattr(torch, case.dtype))

        q_shape = (case.batch, case.heads, case.seq_q, case.dim)
        k_shape = (case.batch, case.heads_k, case.seq_k, case.dim)
        bias = normal(1, case.heads, case.seq_q, case.seq_k) if case.biased else None
        return Tensors(normal(*q_shape), normal(*k_shape), normal(*k_shape), normal(*q_shape), bias)


@dataclass(frozen=True)
class Contender:
    name: str
    call: Callable[[], object]
    results: Callable[[], dict[str, torch.Tensor]]  # after a call
    facts: _report.Record
    guarantee: Any = None  # of cutplan's; a peer gives none


class Refused(Exception):
    """Why a peer does not take a problem."""


# ---- ours


def _scratch(plan: Any, device: torch.device) -> torch.Tensor | None:
    return torch.empty(plan.workspace_size, dtype=torch.uint8, device=device) if plan.workspace_size else None


def _descriptor(case: Case) -> cutplan.FmhaDescriptor:
    return cutplan.FmhaDescriptor(
        batch=case.batch,
        heads=case.heads,
        heads_k=case.heads_k,
        seq_q=case.seq_q,
        seq_k=case.seq_k,
        dim=case.dim,
        dtype=case.dtype,
        causal=case.causal,
        window=case.window,
        bias=case.dtype if case.biased else None,
        lse=True,
    )


def _forward(case: Case, x: Tensors, device: str) -> Contender:
    plan = cutplan.FmhaPlan.select(_descriptor(case), device)
    o = torch.full_like(x.q, torch.nan)
    lse = torch.full(x.q.shape[:3], torch.nan, device=device)
    scratch = _scratch(plan, x.q.device)
    q, k, v, bias = x.q, x.k, x.v, x.bias
    return Contender(
        _attention.OURS,
        lambda: plan.run(q, k, v, o, lse=lse, bias=bias, workspace=scratch),
        lambda: {"o": o, "lse": lse},
        {"sku": plan.sku.name, "workspace_bytes": plan.workspace_size},
        plan.precision_guarantee,
    )


def _backward(case: Case, x: Tensors, device: str, deterministic: bool) -> Contender:
    descriptor = cutplan.FmhaBackwardDescriptor(_descriptor(case), dbias=case.dbias)
    plan = cutplan.FmhaBackwardPlan.select(
        descriptor, device, cutplan.PlanPreference(deterministic=deterministic)
    )
    forward = _forward(case, x, device)
    forward.call()
    q, k, v, grad, bias = x.q, x.k, x.v, x.grad, x.bias
    o, lse = forward.results().values()
    dq, dk, dv = (torch.full_like(t, torch.nan) for t in (q, k, v))
    dbias = torch.full_like(bias, torch.nan) if case.dbias and bias is not None else None
    scratch = _scratch(plan, q.device)
    return Contender(
        _attention.DETERMINISTIC if deterministic else _attention.OURS,
        lambda: plan.run(grad, q, k, v, o, lse, dq, dk, dv, bias=bias, dbias=dbias, workspace=scratch),
        lambda: {"dq": dq, "dk": dk, "dv": dv, **({} if dbias is None else {"dbias": dbias})},
        {
            "sku": plan.sku.name,
            "workspace_bytes": plan.workspace_size,
            "deterministic": plan.precision_guarantee.deterministic,
        },
        plan.precision_guarantee,
    )


# ---- peers


def _reason(error: Exception, told: Sequence[warnings.WarningMessage]) -> str:
    """The first line of an error; where torch says only that no backend is left, what it warned of before."""
    said = [str(warning.message).split(" (Triggered")[0].strip() for warning in told]
    told_why = [line for line in dict.fromkeys(said) if line and not line.endswith("because:")]
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return "; ".join(told_why) if told_why and "No available kernel" in first else first


def _peer(name: str, case: Case, x: Tensors) -> Contender:
    """Raises Refused where the backend does not take the problem."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            if case.window != (-1, -1):
                made = _flash_window(case, x) if name == _attention.FA2 else _no_window(name)
            else:
                made = _sdpa(name, case, x)
            made.call()
            if x.q.is_cuda:
                torch.cuda.synchronize()
        except (RuntimeError, ValueError) as error:
            raise Refused(_reason(error, told)) from error
    return made


def _no_window(name: str) -> Contender:
    raise Refused(f"torch has no way to ask {name} for a window")


def _sdpa(name: str, case: Case, x: Tensors) -> Contender:
    leaves = [t.detach().requires_grad_(case.backward) for t in (x.q, x.k, x.v)]
    bias = x.bias
    if bias is not None:
        bias = bias.detach().requires_grad_(case.dbias)
        leaves += [bias] if case.dbias else []
    added = None if bias is None else bias.expand(case.batch, -1, -1, -1)
    options: dict[str, Any] = {"attn_mask": added, "is_causal": case.mask == "causal"}
    if case.heads != case.heads_k:
        options["enable_gqa"] = True
    q, k, v = leaves[:3]
    backend = BACKENDS[name]

    def forward() -> torch.Tensor:
        with sdpa_kernel(backend):
            out: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(q, k, v, **options)
        return out

    held: dict[str, torch.Tensor] = {}
    if not case.backward:

        def call() -> None:
            held["o"] = forward()

        facts = {"call": f"scaled_dot_product_attention, {backend.name}"}
        return Contender(name, call, lambda: held, facts)

    o = forward()
    names = ["dq", "dk", "dv", "dbias"][: len(leaves)]

    def backward() -> None:
        gradients = torch.autograd.grad(o, leaves, x.grad, retain_graph=True)
        held.update(zip(names, gradients, strict=True))

    facts = {"call": f"autograd.grad of scaled_dot_product_attention, {backend.name}"}
    return Contender(name, backward, lambda: held, facts)


def _flash_window(case: Case, x: Tensors) -> Contender:
    """FlashAttention-2's own operators, whose layout is [batch, sequence, heads, dim]."""
    q, k, v, grad = (t.transpose(1, 2) for t in (x.q, x.k, x.v, x.grad))
    left, right = case.window
    window = {"window_size_left": left, "window_size_right": right}
    forward = torch.ops.aten._flash_attention_forward
    backward = torch.ops.aten._flash_attention_backward
    extents = (None, None, case.seq_q, case.seq_k, 0.0, False)
    held: dict[str, torch.Tensor] = {}

    def run_forward() -> Any:
        return forward(q, k, v, *extents, False, **window)

    if not case.backward:

        def call() -> None:
            held["o"] = run_forward()[0].transpose(1, 2)

        return Contender(_attention.FA2, call, lambda: held, {"call": "aten._flash_attention_forward"})

    o, lse, state, unused = run_forward()[:4]

    def call_backward() -> None:
        gradients = backward(grad, q, k, v, o, lse, *extents, state, unused, **window)
        held.update(zip(("dq", "dk", "dv"), (t.transpose(1, 2) for t in gradients), strict=True))

    return Contender(_attention.FA2, call_backward, lambda: held, {"call": "aten._flash_attention_backward"})


# ---- right answers


@dataclass(frozen=True)
class Sample:
    """One batch entry and one group of heads, in float64; with a bias that all entries share, all of them."""

    batch: slice
    heads: slice
    heads_k: slice
    exact: Results

    @staticmethod
    def of(case: Case, x: Tensors, source: torch.Generator) -> Sample:
        group = case.heads // case.heads_k
        entry, head = (
            int(torch.randint(high, (1,), generator=source, device=source.device))
            for high in (case.batch, case.heads_k)
        )
        batch = slice(0, case.batch) if case.dbias else slice(entry, entry + 1)
        heads, heads_k = slice(head * group, (head + 1) * group), slice(head, head + 1)
        operands = Operands(
            x.q[batch, heads],
            x.k[batch, heads_k],
            x.v[batch, heads_k],
            x.grad[batch, heads] if case.backward else None,
            bias=None if x.bias is None else x.bias[:, heads],
            causal=case.causal,
            window=case.window,
        )
        return Sample(batch, heads, heads_k, attention(operands, computed_o=True))

    def of_result(self, name: str, result: torch.Tensor) -> torch.Tensor:
        if name == "dbias":
            return result[:, self.heads]
        return result[self.batch, self.heads_k if name in ("dk", "dv") else self.heads]


def _verify(case: Case, contender: Contender, sample: Sample) -> None:
    contender.call()
    for name, result in contender.results().items():
        part, expected = sample.of_result(name, result), sample.exact[name]
        if contender.guarantee is not None:
            what = complaint(part, expected, Guarantee.of(contender.guarantee, part.dtype), name)
        else:
            error = float((part.double() - expected.exact).norm() / expected.exact.norm())
            what = None if error <= _PEER_TOLERANCE else f"{name}: relative error {error:.3g}"
        if what is not None:
            who = contender.facts.get("sku", contender.name)
            sys.exit(f"benchmarks.fmha: wrong result for {case}: {who}: {what}")


# ---- measuring


class Bench:
    """Measures on one device, with one source of random numbers."""

    def __init__(self, device: str, seed: int, rounds: int) -> None:
        self.device = device
        self.rounds = rounds
        self.stopwatch = Stopwatch(device, seed)
        self.source = torch.Generator(device).manual_seed(seed)

    def measure(self, case: Case) -> _report.Record:
        x = Tensors.of(case, self.device, self.source)
        sample = Sample.of(case, x, self.source)
        if case.backward:
            contenders = [_backward(case, x, self.device, deterministic) for deterministic in (False, True)]
        else:
            contenders = [_forward(case, x, self.device)]
        refused: list[_report.Record] = []
        for name in _attention.PEERS:
            try:
                contenders.append(_peer(name, case, x))
            except Refused as why:
                refused.append({"name": name, "refused": str(why)})
        for contender in contenders:
            _verify(case, contender, sample)
        del sample
        samples = self.stopwatch.compare({c.name: c.call for c in contenders}, self.rounds)
        fields = {name: value for name, value in vars(case).items() if name != "backward"}
        return {
            **fields,
            "pass": "backward" if case.backward else "forward",
            "contenders": [
                *({"name": c.name, **c.facts, "microseconds": samples[c.name]} for c in contenders),
                *refused,
            ],
        }

    def memory(self) -> list[_report.Record]:
        """Peak of allocated memory beyond operands and results, for one entry of 16 heads of 128."""
        entries = []
        for seq in MEMORY_LENGTHS:
            case = Case("memory", 1, 16, 16, seq, seq, 128, "causal", backward=True)
            x = Tensors.of(case, self.device, self.source)
            peaks: dict[str, int] = {}

            def peak(which: str, call: Callable[[], Any], into: dict[str, int] = peaks) -> Any:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                result = call()
                torch.cuda.synchronize()
                into[which] = torch.cuda.max_memory_allocated() - before
                return result

            mask: dict[str, Any] = {"causal": "bottom_right"}
            q, k, v, grad = x.q, x.k, x.v, x.grad
            o, lse = peak("forward", _bind(cutplan.attention, q, k, v, return_lse=True, **mask))
            operands = (grad, q, k, v, o, lse)
            peak("backward", _bind(cutplan.attention_backward, *operands, **mask))
            peak("deterministic", _bind(cutplan.attention_backward, *operands, deterministic=True, **mask))
            leaves = [t.detach().requires_grad_() for t in (q, k, v)]
            with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                sdpa = torch.nn.functional.scaled_dot_product_attention
                out = peak("FA2 forward", _bind(sdpa, *leaves, is_causal=True))
                peak("FA2 backward", _bind(torch.autograd.grad, out, leaves, grad))
            entries.append({"seq": seq, "peak_bytes": peaks})
        return entries


def _bind(function: Callable[..., Any], *operands: Any, **options: Any) -> Callable[[], Any]:
    return lambda: function(*operands, **options)


# ---- the command


def _shape(text: str) -> tuple[int, int, int, int, int, int]:
    batch, heads, heads_k, seq_q, seq_k, dim = (int(extent) for extent in text.split("x"))
    if min(batch, heads, heads_k, seq_q, seq_k, dim) < 1 or heads % heads_k:
        raise ValueError("extents of at least 1, and heads that are a multiple of those of K")
    return batch, heads, heads_k, seq_q, seq_k, dim


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from error


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, str]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fmha",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=pathlib.Path, help="file for the machine's data and every sample")
    parser.add_argument("--only", type=_pattern, help="regular expression that a problem's line must hold")
    parser.add_argument(
        "--shapes",
        type=_shape,
        nargs="+",
        help="BxHxHkxSqxSkxD; leaves out the standard set, and measures both passes, full and causal",
    )
    parser.add_argument("--dtype", default="bfloat16", help="of the operands of --shapes")
    parser.add_argument("--list", action="store_true", help="print the problems and measure nothing")
    parser.add_argument("--device", help='"cuda:1", or "cpu" for the host backend (default: cuda:0)')
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds instead of {ROUNDS}")
    parser.add_argument(
        "--seed", type=int, default=None, help="of the operands and the order (default: a fresh one)"
    )
    options = parser.parse_args(arguments)
    if options.seed is None:
        options.seed = time.time_ns() % 2**31
    if options.list:
        return options, ""
    device = _report.choose_device(parser, options.device)
    if device == "cpu" and not options.shapes:
        parser.error("the standard problems take hours on a host: name smaller ones with --shapes")
    return options, device


def _cases(options: argparse.Namespace) -> list[Case]:
    cases = standard_cases()
    if options.shapes:
        shapes: list[tuple[int, int, int, int, int, int]] = options.shapes
        plain = [Case("forward", *shape, dtype=options.dtype) for shape in shapes]
        cases = [
            replace(case, mask=mask, group="backward" if backward else "forward", backward=backward)
            for case in plain
            for backward in (False, True)
            for mask in (("full", "causal") if case.seq_q == case.seq_k else ("full",))
        ]
    return [case for case in cases if options.only is None or options.only.search(str(case))]


def report(record: _report.Record) -> None:
    """The tables and lines that a run ends with."""
    entries = record["entries"]
    _report.print_table(_attention.header(), [_attention.row(entry) for entry in entries])
    if any(_attention.contender(entry, _attention.DETERMINISTIC) for entry in entries):
        rows = []
        for entry in entries:
            mine = _attention.contender(entry, _attention.OURS)
            other = _attention.contender(entry, _attention.DETERMINISTIC)
            if mine and other:
                rows.append(
                    [
                        entry["group"],
                        _attention.problem(entry),
                        entry["mask"],
                        other["sku"],
                        f"{_report.median(mine):.1f}",
                        f"{_report.median(other):.1f}",
                        f"{_report.median(mine) / _report.median(other):.3f}",
                        f"{other['workspace_bytes'] / 2**20:.1f}",
                    ]
                )
        print("\nDeterministic backward, beside the default")
        header = ["group", "problem", "mask", "kernel", "default us", "deterministic us", "speed", "MiB"]
        _report.print_table(header, rows)
    if record["memory"]:
        print("\nPeak memory beyond the operands, MiB, and its growth as the length doubles")
        names = [cell for which in record["memory"][0]["peak_bytes"] for cell in (which, "growth")]
        _report.print_table(["length", *names], _attention.memory_rows(record["memory"]))
    print()
    for line in [*_attention.summary(entries), *_attention.refusals(entries)]:
        print(line)


def main(arguments: Sequence[str]) -> None:
    options, device = _parse(arguments)
    cases = _cases(options)
    if options.list:
        print("\n".join(map(str, cases)))
        return
    if not cases:
        sys.exit("benchmarks.fmha: no problem's line holds what --only asks for: --list prints them")
    start = time.perf_counter()
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    bench = Bench(device, options.seed, rounds)
    record = _report.begin(
        "fmha",
        arguments,
        device,
        seed=options.seed,
        rounds=rounds,
        warm_up_rounds=WARM_UP_ROUNDS,
        flush_bytes=bench.stopwatch.flush_bytes,
    )
    record["entries"] = []
    for case in cases:
        record["entries"].append(bench.measure(case))
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    whole = device != "cpu" and not options.shapes and options.only is None
    record["memory"] = bench.memory() if whole else []
    _report.finish(record, device, start, options.json, report)


if __name__ == "__main__":
    main(sys.argv[1:])
