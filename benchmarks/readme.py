"""Writes the parts of the pages that come from data, so that they say what the code and the results say.

    python -m benchmarks.readme                             writes them
    python -m benchmarks.readme --check                     fails where a page differs, and shows how
    python -m benchmarks.readme --check results speed plots llama
                                                            only the parts that need no build

"limits", "support" and "attention-support" are read off the support tables of the installed cutplan, and
"selection" off its cost model, so it must hold the kernels of every architecture. "results", "speed", "plots"
and "llama" are read off the newest file of each benchmark and device in benchmarks/results, with the standard
library alone; without a result "llama" is empty.
"""

from __future__ import annotations

import argparse
import difflib
import json
import pathlib
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import _attention, _attention_ops, _programs, _quantized, _report, plots

if TYPE_CHECKING:
    from benchmarks import _selection

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MAKE_RESULTS = ", ".join(
    f"`python -m benchmarks.{name} --json benchmarks/results/{name}-<device>.json`"
    for name in ("gemm", "fmha", "attention_ops", "quantize", "quantized", "models", "traced", "overhead")
)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _require_all_kernels() -> None:
    import cutplan

    built, known = cutplan.built_architectures(), [str(arch) for arch in cutplan.Arch]
    lacking = [arch for arch in known if arch not in built]
    if lacking:
        sys.exit(
            f"benchmarks.readme: the support table takes a build of {', '.join(known)}; "
            f"the installed cutplan lacks {', '.join(lacking)}: make readme builds them all"
        )


def _capability(needed: int) -> str:
    return "CPU" if needed == 0 else f"{needed // 10}.{needed % 10}"


def operands(row: Any) -> str:
    """A's type and B's, which is most often the same."""
    a, b = str(row.operand), str(row.operand_b)
    return a if a == b else f"{a}, {b}"


def support() -> str:
    import cutplan

    _require_all_kernels()
    rows = [
        [
            str(row.arch),
            _capability(row.minimum_compute_capability),
            operands(row),
            ", ".join(str(d) for d in row.d),
            ", ".join(str(layout) for layout in row.layouts),
            row.note,
        ]
        for row in cutplan.gemm_support()
    ]
    return _table(["kernels", "compute capability from", "A and B", "D", "layouts", "notes"], rows)


def attention_support() -> str:
    import cutplan

    _require_all_kernels()
    rows = [
        [
            str(row.arch),
            _capability(row.minimum_compute_capability),
            str(row.operand),
            ", ".join(str(o) for o in row.o),
            f"1 to {row.largest_dim}",
            row.note,
        ]
        for row in cutplan.fmha_support()
    ]
    header = [
        "kernels",
        "compute capability from",
        "Q, K and V",
        "O; dQ, dK and dV",
        "head dimensions",
        "notes",
    ]
    return _table(header, rows)


def _words(names: Iterable[object], last: str = "and") -> str:
    *most, end = map(str, names)
    return f"{', '.join(most)} {last} {end}" if most else end


def limits() -> str:
    """What the support tables leave out."""
    import cutplan

    _require_all_kernels()
    gemm: list[Any] = list(cutplan.gemm_support())
    quantised = [row for row in gemm if str(row.operand).startswith(("int", "float8"))]
    attention: list[Any] = list(cutplan.fmha_support())
    served = list(dict.fromkeys(str(row.operand) for row in [*gemm, *attention]))
    lines = []
    for what, names, rows in (
        ("Matrix multiplication", "A and B", [row for row in gemm if row not in quantised]),
        ("Attention", "Q, K and V", attention),
    ):
        of_host, of_gpus = (
            list(dict.fromkeys(str(row.operand) for row in rows if (str(row.arch) == "host") is is_host))
            for is_host in (True, False)
        )
        where = (
            "on the host and on GPUs"
            if set(of_host) == set(of_gpus)
            else f"on the host; {_words(of_gpus)} on GPUs"
        )
        lines.append(f"{what} takes {names} of one type: {_words(of_host, 'or')}, {where}.")
    packed = [row for row in gemm if "uint8" in operands(row)]

    def kind_of(row: Any) -> str:
        return "a and packed weights" if row in packed else operands(row).replace(", ", " with ")

    of_kind: dict[str, set[str]] = {}
    for row in quantised:
        of_kind.setdefault(kind_of(row), set()).add(str(row.arch))
    everywhere = all(archs - {"host"} for archs in of_kind.values())
    where = "on the host and on GPUs" if everywhere else "on the host"
    lines.append(f"With scales matrix multiplication takes {_words(of_kind)}, {where}.")
    others = [str(dtype) for dtype in cutplan.DType if str(dtype) not in served]
    lines.append(f"Neither of them takes {_words(others, 'or')}.")
    layouts = list(dict.fromkeys(str(layout) for row in gemm for layout in row.layouts))
    # Of what GPUs may not serve in every layout: the layouts of all their kernels together.
    on_gpus: dict[str, set[str]] = {}
    for row in (*quantised, *packed):
        if str(row.arch) != "host":
            on_gpus.setdefault(kind_of(row), set()).update(map(str, row.layouts))
    fewer: dict[tuple[str, ...], list[str]] = {}
    for row in gemm:
        if len(row.layouts) < len(on_gpus.get(kind_of(row), layouts)):
            fewer.setdefault((str(row.arch), *map(str, row.layouts)), []).append(operands(row))
    lines += [
        f"{arch} kernels of {_words(kinds)} serve the layouts {_words(order)}; an older architecture's "
        "kernel runs for the others."
        for (arch, *order), kinds in fewer.items()
    ]
    limited: dict[tuple[str, ...], list[str]] = {}
    for kind, served_layouts in on_gpus.items():
        if len(served_layouts) < len(layouts):
            order = tuple(layout for layout in layouts if layout in served_layouts)
            limited.setdefault(order, []).append(kind)
    for order, kinds in limited.items():
        if all(kind.startswith("float8") for kind in kinds):
            kinds = ["float8 operands"]
        lines.append(f"On GPUs {_words(kinds)} have the layout {_words(order, 'or')}.")
    lines.append(
        f"Head dimensions of attention go to {min(row.largest_dim for row in attention)}, whatever the type."
    )
    lacking = [str(arch) for arch in cutplan.Arch if str(arch) not in {str(row.arch) for row in attention}]
    for arch in lacking:
        lines.append(
            f"Attention has no kernels of its own for {arch}: such a GPU runs an older architecture's."
        )
    return "\n".join(f"- {line}" for line in lines)


def _judged(record: _report.Record) -> tuple[_selection.Verdict, str]:
    """The verdict on all problems, and where they were measured."""
    from benchmarks import _selection

    verdicts, unmeasured = _selection.judge(record)
    if unmeasured:
        sys.exit(f"benchmarks.readme: picked, but not measured: {', '.join(unmeasured)}")
    return verdicts["all"], f"on one {record['device']['name']}"


def selection() -> str:
    """How fast what `select` picks is over many problems, by the cost model of this build."""
    _require_all_kernels()
    lines = []
    for record in _newest("selection"):
        verdict, on = _judged(record)
        assert verdict.gain is not None
        largest = max(p["shape"][0] for p in record["problems"])
        line = (
            f"- Matmul, {verdict.count} problems from 1 row to {largest}, 16-bit, {on}: what `select` picks "
            f"runs at {verdict.gain:.3f} times cuBLAS's speed in geometric mean"
        )
        kept = verdict.invariant
        lines.append(line + (f"; with `batch_invariant=True` at {kept:.3f} of its own." if kept else "."))
    for record in _newest("attention_selection"):
        verdict, on = _judged(record)
        lines.append(
            f"- Attention, {verdict.count} problems, both passes, {on}: what `select` picks takes "
            f"{verdict.loss:.3f} times as long as the fastest kernel in geometric mean."
        )
    return "\n".join(lines)


def speed() -> str:
    """The figures that decide whether cutplan is for you, the good ones and the others."""
    lines = []
    for record in _newest("gemm"):
        large = [e for e in record["entries"] if e["group"].startswith("six shapes")]
        fused = [*record.get("gated", []), *record.get("grouped", [])]
        lines += [
            f"- {what}: {_mean(of_group):.3f} times {peer}'s speed in geometric mean."
            for what, peer, of_group in (
                ("Matmul, six shapes of language models, two layouts, 16-bit", "cuBLAS", large),
                ("Gated layers and 64 uneven groups in one kernel", "torch eager", fused),
            )
            if of_group
        ]
    for record in _newest("fmha"):
        for group in ("forward", "backward"):
            members = [e for e in record["entries"] if e["group"] == group]
            means = [
                f"{_report.geometric_mean(ratios):.3f} times {peer}'s"
                for peer in _attention.PEERS
                if (ratios := [r for e in members if (r := _attention.ratio(e, peer)) is not None])
            ]
            if means:
                lines.append(f"- Attention, {group}, {len(members)} problems: {_words(means)} speed.")
    for record in _newest("models"):
        means = [f"{problem}, {speed}" for problem, _, _, speed in _programs.model_rows(record)[1]]
        lines.append(f"- Models of Hugging Face, eager, times torch's speed: {'; '.join(means)}.")
    return "\n".join(lines)


def _mean(entries: Iterable[_report.Record]) -> float:
    """Of torch's time over that of the kernel that `select` picks."""
    pairs = [(e, c) for e in entries if (c := _report.find(e, "cutplan"))]
    return _report.geometric_mean(r for e, c in pairs if (r := _report.ratio(e, c)) is not None)


def _newest(benchmark: str) -> list[_report.Record]:
    """The newest result of each device."""
    records: dict[str, _report.Record] = {}
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text())
        if record["benchmark"] != benchmark:
            continue
        device = record["device"]["name"]
        if device not in records or records[device]["date"] < record["date"]:
            records[device] = record
    return list(records.values())


def _circumstances(record: _report.Record) -> str:
    versions, smi = record["versions"], record.get("nvidia_smi")
    facts = [record["device"]["name"]]
    if smi:
        facts.append(f"driver {smi['driver_version']}")
    if versions["cuda"]:
        facts.append(f"CUDA {versions['cuda']}")
    facts += [f"torch {versions['torch']}", f"cutplan {versions['cutplan']}", record["date"][:10]]
    return ", ".join(facts)


def _cell(entry: _report.Record | None, name: str, copy_bandwidth: float | None) -> str:
    contender = _report.find(entry, name) if entry else None
    if entry is None or contender is None:
        return ""
    speed = _report.ratio(entry, contender)
    return _report.rate(entry, contender, copy_bandwidth) + (f", {speed:.2f}" if speed else "")


def _products(entries: list[_report.Record], copy_bandwidth: float | None) -> str:
    """A table of plain products with a column for each type of A and B and each kind of kernel."""
    found = [
        (_report.types({**e, "d": e["dtype"]}), c["name"])
        for e in entries
        for c in e["contenders"]
        if not _report.is_peer(c["name"])
    ]
    columns = [c for kind in dict.fromkeys(k for k, _ in found) for c in dict.fromkeys(found) if c[0] == kind]
    problems: dict[tuple[str, str], dict[str, _report.Record]] = {}
    for entry in entries:
        kind = (
            ", float32 D"
            if entry["dtype"] != entry["d"]
            else ", clean L2"
            if entry["flush"] == "read"
            else ""
        )
        key = (_report.extents(entry), entry["layout"] + kind)
        problems.setdefault(key, {})[_report.types({**entry, "d": entry["dtype"]})] = entry
    rows = [
        [
            shape,
            layout,
            *(_cell(of_type.get(kind), name, copy_bandwidth) for kind, name in columns),
        ]
        for (shape, layout), of_type in problems.items()
    ]
    return _table(["M x N x K", "layout", *(f"{kind}: {name}" for kind, name in columns)], rows)


def _fused(entries: list[_report.Record]) -> str:
    """A table of gated and grouped products with every peer that took them."""
    peers = list(
        dict.fromkeys(c["name"] for e in entries for c in e["contenders"] if _report.is_peer(c["name"]))
    )
    rows = []
    for entry in entries:
        for contender in entry["contenders"]:
            if _report.is_peer(contender["name"]):
                continue
            speeds = [_report.ratio(entry, contender, peer) for peer in peers]
            rows.append(
                [
                    entry["group"],
                    _report.extents(entry),
                    _report.types(entry),
                    contender["name"],
                    _report.rate(entry, contender),
                    *(f"{speed:.2f}" if speed else "-" for speed in speeds),
                ]
            )
    return _table(["", "M x N x K", "type", "kernel", "rate", *(f"x {peer}" for peer in peers)], rows)


def _gemm(record: _report.Record) -> str:
    entries = record["entries"]
    fused = [*record.get("gated", []), *record.get("grouped", [])]
    every = [*entries, *fused]
    copy = _report.copy_bandwidth(record)
    kernels = sorted({c["sku"] for e in every for c in e["contenders"] if c["name"] == "cutplan"})
    share = f" and, in brackets, its share of the {copy:.0f} GB/s with which memory is copied" if copy else ""
    text = [
        f"## {_circumstances(record)}",
        f"`{record['command']}`: medians of {record['rounds']} runs, interleaved with torch's; before each, "
        f"{record['flush_bytes'] >> 20} MiB are written to empty L2. A cell holds the rate (for M up to 16, "
        f"that at which B is read{share}) and torch's time over cutplan's: above 1 is faster. `cutplan` is "
        "the kernel that `select` picks; where an architecture is named, the one that it picks among that "
        'one\'s. "Clean L2": the buffer is read, and leaves nothing to be written back meanwhile.',
    ]
    narrow = [e for e in entries if e["dtype"] not in ("float32", "float64")]
    text += [_products(part, copy) for part in (narrow, [e for e in entries if e not in narrow]) if part]
    if fused:
        text += [
            "Several products at once: a gated layer, silu(x w1) * (x w2), in one kernel, and groups of "
            "uneven sizes, which lie in device memory; the last columns are the peer's time over cutplan's, "
            "- where it refuses.",
            _fused(fused),
        ]
    text += [
        "\n".join(
            f"- {line}" for line in [*_report.summary(every), *_report.bandwidth_summary(entries, copy)]
        ),
        f"Kernels picked: {', '.join(f'`{kernel}`' for kernel in kernels)}.",
    ]
    if record["epilogues"]:
        text += [
            "The same with an epilogue, time relative to the plain product of the same library (torch eager: "
            "`addmm`, then the activation), and torch's time over cutplan's:",
            _epilogues(record["epilogues"]),
        ]
    return "\n\n".join(text)


def _epilogues(entries: list[_report.Record]) -> str:
    dtypes = list(dict.fromkeys(e["dtype"] for e in entries))
    at = {(e["epilogue"], e["dtype"]): e for e in entries}

    def relative(epilogue: str, dtype: str, name: str) -> str:
        contender = _report.find(at[epilogue, dtype], name)
        plain = _report.find(at["none", dtype], name)
        assert contender and plain
        return f"{_report.median(contender) / _report.median(plain):.2f}"

    def speed(epilogue: str, dtype: str) -> str:
        entry = at[epilogue, dtype]
        contender = _report.find(entry, "cutplan")
        assert contender
        return f"{_report.ratio(entry, contender):.2f}"

    rows = [
        [
            epilogue,
            *(
                cell
                for d in dtypes
                for cell in (
                    relative(epilogue, d, "cutplan"),
                    relative(epilogue, d, "torch"),
                    speed(epilogue, d),
                )
            ),
        ]
        for epilogue in dict.fromkeys(e["epilogue"] for e in entries)
    ]
    header = [f"{_report.extents(entries[0])} {entries[0]['layout']}"]
    for dtype in dtypes:
        header += [f"{dtype}: cutplan", "torch", "ratio"]
    return _table(header, rows)


def _fmha(record: _report.Record) -> str:
    entries = record["entries"]
    rows = []
    for entry in entries:
        mine = _attention.contender(entry, _attention.OURS)
        assert mine
        rows.append(
            [
                entry["group"],
                _attention.problem(entry),
                entry["mask"],
                entry["dtype"],
                _attention.rate(entry, mine),
                *(_fmha_cell(entry, peer) for peer in _attention.PEERS),
            ]
        )
    header = ["", "problem", "mask", "type", "cutplan", *(f"x {peer}" for peer in _attention.PEERS)]
    kernels = sorted({c["sku"] for e in entries for c in e["contenders"] if c["name"] == _attention.OURS})
    text = [
        f"## Attention, {_circumstances(record)}",
        f"`{record['command']}`: medians of {record['rounds']} runs, interleaved with those of torch's "
        "FlashAttention-2, cuDNN and memory-efficient backends; before each, "
        f"{record['flush_bytes'] >> 20} MiB are written to empty L2. "
        "b: batch, h: heads of Q/of K, s: length, d: head dimension. Causal counts half the work; for one "
        "query the rate is that at which K and V are read. The last columns are the peer's time over "
        "cutplan's: above 1 is faster; - where the peer refuses.",
        _table(header, rows),
        "\n".join(f"- {line}" for line in _attention.summary(entries)),
        f"Kernels picked: {', '.join(f'`{kernel}`' for kernel in kernels)}.",
    ]
    if record["memory"]:
        names = list(record["memory"][0]["peak_bytes"])
        text += [
            "Peak memory beyond the operands in MiB, results included, and its growth as the length doubles "
            "(batch 1, 16 heads of 128, bfloat16, causal):",
            _table(
                ["length", *(cell for name in names for cell in (name, "growth"))],
                _attention.memory_rows(record["memory"]),
            ),
        ]
    return "\n\n".join(text)


def _fmha_cell(entry: _report.Record, peer: str) -> str:
    refused = _attention.refusal(entry, peer) is not None
    return "-" if refused else _attention.ratio_text(_attention.ratio(entry, peer))


def _overhead(record: _report.Record) -> str:
    problems = record["problems"]
    medians = [
        {statement: statistics.median(samples) for statement, samples in problem["microseconds"].items()}
        for problem in problems
    ]
    rows = [
        [f"`{statement}`", *(f"{of_problem[statement]:.2f}" for of_problem in medians)]
        for statement in medians[0]
        if statement != "launch floor"
    ]
    if all("launch floor" in of_problem for of_problem in medians):
        floors = [of_problem["launch floor"] for of_problem in medians]
        beyond = [of_problem["plan.run(a, b, d)"] - of_problem["launch floor"] for of_problem in medians]
        rows.insert(0, ["launch floor", *(f"{floor:.2f}" for floor in floors)])
        rows.insert(1, ["`plan.run(a, b, d)` beyond it", *(f"**{more:.2f}**" for more in beyond)])
    imports = record["import_milliseconds"]
    frameworks = ", ".join(record["import_frameworks"]) or "no framework"
    header = [
        "host time of a call, µs",
        *(f"{_report.extents(p)} {p['sku'].split('.')[1]}" for p in problems),
    ]
    return "\n\n".join(
        [
            f"## Host time, {_circumstances(record)}",
            f"`{record['command']}`: medians of batches of {problems[0]['calls']} calls with torch tensors. "
            "The launch floor is the same kernel launched over and over from C++, its operands imported and "
            f"checked once. `import cutplan` takes {min(imports):.0f} ms and imports {frameworks}.",
            _table(header, rows),
        ]
    )


def _moving(title: str, record: _report.Record) -> str:
    """What is bound by the bytes that it moves."""
    return "\n\n".join(
        [
            f"## {title}, {_circumstances(record)}",
            f"`{record['command']}`: medians of {record['rounds']} runs of a plan, interleaved with a copy "
            "that moves as many bytes, and with torch, eager and compiled; before each, "
            f"{record['flush_bytes'] >> 20} MiB are written to empty L2. The last columns but one are the "
            "others' time over cutplan's: above 1 is faster; the last is the time beyond that of torch's "
            "fill of one element.",
            _table(*_attention_ops.rows(record)),
        ]
    )


def _quantised_products(record: _report.Record) -> str:
    return "\n\n".join(
        [
            f"## Quantised products and packed weights, {_circumstances(record)}",
            f"`{record['command']}`: medians of {record['rounds']} runs, interleaved. Rates of packed "
            "weights are their bytes, in parentheses relative to what a copy moves, read and written. The "
            'last column but one is a contender\'s time over that of "cutplan", the kernel that select() '
            "picks on its own: above 1 it is slower.",
            _table(*_quantized.rows(record)),
            "\n".join(f"- {line}" for line in _quantized.means(record["entries"])),
        ]
    )


def _models(record: _report.Record) -> str:
    return "\n\n".join(
        [
            f"## Models of Hugging Face, {_circumstances(record)}",
            f"`{record['command']}`: wall time, medians of {record['rounds']} rounds, interleaved. cutplan "
            "is `register_transformers()` and `replace_modules()`; torch is nn.Linear and "
            "scaled_dot_product_attention, or, for GPT-OSS, eager attention, there being no other.",
            _table(*_programs.model_rows(record)),
        ]
    )


def llama() -> str:
    return "\n\n".join(_llama(record) for record in _newest("llama"))


def _llama(record: _report.Record) -> str:
    sizes = record["model"]
    return "\n\n".join(
        [
            f"## In a Llama, {_circumstances(record)}, transformers {record['versions']['transformers']}",
            f"`{record['command']}`: tokens a second and, after the comma, times those of "
            f"{_programs.UNQUANTISED}, which is `torch.nn.Linear`; wall time, medians of {record['rounds']} "
            f"rounds, interleaved. The model has random weights, {sizes['num_hidden_layers']} layers of "
            f"{sizes['hidden_size']} ({sizes['intermediate_size']} in the MLP, "
            f"{sizes['num_attention_heads']} heads, {sizes['num_key_value_heads']} of K and V), a vocabulary "
            f"of {sizes['vocab_size']}, and cutplan's attention. Embeddings and {_words(record['left'])} are "
            "left in bfloat16 and are part of the GB. Sequences are decoded one token a step after "
            f"{record['cached']} that are in the cache, eagerly and with the step in a CUDA graph; a prompt "
            "is one sequence. Errors are |x - y| / |y| over all logits of "
            f"{record['compared']} random tokens, y those of {_programs.UNQUANTISED}.",
            _table(*_programs.llama_rows(record)),
        ]
    )


def _traced(record: _report.Record) -> str:
    return "\n\n".join(
        [
            f"## Device time of traced programs, {_circumstances(record)}, jax {record['versions']['jax']}",
            f"`{record['command']}`: the time of all kernels and copies of one run of a chain of calls, "
            f"medians of {record['rounds']} runs; a CUDA graph copies what it is given first.",
            _table(*_programs.traced_rows(record)),
        ]
    )


def _mma_sync(record: _report.Record) -> str:
    rows = []
    for entry in record["entries"]:
        stock = [c for c in entry["contenders"] if c["name"].startswith("stock")]
        best = min(_report.median(c) for c in stock)
        rows.append(
            [
                _report.extents(entry),
                *(
                    _report.rate(entry, c) + ("" if c in stock else f", {best / _report.median(c):.2f}")
                    for c in entry["contenders"]
                ),
            ]
        )
    header = ["M x N x K", *(c["name"] for c in record["entries"][0]["contenders"])]
    return "\n\n".join(
        [
            f"## The mma.sync design in its class, {_circumstances(record)}",
            f"`{record['command']}`: cutplan's sm80 and sm89 kernels and CUTLASS's stock 2.x ones, float16, "
            "layout rcr, interleaved in one run on this card; the second figure is the better stock kernel's "
            "time over cutplan's.",
            _table(header, rows),
        ]
    )


def results() -> str:
    parts = [_gemm(record) for record in _newest("gemm")]
    parts += [_fmha(record) for record in _newest("fmha")]
    parts += [_moving("Around attention", record) for record in _newest("attention_ops")]
    parts += [_moving("Quantisation", record) for record in _newest("quantize")]
    parts += [_quantised_products(record) for record in _newest("quantized")]
    parts += [_models(record) for record in _newest("models")]
    parts += [_traced(record) for record in _newest("traced")]
    parts += [_mma_sync(record) for record in _newest("mma_sync")]
    parts += [_overhead(record) for record in _newest("overhead")]
    return (
        "\n\n".join(parts) or f"No results are committed. {MAKE_RESULTS} on a machine with a GPU make them."
    )


# Section -> the page that it is on, and what makes it. It stands there between a pair of HTML comments.
SECTIONS: dict[str, tuple[str, Callable[[], str]]] = {
    "speed": ("README.md", speed),
    "selection": ("README.md", selection),
    "limits": ("README.md", limits),
    "support": ("docs/support.md", support),
    "attention-support": ("docs/support.md", attention_support),
    "results": ("docs/measurements.md", results),
    "llama": ("docs/formats.md", llama),
}
PLOTS = "plots"  # the section that is files of its own


def render(text: str, sections: Iterable[str], page: str = "the page") -> str:
    """`text` with the named sections made anew."""
    for name in sections:
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"benchmarks.readme: {page} must hold one pair of {begin.strip()} and {end}")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{SECTIONS[name][1]()}\n{end}{after}"
    return text


def draw() -> dict[str, str]:
    """The plots by the file that each is in; of the first device alone, which README.md shows."""
    pictures = {}
    selections = _newest("selection")
    for record in _newest("gemm")[:1]:
        same = [s for s in selections if s["device"]["name"] == record["device"]["name"]]
        pictures["docs/matmul.svg"] = plots.matmul(record, same[0] if same else None)
    for record in _newest("fmha")[:1]:
        pictures["docs/attention.svg"] = plots.attention(record)
    return pictures


def made(names: Iterable[str]) -> dict[str, str]:
    """File -> what it should hold, of the files that the named sections are in."""
    names = list(names)
    files = {}
    for page in dict.fromkeys(SECTIONS[name][0] for name in names if name != PLOTS):
        of_page = [name for name in names if name != PLOTS and SECTIONS[name][0] == page]
        files[page] = render((ROOT / page).read_text(), of_page, page)
    return {**files, **(draw() if PLOTS in names else {})}


def main(arguments: Sequence[str]) -> None:
    known = [*SECTIONS, PLOTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sections if name not in known]:
        parser.error(f"no section {unknown[0]}; there are {', '.join(known)}")
    stale = []
    for name, text in made(options.sections or known).items():
        path = ROOT / name
        old = path.read_text() if path.exists() else ""
        if not options.check:
            path.write_text(text)
        elif old != text:
            stale.append(name)
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, "as generated")
            )
    if stale:
        sys.exit(f"not as generated: {', '.join(stale)}: make readme")


if __name__ == "__main__":
    main(sys.argv[1:])
