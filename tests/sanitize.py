"""Runs every CUDA kernel of the build at small, ragged sizes: what compute-sanitizer can watch.

    compute-sanitizer --tool memcheck python -m tests.sanitize
    compute-sanitizer --tool racecheck python -m tests.sanitize "gemm.*f16.*rcr"    # slower: a part at a time
    compute-sanitizer --tool initcheck python -m tests.sanitize "fmha_backward.*d64"

Needs torch with a GPU, and pytest. Results are checked too, against float64 and each plan's own bound.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

import cutplan
from tests.fmha.problems import Case, Problem, described, is_backward
from tests.gemm.groups import GROUPED_LAYOUTS, GroupedProblem, Groups
from tests.gemm.operands import PACKED, QUANTISED, format_of, operands_of, ordered
from tests.gemm.packed import single_packings
from tests.gemm.problems import GATES, TORCH, Options, Shape, d_types, generator, transposed
from tests.gemm.problems import Problem as GemmProblem

NOT_SERVED = "not served"


def check(
    sku: cutplan.KernelSku, operand: str, name: str, shape: Shape, options: Options, layout: str, seed: int
) -> str | None:
    """What is wrong with one run of the kernel of that name; NOT_SERVED where it does not take this."""
    source = generator("cuda", seed)
    problem = GemmProblem(shape, ordered(operand, layout), layout, "cuda", source, sku.alignment)
    descriptor = problem.descriptor(options)
    preference = cutplan.PlanPreference(kernel=name, math="fast")
    if not cutplan.gemm_kernels(descriptor, cutplan.device_properties("cuda"), preference):
        return NOT_SERVED
    return problem.complaint(problem.select(options, kernel=name, math="fast"), options)


def sanitize_grouped(pattern: str) -> tuple[int, int]:
    """Runs and failures of every kernel that serves groups here."""
    runs = failures = 0
    properties = cutplan.device_properties("cuda")
    any_math = cutplan.PlanPreference(math="fast")
    for operand, over, gate in itertools.product(
        (*TORCH, *QUANTISED, *PACKED), GROUPED_LAYOUTS, (None, *GATES)
    ):
        d, has_codes = d_types(operand)[0], operand not in TORCH
        if over == "k" and (has_codes or gate is not None):
            continue  # refused
        if gate is not None and operand in ("float32", "float64"):
            continue  # no kernel has it
        plain = Options(d) if gate is None else Options(d, bias=d, activation="silu", gate=gate, alpha=0.125)
        for layout in GROUPED_LAYOUTS[over] if format_of(operand) is None else ("rcr",):
            source = generator("cuda", runs)
            small = Groups((130, 0, 5), 137, 69, over, start=3, rest=2, pad=8, d_pad=1)
            problem = GroupedProblem(small, operand, layout, "cuda", source, 16)
            for options in (plain, *with_codes(operand, plain)):
                descriptor = problem.descriptor(options)
                for sku in cutplan.grouped_gemm_kernels(descriptor, properties, any_math):
                    if not re.search(pattern, sku.name):
                        continue
                    runs += 1
                    plan = problem.select(options, kernel=sku.name, math="fast")
                    what = problem.complaint(plan, options)
                    if what:
                        failures += 1
                        print(what)
    return runs, failures


def with_codes(operand: str, plain: Options) -> list[Options]:
    """Scales and zeros of every granularity, and what a result of codes has; every packing of weights."""
    form = format_of(operand)
    if form is not None:
        return [replace(plain, weights=packing) for packing in single_packings(form)]
    if operand in TORCH:
        return []
    every = [
        replace(plain, a_scale="row", b_scale="column", amax=True),
        replace(plain, a_scale="tensor", b_scale="block"),
        replace(plain, a_scale="group", b_scale="group"),
        Options(d_types(operand)[3], a_scale="tensor", b_scale="tensor", out_scale=True, amax=True),
    ]
    if operand == "int8":
        every += [Options("int32"), Options("bfloat16", a_scale="row", a_zero="row", b_zero="column")]
    return every


def epilogues(operand: str) -> list[Options]:
    """Every term, a few at a time, with each kind of auxiliary operand and each gate."""
    wide = operand == "float64"
    narrow = d_types(operand)[0]
    d = narrow if wide else "float32"
    return [
        Options(narrow),
        *with_codes(operand, Options(narrow)),
        Options(d, bias=d, c=d, activation="gelu_erf", alpha=0.5, beta=1.0),
        Options(d, bias=d, bias_over="m", residual=narrow, activation="silu", store=narrow),
        Options(narrow, gradient=narrow, activation="gelu_tanh", residual=narrow),
        Options(narrow, row_scale=not wide, column_scale=not wide, activation="relu"),
        *(
            Options(narrow, bias=d, residual=narrow, activation="silu", gate=gate, alpha=0.125)
            for gate in GATES
        ),
    ]


def sanitize_gemm(pattern: str) -> tuple[int, int]:
    """Runs and failures."""
    runs = failures = 0
    for index, sku in enumerate(cutplan.gemm_registry()):
        if str(sku.arch) == "host" or not re.search(pattern, sku.name):
            continue
        tm, tn, tk = sku.tile
        shapes = [
            Shape(tm + 3, tn + 9, 3 * tk + 5),
            Shape(7, 33, 4 * tk, batch=2, pad=3, d_pad=1, d_offset=1),
        ]
        served = 0
        for operand, name, shape in itertools.product(
            operands_of(sku), (sku.name, f"{sku.name}.k2", f"{sku.name}.stream_k"), shapes
        ):
            for options in epilogues(operand):
                one_order = options.gate is not None or format_of(operand) is not None
                for layout in (sku.layout,) if one_order else (sku.layout, transposed(sku.layout)):
                    what = check(sku, operand, name, shape, options, layout, index)
                    served += what != NOT_SERVED
                    if what and what != NOT_SERVED:
                        failures += 1
                        print(what)
        if served == 0:
            print(f"{sku.name}: this device cannot run it")
        runs += served
    return runs, failures


def check_attention(sku: cutplan.KernelSku, name: str, case: Case, seed: int) -> str | None:
    """What is wrong with one run of the kernel of that name; NOT_SERVED where it does not take the case."""
    source = torch.Generator("cuda").manual_seed(seed)
    backward = is_backward(sku)
    preference = cutplan.PlanPreference(kernel=name, math="tf32")
    problem = described(case)
    descriptor = problem.backward_descriptor() if backward else problem.descriptor()
    if not cutplan.fmha_kernels(descriptor, cutplan.device_properties("cuda"), preference):
        return NOT_SERVED
    problem = Problem(case, "cuda", source)
    select = problem.select_backward if backward else problem.select
    return problem.complaint(select(kernel=name, math="tf32"))


def attention_cases(sku: cutplan.KernelSku) -> list[Case]:
    """Small and ragged, every option off and on, in both layouts, with and without vector loads."""
    operand, largest = str(sku.a), sku.tile[2] or 256
    tm, tn = sku.tile[:2]
    odd = {"pad": 1, "alignment": sku.a.bits // 8, "layout": "bshd"}
    full: dict[str, Any] = {
        "causal": "bottom_right",
        "window": (tn, -1),
        "softcap": 8.0,
        "alibi": "bh",
        "bias": operand,
        "bias_dims": "hqk",
        "mask": "bqk",
        "sink": True,
        "dropout_p": 0.3,
    }
    packed = {
        "packed": ((tm + 5, tn + 3), (0, 7), (9, 0), (3, 2 * tn + 1)),
        "causal": "top_left",
        "sink": True,
    }
    return [
        Case(tm + 3, 2 * tn + 5, largest, batch=1, dtype=operand),
        Case(
            7, tn + 1, largest - 8 if largest > 8 else largest, 8, heads=4, heads_k=2, dtype=operand, **full
        ),
        Case(tm + 1, tn - 1, largest - 1 or 1, heads=2, heads_k=1, dtype=operand, **odd),
        Case(tm - 1, 70, max(largest // 2, 1), dtype=operand, seqused_k=(0, 41), **odd, **full),
        Case(dim=largest, heads=2, heads_k=1, dtype=operand, **packed),
        # scores of millions: rows are anchored, and summed again in the backward
        Case(tm + 1, 2 * tn + 3, largest, batch=1, dtype=operand, scale=1e6, causal="top_left"),
        Case(3, 2 * tn + 3, largest, dtype=operand, scale=1e6, sink=True, alibi="h", narrow=True),
    ]


def sanitize_attention(pattern: str) -> tuple[int, int]:
    """Runs and failures."""
    runs = failures = 0
    for sku in cutplan.fmha_registry():
        if str(sku.arch) == "host" or not re.search(pattern, sku.name):
            continue
        served = 0
        for name, (index, case) in itertools.product(
            (sku.name, f"{sku.name}.k2", f"{sku.name}.ordered"), enumerate(attention_cases(sku))
        ):
            problem = check_attention(sku, name, case, index)
            if problem == NOT_SERVED:
                continue
            served += 1
            if problem:
                failures += 1
                print(problem)
        if served == 0:
            print(f"{sku.name}: this device cannot run it")
        runs += served
    return runs, failures


def calls_of_op(op: str, dtype: torch.dtype, odd: bool) -> list[Callable[[str], list[torch.Tensor]]]:
    """Calls of a function around attention on a device; odd: nothing is aligned, no extent a power of two."""
    dim, source = (33, torch.Generator().manual_seed(1)) if odd else (64, torch.Generator().manual_seed(2))

    def normal(device: str, *shape: int, of: torch.dtype = dtype) -> torch.Tensor:
        source.manual_seed(sum(shape))
        wide = torch.randn((*shape[:-1], shape[-1] + odd), generator=source).to(of)
        return wide.to(device)[..., odd:]

    def heads(device: str, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=source.manual_seed(3)).to(device)

    def append(device: str, how: str, cache: torch.dtype) -> list[torch.Tensor]:
        new = [normal(device, 2, 3, 2, dim).contiguous() for _ in "kv"]
        table = torch.tensor([[3, 0, 9], [1, 5, 2]], dtype=torch.int32, device=device)
        shape = (6, 4, 2, dim) if how == "paged" else (2, 9, 2, dim)
        caches = [torch.zeros(shape, dtype=cache, device=device) for _ in "kv"]
        arguments: dict[str, Any] = {"block_table": table} if how == "paged" else {}
        if cache != dtype:
            arguments |= {"k_scale": heads(device, 2), "v_scale": heads(device, 2)}
        if how == "turned":
            arguments |= {name: normal(device, 20, dim // 2, of=torch.float32) for name in ("cos", "sin")}
            arguments |= {"q": new[0], "q_out": torch.empty_like(new[0])}
        counted = torch.zeros(1, dtype=torch.int32, device=device)
        offsets = torch.tensor([7, 2], device=device)
        cutplan.kv_cache_append(*new, *caches, offsets, layout="bshd", rejected=counted, **arguments)
        kept = caches if how == "turned" else [x.view(torch.uint8) for x in caches]
        return [*kept, counted, arguments.get("q_out", counted)]

    if op == "merge_states":
        return [
            lambda device, n=n: list(  # type: ignore[misc]
                cutplan.merge_states(
                    normal(device, n, 2, 3, 5, dim), normal(device, n, 2, 3, 5, of=torch.float32)
                )
            )
            for n in (2, 5)
        ]
    slopes = torch.float64 if dtype == torch.float64 else torch.float32
    if op == "alibi":
        return [lambda device: [cutplan.alibi(normal(device, 2, 3, 37, dim), heads(device, 3).to(slopes))]]
    if op == "alibi_backward":
        return [lambda device: list(cutplan.alibi_backward(normal(device, 2, 3, 37, dim)))]
    if op in ("rope", "rope_backward"):
        function = getattr(cutplan, op)
        even = dim // 2 * 2
        return [
            lambda device, pairs=pairs: [
                function(normal(device, 2, 3, 5, dim), interleaved=pairs, rotary_dim=even)
            ]
            for pairs in (False, True)
        ]
    assert op == "kv_cache_append"
    kinds = [("plain", dtype), ("paged", dtype)] + ([("turned", dtype)] if dim % 2 == 0 else [])
    if dtype != torch.float64:
        kinds += [("paged", torch.float8_e4m3fn), ("plain", torch.float8_e5m2), ("plain", torch.int8)]
    return [lambda device, kind=kind: append(device, *kind) for kind in kinds]  # type: ignore[misc]


def sanitize_attention_ops(pattern: str) -> tuple[int, int]:
    """Runs and failures: results are held against the host's."""
    runs = failures = 0
    for sku in cutplan.attention_ops_registry():
        if str(sku.arch) == "host" or not re.search(pattern, sku.name):
            continue
        for odd in (False, True):
            for call in calls_of_op(sku.op, TORCH[str(sku.a)], odd):
                runs += 1
                for got, expected in zip(call("cuda"), call("cpu"), strict=True):
                    if not torch.allclose(got.cpu().double(), expected.double(), rtol=2e-2, atol=1e-3):
                        failures += 1
                        print(f"{sku.name}: not what the host computes")
    return runs, failures


def sanitize_quantize(pattern: str) -> tuple[int, int]:
    """Runs and failures of quantisation there and back: the host's bits are required."""
    runs = failures = 0
    kinds = [("int8", True), ("int8", False), ("int4", True), ("int4", False)]
    kinds += [("float8_e4m3fn", True), ("float8_e5m2", True)]
    scales = [("tensor", None, -1), ("row", None, -1), ("column", None, -1)]
    scales += [("group", 32, -1), ("group", 6, -1), ("group", 9, -2), ("block", 64, -1)]
    names = {sku.name for sku in cutplan.quantize_registry() if str(sku.arch) != "host"}
    for x_type in (torch.float16, torch.bfloat16, torch.float32):
        short = {torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32"}[x_type]
        if not any(re.search(pattern, name) for name in names if name.endswith(f".{short}")):
            continue
        for odd in (False, True):
            wide = torch.randn(2, 70, 271 if odd else 272, generator=torch.Generator().manual_seed(5))
            x = wide.to(x_type)[..., 1:] if odd else wide.to(x_type)
            for (dtype, symmetric), (granularity, size, axis) in itertools.product(kinds, scales):
                options = {"granularity": granularity, "group_size": size, "axis": axis}
                found = []
                for device in ("cuda", "cpu"):
                    q = cutplan.quantize(x.to(device), dtype, symmetric=symmetric, **options)  # type: ignore[arg-type]
                    back = cutplan.dequantize(q, x_type)
                    tensors = (q.data.view(torch.uint8), q.scale, back, *([] if symmetric else [q.zero]))
                    found.append([tensor.cpu() for tensor in tensors])
                runs += 1
                if not all(torch.equal(got, expected) for got, expected in zip(*found, strict=True)):
                    failures += 1
                    print(f"quantize {x_type} {dtype} {options}: not what the host computes")
    return runs, failures


def sanitize_weights(pattern: str) -> tuple[int, int]:
    """Runs and failures of packing and unpacking: the host's bits are required."""
    runs = failures = 0
    names = {sku.name for sku in cutplan.weights_registry() if str(sku.arch) != "host"}
    if not any(re.search(pattern, name) for name in names):
        return 0, 0
    source = torch.Generator().manual_seed(5)
    for format, (k, n) in itertools.product(
        ("int4", "uint4", "int8", "e4m3", "nf4", "e2m1"), ((1, 1), (131, 70), (320, 129))
    ):
        codes = torch.randint(0, 256 if format in ("int8", "e4m3") else 16, (n, k), generator=source)
        for groups, out in itertools.product((32, -1), (torch.float16, torch.bfloat16, torch.float32)):
            scale = torch.randn(n, -(-k // groups) if groups > 0 else 1, generator=source).to(out)
            zero = scale if format in ("int4", "uint4", "int8") else None
            found = []
            for device in ("cuda", "cpu"):
                w, s, z = (x if x is None else x.to(device).T for x in (codes.byte(), scale, zero))
                p = cutplan.pack_weights(w, format, group_size=groups, scale=s, zero=z)  # type: ignore[arg-type]
                found.append([p.data.cpu(), cutplan.unpack_weights(p, out).cpu().nan_to_num()])
            runs += 1
            if not all(torch.equal(got, expected) for got, expected in zip(*found, strict=True)):
                failures += 1
                print(f"pack_weights {format} [{k}, {n}] {groups} {out}: not what the host computes")
        found = []
        for device in ("cuda", "cpu"):
            words = torch.randint(0, 2**31 - 1, (16, 24), generator=torch.Generator().manual_seed(k))
            g_idx = torch.arange(128).flip(0).int() // 32
            tensors = (words.int(), words[:4, :3].int(), torch.ones(4, 24), g_idx)
            p = cutplan.pack_weights.from_gptq(*(x.to(device) for x in tensors))
            found.append([p.data.cpu(), cutplan.unpack_weights(p).cpu()])
        runs += 1
        if not all(torch.equal(got, expected) for got, expected in zip(*found, strict=True)):
            failures += 1
            print("pack_weights.from_gptq: not what the host computes")
    return runs, failures


def main(pattern: str) -> int:
    families = [
        sanitize_gemm(pattern),
        sanitize_grouped(pattern),
        sanitize_attention(pattern),
        sanitize_attention_ops(pattern),
        sanitize_quantize(pattern),
        sanitize_weights(pattern),
    ]
    runs, failures = (sum(counts) for counts in zip(*families, strict=True))
    torch.cuda.synchronize()
    print(f"{runs} runs, {failures} failed")
    return 1 if failures or not runs else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
