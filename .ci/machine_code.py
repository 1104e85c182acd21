"""Writes docs/machine-code.md from a build of all SKUs: `machine_code.py build/all [--check]`. Needs no GPU.

The kernels are those that the installed cutplan registers, so it must hold the same build; the speeds are
those of benchmarks/results. --check writes nothing, and fails where the page differs.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import difflib
import json
import pathlib
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sass

if TYPE_CHECKING:
    from cutplan import KernelSku

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "machine-code.md"

CARD = "NVIDIA H200"  # the results of which are shown, and what the figures below are of
BUILDS_OF_CARD = ("sm_90", "sm_90a")

# The most that a class of kernels can reach on that card, in TFLOP/s, and how that is known. wgmma and CUDA
# cores: the data sheet, dense. mma.sync has a rate of its own there, which no data sheet gives: measured with
# a loop of nothing else, operands in registers, 16 warps on each SM.
LOOP, SHEET = "a loop of it alone", "data sheet"
CEILINGS = {
    "wgmma, 16 bits": (989.0, SHEET),
    "wgmma, TF32": (495.0, SHEET),
    "wgmma, 8 bits": (1979.0, SHEET),
    "mma.sync m16n8k16, 16 bits": (591.0, LOOP),
    "mma.sync m16n8k8, TF32": (296.0, LOOP),
    "mma.sync m16n8k8, TF32, three products": (296.0 / 3, LOOP),
    "mma.sync m8n8k4, float64": (33.2, LOOP),
    "mma.sync m16n8k8, float64": (66.2, LOOP),
    "CUDA cores, float32": (67.0, SHEET),
    "CUDA cores, float64": (34.0, SHEET),
}

ELEMENTS = {
    "cutlass::half_t": "float16",
    "cutlass::bfloat16_t": "bfloat16",
    "cutlass::tfloat32_t": "float32",
    "float": "float32",
    "double": "float64",
    "signed char": "int8",
    "cutlass::float_e4m3_t": "float8_e4m3fn",
    "cutlass::float_e5m2_t": "float8_e5m2",
}

# Configurations that are no struct ...Config: operand and math.
ARITHMETIC = {
    "Tf32<false>": ("float32", "tf32"),
    "Tf32<true>": ("float32", "tf32x3"),
    "CudaCores<float>": ("float32", "strict"),
    "CudaCores<double>": ("float64", "strict"),
}

# Kinds of instructions (sass.py), in the order of the columns, with their headings.
MIX = {
    "matrix": "mma",
    "shared loads": "lds",
    "copies": "copy",
    "shared stores": "sts",
    "global stores": "stg",
    "local": "local",
    "float": "float",
    "special": "mufu",
    "integer": "int",
    "waits": "wait",
    "control": "control",
}


# ---- which entry is which kernel ----


@dataclasses.dataclass
class Row:
    """A kernel in one build."""

    sku: KernelSku
    entry: sass.Entry
    others: dict[str, sass.Entry]  # further entries of the kernel, by what they are for


def _text(path: pathlib.Path) -> str:
    return re.sub(r"//.*", "", path.read_text())


def _parameters() -> dict[str, list[str]]:
    """The names of the template parameters of every configuration, by its qualified name."""
    found = {}
    for path in sorted((ROOT / "cpp" / "src").rglob("*.cuh")):
        text = _text(path)
        for namespace in re.findall(r"^namespace (cutplan(?:::\w+)+) \{", text, re.MULTILINE):
            for parameters, name in re.findall(r"template <([^<>]*)>\s*struct (\w*Config) \{", text):
                names = [p.split("=")[0].split()[-1].rstrip("_") for p in parameters.split(",")]
                found[f"{namespace}::{name}"] = names
    return found


def _enumerations() -> dict[str, list[str]]:
    found = {}
    for path in sorted(p for suffix in ("hpp", "cuh") for p in (ROOT / "cpp").rglob(f"*.{suffix}")):
        for name, values in re.findall(r"enum class (\w+)[^{;]*\{([\w\s,]*)\}", _text(path)):
            found[name] = [value.strip() for value in values.split(",") if value.strip()]
    return found


class Matcher:
    """Finds an entry's kernel: the template arguments in its name agree with the kernel's own description."""

    def __init__(self, skus: Sequence[KernelSku]) -> None:
        self._skus = skus
        self._parameters = _parameters()
        self._enumerations = _enumerations()

    def _value(self, argument: str) -> Any:
        if match := re.fullmatch(r"\(([\w:]+)\)(\d+)", argument):
            return self._enumerations[match[1].split("::")[-1]][int(match[2])]
        if argument in ("true", "false"):
            return argument == "true"
        if "*" in argument:  # A's and B's
            return "*".join(ELEMENTS[element] for element in argument.split("*"))
        return ELEMENTS.get(argument) or (int(argument) if re.fullmatch(r"-?\d+", argument) else argument)

    def _fields(self, configuration: str, arguments: str) -> dict[str, Any]:
        if operand := ARITHMETIC.get(f"{configuration.split('::')[-1]}<{arguments}>"):
            return dict(zip(("Element", "kMath"), operand, strict=True))
        names, given = self._parameters.get(configuration, []), arguments.split(",")
        if len(names) != len(given):
            raise ValueError(f"the sources' {configuration} has {len(names)} parameters, not {len(given)}")
        return {name: self._value(argument.strip()) for name, argument in zip(names, given, strict=True)}

    def find(self, unit: sass.Unit, entry: sass.Entry) -> tuple[str, str]:
        """The kernel's name, and which of its entries this is. ValueError: not exactly one kernel fits."""
        flat = re.sub(r"cutplan::gemm::Mixed<([\w:]+), ([\w:]+)>", r"\1*\2", entry.demangled)
        name = re.match(r"(?:void )?([\w:]+)<([\w:]+)<([^<>]*)>(?:, (.+?))? ?>\(", flat)
        if name is None:
            raise ValueError("its name is not that of a template of a configuration")
        function, configuration, arguments, rest = name.groups()
        function = function.split("::")[-1]
        fields = self._fields(configuration, arguments)
        # A schedule may have a kernel of its own, named after it, in place of a parameter.
        for schedule in {sku.schedule for sku in self._skus}:
            if function.endswith(f"_{schedule}"):
                fields["kSchedule"] = schedule
        family = unit.label.split("/")[0]
        passes = family == "fmha"  # an entry is of one of them, and named after what it does there
        op = f"{family}_backward" if passes and "forward" not in function else family
        of_unit = (sku for sku in self._skus if str(sku.arch) == unit.sku and sku.op == op)
        fits = [sku for sku in of_unit if _agrees(sku, fields) and not _gathers(sku)]
        if len(fits) != 1:
            raise ValueError(f"{len(fits)} kernels of the registry fit it")
        part = function.split("_")[-1] if passes else family
        if rest and part != "dbias":
            value = self._value(rest)
            part = {True: "options", False: "plain"}[value] if isinstance(value, bool) else str(value)
        return fits[0].name, part


def _gathers(sku: KernelSku) -> bool:
    """From a copy of A: the kernel is one that takes A as it lies."""
    return "gathered" in sku.schedule


# Of packed weights, as kernels' names have them.
CODES = {"int4": "integers4", "table4": "table4", "int8": "integers8", "e4m3": "e4m3"}


def _agrees(sku: KernelSku, fields: dict[str, Any]) -> bool:
    words = sku.name.split(".")
    codes = next((CODES[word.split("_packed_")[1]] for word in words if "_packed_" in word), None)
    plain = codes is not None or sku.op != "gemm" or sku.a == sku.b
    math = next((word for word in words if word in ("tf32", "tf32x3", "strict")), "strict")
    gated = "gate_separate" in words
    own = {
        "Element": str(sku.a) if plain else f"{sku.a}*{sku.b}",
        "kPromotes": str(sku.a).startswith("float8") and "strict" in words,
        "kMath": math,
        "kLayout": sku.layout,
        "kTileM": sku.tile[0],
        "kRows": sku.tile[0],
        "kTileN": sku.tile[1] * (2 if gated else 1),
        "kTileK": sku.tile[2],
        "kDim": sku.tile[2],
        "kStages": sku.stages,
        "kSlots": sku.stages,
        "kClusterM": sku.cluster[0],
        "kSchedule": sku.schedule,
        "kAlignment": sku.alignment,
        "kGated": gated,
        "kCodes": codes,
    }
    if codes is not None:
        own |= {"kTokens": sku.tile[0], "kDepth": sku.stages}
        own |= {"kPieces": sku.tile[1] // 16, "kWarps": sku.tile[2] // 128}
    return all(own.get(name, value) == value for name, value in fields.items())


# The entry that a kernel is known by, if its family has more than one: without options; backward in float32
# and float64 the larger one.
LEADS = ("scale", "plain", "forward", "dkv")


Tables = dict[tuple[str, str, str], list[Row]]  # by family, SKU folder and build


def match(units: Iterable[sass.Unit], skus: Sequence[KernelSku]) -> tuple[Tables, list[str]]:
    """Every kernel in the registry's order; and what could not be matched."""
    matcher = Matcher(skus)
    problems = []
    found: dict[tuple[str, str, str], dict[str, dict[str, sass.Entry]]] = {}
    for unit in units:
        if unit.moves:
            continue
        for arch, entries in unit.entries.items():
            key = (unit.label.split("/")[0], unit.sku, arch)
            table = found.setdefault(key, collections.defaultdict(dict))
            for entry in entries.values():
                if any(helper in entry.name for helper in sass.HELPERS):
                    continue
                try:
                    name, part = matcher.find(unit, entry)
                    if part in table[name]:
                        raise ValueError(f"{name} has two entries for {part}")
                    if entry.main_loop is None:
                        raise ValueError("it has no loop that multiplies")
                    table[name][part] = entry
                except ValueError as error:
                    problems.append(f"{unit.label} {arch}: {error}: {entry.demangled or entry.name}")
    tables: Tables = {}
    for (family, folder, arch), table in sorted(found.items()):
        rows = tables[family, folder, arch] = []
        for sku in skus:
            if not _is_of(sku, family) or str(sku.arch) != folder or _gathers(sku):
                continue
            parts = dict(table.get(sku.name, {}))
            lead = next((part for part in (family, *LEADS) if part in parts), None)
            if lead is None:
                problems.append(f"{family}/{folder} {arch}: no entry of {sku.name}")
            else:
                rows.append(Row(sku, parts.pop(lead), dict(sorted(parts.items()))))
    return tables, problems


def _is_of(sku: KernelSku, family: str) -> bool:
    """Ops are named after their family: fmha, fmha_backward."""
    return sku.op == family or sku.op.startswith(f"{family}_")


# ---- speeds ----


@dataclasses.dataclass
class Speed:
    rate: str
    problem: str
    fraction: float  # of the ceiling


def _kernel_of(name: str) -> str:
    """The registry's name of what ran: groups, slices, and sums in order are launches of the same kernel."""
    return re.sub(r"(\.k\d+|\.ordered)$", "", name).replace("grouped_gemm.", "gemm.", 1)


def ceiling_class(row: Row) -> str:
    operand, hopper = str(row.sku.a), str(row.sku.arch) == "sm90"
    if row.entry.multiplier == "HGMMA":
        return "wgmma, TF32" if operand == "float32" else "wgmma, 16 bits"
    if row.entry.multiplier in ("IGMMA", "QGMMA"):
        return "wgmma, 8 bits"
    if row.entry.multiplier in ("IMMA", "QMMA"):
        return "mma.sync m16n8k32, 8 bits"
    if row.entry.multiplier == "DMMA":
        return "mma.sync m16n8k8, float64" if hopper else "mma.sync m8n8k4, float64"
    if row.entry.multiplier == "HMMA":
        if operand != "float32":
            return "mma.sync m16n8k16, 16 bits"
        three = "tf32x3" in row.sku.name.split(".")
        return "mma.sync m16n8k8, TF32, three products" if three else "mma.sync m16n8k8, TF32"
    return f"CUDA cores, {operand}"


def _measurements() -> Iterable[tuple[str, str, str, float, bool]]:
    """Kernel, rate, problem, rate in TFLOP/s or share of copy bandwidth, and whether it is the latter."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from benchmarks import _attention, _report

    results = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
    records = [json.loads(path.read_text()) for path in results]
    records = [record for record in records if record["device"]["name"] == CARD]
    copy = max(filter(None, (_report.copy_bandwidth(record) for record in records)), default=None)
    for record in records:
        parts = ("entries", "gated", "grouped", "epilogues")
        for entry in (e for part in parts for e in record.get(part, ()) if isinstance(e, dict)):
            for c in entry.get("contenders", ()):
                if "sku" not in c or "microseconds" not in c:
                    continue
                seconds = 1e-6 * _report.median(c)
                if record["benchmark"] == "fmha":
                    few, gigabytes = entry["seq_q"] == 1, 1e-9 * _attention.key_bytes(entry) / seconds
                    rate, flop = _attention.rate(entry, c), _attention.flop(entry)
                    problem = f"{_attention.problem(entry)} {entry['mask']}"
                else:
                    few, gigabytes = entry["m"] <= 16, _report.weight_bandwidth(entry, c)
                    rate, problem = _report.rate(entry, c), f"{_report.extents(entry)} {entry['layout']}"
                    flop = 2.0 * entry.get("products", 1) * entry["m"] * entry["n"] * entry["k"]
                if not few:
                    yield _kernel_of(c["sku"]), rate, problem, 1e-12 * flop / seconds, False
                elif copy:
                    yield _kernel_of(c["sku"]), rate, problem, gigabytes / copy, True


def speeds(ceilings: dict[str, float]) -> dict[tuple[str, bool], Speed]:
    """The best by kernel and whether memory bounds the problem; `ceilings`: kernels' in TFLOP/s."""
    best: dict[tuple[str, bool], Speed] = {}
    for name, rate, problem, value, of_memory in _measurements():
        if name in ceilings:
            fraction = value if of_memory else value / ceilings[name]
            if (name, of_memory) not in best or fraction > best[name, of_memory].fraction:
                best[name, of_memory] = Speed(rate, problem, fraction)
    return best


# ---- the page ----


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numbers = [all(re.match(r"[\d.]+( \(\d+\))?$", row[i]) for row in rows) for i in range(len(header))]
    lines = [header, ["--:" if number else "---" for number in numbers], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listing(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _identity(row: Row) -> dict[str, str]:
    """What tells a kernel from others, but for its type and layout."""
    sku, words = row.sku, row.sku.name.split(".")
    math = next((f" {word}" for word in words if word in ("tf32", "tf32x3", "strict")), "")
    if sku.category == "attention":
        return {
            "pass": "backward" if sku.op.endswith("backward") else "forward",
            "type": words[2] + math,
            "head dim": f"{sku.tile[2]}" if sku.tile[2] else "any",
            "tile": f"{sku.tile[0]}x{sku.tile[1]}",
            "stages": str(sku.stages),
        }
    cluster = f", {sku.cluster[0]}x{sku.cluster[1]}" if sku.cluster != (1, 1) else ""
    gated = ", gated" if "gate_separate" in words else ""
    return {
        "type": words[2] + math,
        "layouts": sku.layout,
        "tile": "x".join(map(str, sku.tile)),
        "stages": str(sku.stages),
        "schedule": sku.schedule + cluster + gated,
        "align": str(sku.alignment),
    }


def _spills(entry: sass.Entry) -> str:
    inside = entry.main_loop.local if entry.main_loop else 0
    return f"{entry.local}" + (f" ({inside})" if inside else "")


def _figures(row: Row) -> dict[str, str]:
    entry, loop = row.entry, row.entry.main_loop
    assert loop is not None
    total = sum(loop.round.values())
    figures = {
        "threads": str(row.sku.threads),
        "regs": str(entry.registers),
        "shared KiB": f"{row.sku.shared_memory / 1024:.1f}".removesuffix(".0"),
        "spills": _spills(entry),
    }
    figures |= {heading: str(loop.round[kind]) for kind, heading in MIX.items()}
    figures["all/mma"] = f"{total / loop.round['matrix']:.1f}"
    producer = entry.producer_loop.round if entry.producer_loop else None
    figures["TMA/all"] = f"{producer['matrix']}/{sum(producer.values())}" if producer else ""
    figures["others' spills"] = _listing(f"{part} {_spills(other)}" for part, other in row.others.items())
    return figures


def _best(rows: Iterable[Row], best: dict[tuple[str, bool], Speed]) -> str:
    found = [
        (speed.fraction, f"{100 * speed.fraction:.0f} %" + (" (memory)" if memory else ""))
        for row in rows
        for memory in (False, True)
        if (speed := best.get((row.sku.name, memory)))
    ]
    return max(found)[1] if found else "not measured"


def _merged(rows: list[tuple[dict[str, str], list[Row]]], key: str) -> list[tuple[dict[str, str], list[Row]]]:
    """Rows that agree in all but `key` as one."""
    found: dict[tuple[tuple[str, str], ...], tuple[dict[str, str], list[Row]]] = {}
    for cells, members in rows:
        others = tuple((name, cell) for name, cell in cells.items() if name != key)
        if others in found:
            found[others][0][key] = _listing([*found[others][0][key].split(", "), cells[key]])
            found[others][1].extend(members)
        else:
            found[others] = (dict(cells), list(members))
    return list(found.values())


def _section(rows: list[Row], arch: str, best: dict[tuple[str, bool], Speed]) -> str:
    lines = [(_identity(row) | _figures(row), [row]) for row in rows]
    for key in ("layouts", "type"):
        if key in lines[0][0]:
            lines = _merged(lines, key)
    header = [name for name in lines[0][0] if any(cells[name] not in ("0", "") for cells, _ in lines)]
    table = [[cells[name] for name in header] for cells, _ in lines]
    if arch in BUILDS_OF_CARD:
        header.append("of ceiling")
        for line, (_, members) in zip(table, lines, strict=True):
            line.append(_best(members, best))
    return _table(header, table)


def _title(family: str, folder: str, arch: str) -> str:
    name = {"gemm": "Matrix products", "fmha": "Attention"}.get(family, family)
    return f"## {name}: {folder} kernels, built for {arch}"


def _measured(rows: Iterable[Row], best: dict[tuple[str, bool], Speed]) -> str:
    lines = []
    for row in rows:
        for memory in (False, True):
            if speed := best.get((row.sku.name, memory)):
                share = f"{100 * speed.fraction:.0f} %"
                ceiling = "copy" if memory else ceiling_class(row)
                lines.append([f"`{row.sku.name}`", speed.problem, speed.rate, share, ceiling])
    return _table(["kernel", "problem", "best rate", "of ceiling", "class"], lines)


INTRODUCTION = f"""# Machine code

What the compiler made of each kernel. `make machine_code` reads it off a build of all SKUs and writes
this page; continuous integration holds the page to the build. The compiler is pinned, so that the figures
are its own and the sources' alone. A row is the code of one kernel; layouts and types that agree in every
figure share a row.

The main loop is the innermost one with the most matrix instructions. Its instructions are counted along
one way round, and once for a warp: along the way that multiplies, copies and adds to global memory the
most, with the fewest other instructions. Masks, edges of a problem and unaligned operands take other,
longer ways.

Not kernels of their own, and not here: the reduction after split K, the sums that zero points need, copies of
A for packed weights, the combination of split keys, and what runs before and after attention's backward
kernel (the preprocess and postprocess passes, the gradients of sinks and ALiBi slopes). Nor are the ops
around attention here, which move memory and multiply nothing. Kernels of packed weights that take a copy of A
are those that take it as it lies.

- **tile**: of a block. Matrix products: M x N x K; attention: queries x keys.
- **stages**: of the ring in shared memory; attention's forward kernels: slots for a tile of K or V.
- **schedule**: and the cluster whose blocks share operands; gated: two products, one the other's gate.
- **align**: bytes to which rows of A and B must be aligned.
- **threads**, **shared KiB**: of a block; the shared memory is the dynamic.
- **regs**: registers of a thread.
- **spills**: instructions that read or write local memory; in brackets those in the main loop, on any way
  round.
- **mma** to **control**: the instructions of one round of the main loop:
  - **mma**: HMMA, HGMMA or DMMA, of 8 bits IMMA, IGMMA, QMMA or QGMMA; on CUDA cores FFMA or DFMA;
  - **lds**, **sts**: loads from shared memory (LDSM, LDS), stores to it;
  - **copy**: copies from global to shared memory (LDGSTS), and loads from global memory;
  - **stg**: stores to global memory, and sums there that other blocks add to (RED);
  - **local**: reads and writes of local memory;
  - **float**, **mufu**: floating point and conversions; exponentials and the like;
  - **int**: integers, addresses, moves, selections;
  - **wait**: barriers, and waiting for copies and products;
  - **control**: branches, votes, shuffles.
- **all/mma**: instructions for each matrix instruction.
- **TMA/all**: TMA copies among the instructions of the producer warp's loop, which the compiler unrolls.
- **others' spills**: of the kernel's other entries. The row is of the one that runs without options;
  bias: with a 16-bit bias; any, options: with every option; dbias: the gradient of the bias. Backward in
  float32 and float64 is two entries: the row's, for dK and dV, and dq.
- **of ceiling**: the best rate measured of the row's kernels on an {CARD}, of the ceiling of their class.
  (memory): the problem has few rows or queries, and the rate is that at which B, or K and V, are read, of
  that of a copy.

## Ceilings

Of an {CARD}. The data sheet's figures are dense. A loop: nothing but that instruction, its operands in
registers, 16 warps on each SM.
"""


MEASURED = f"""## Best rates measured

Of each kernel that [benchmarks/results](../benchmarks/results) has from an {CARD}; the others are not
measured. Matrix products: M x N x K and layout; attention: b batch, h heads of Q/of K, s length, d head
dimension. A kernel measured with both few and many rows or queries has a line for each.
"""


def page(units: Iterable[sass.Unit], skus: Sequence[KernelSku]) -> tuple[str, list[str]]:
    """The page, and what keeps it from being right."""
    tables, problems = match(units, skus)
    of_card = [row for (_, _, arch), rows in tables.items() if arch in BUILDS_OF_CARD for row in rows]
    known = [row for row in of_card if ceiling_class(row) in CEILINGS]
    best = speeds({row.sku.name: CEILINGS[ceiling_class(row)][0] for row in known})
    problems += [
        f"{name} is faster than the ceiling of its class: {speed.rate}"
        for (name, of_memory), speed in best.items()
        if not of_memory and speed.fraction > 1
    ]
    ceilings = [[name, f"{rate:.0f}", source] for name, (rate, source) in CEILINGS.items()]
    text = [INTRODUCTION.strip(), _table(["class", "TFLOP/s", "from"], ceilings)]
    for (family, folder, arch), rows in tables.items():
        if not rows:
            continue
        text.append(_title(family, folder, arch))
        if arch not in BUILDS_OF_CARD:
            text.append(
                f"Not run on such a card. The same sources, built for sm_90, ran on an {CARD}: below."
            )
        text.append(_section(rows, arch, best))
    text += [MEASURED.strip(), _measured(of_card, best)]
    return "\n\n".join(text) + "\n", problems


def registry() -> list[KernelSku]:
    import cutplan

    lacking = [str(arch) for arch in cutplan.Arch if str(arch) not in cutplan.built_architectures()]
    if lacking:
        sys.exit(f"machine_code: the installed cutplan lacks {', '.join(lacking)}: make machine_code")
    registries = [getattr(cutplan, name) for name in cutplan.__all__ if name.endswith("_registry")]
    return [sku for every in registries for sku in every() if str(sku.arch) != "host"]


def write(units: Iterable[sass.Unit]) -> list[str]:
    """Writes the page, and says what keeps it from being right."""
    text, problems = page(units, registry())
    PAGE.write_text(text)
    return problems


def check(units: Iterable[sass.Unit]) -> list[str]:
    """What is wrong with the page; shows how it differs from what it should be."""
    new, problems = page(units, registry())
    old = PAGE.read_text() if PAGE.exists() else ""
    if old != new:
        sys.stdout.writelines(
            difflib.unified_diff(old.splitlines(True), new.splitlines(True), PAGE.name, "as generated")
        )
        problems.append(f"{PAGE.relative_to(ROOT)} is not as generated: make machine_code")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=pathlib.Path, help="build tree of all SKUs")
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page differs")
    arguments = parser.parse_args()
    units = sass.read_units(arguments.build).values()
    problems = check(units) if arguments.check else write(units)
    for problem in problems:
        print(f"machine_code: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
