"""Reads the machine code of a build: registers, memory, instructions, and the main loop of every entry.

It is disassembled once for all who read it: the audit, and the page that machine_code.py writes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Set
from typing import NamedTuple

TENSOR_CORES = frozenset({"HMMA", "HGMMA", "DMMA", "IMMA", "IGMMA", "QMMA", "QGMMA", "OMMA"})
CUDA_CORES = ("DFMA", "FFMA")  # what multiplies where there is no tensor core instruction
LOCAL = ("LDL", "STL")
# Work of a loop besides products: copies of operands to come, and sums that other blocks add to. LDG copies
# where operands pass through registers; beside LDGSTS it is the way of unaligned ones.
COPIES, SUMS, LOADS = frozenset({"LDGSTS", "UTMALDG"}), frozenset({"RED", "REDG"}), frozenset({"LDG"})

# By the first letters of an opcode; the longest that fits counts. What is not here is integer arithmetic,
# addresses and moves.
KINDS = {
    "shared loads": ("LDSM", "LDS"),
    "copies": ("LDGSTS", "UTMALDG", "UBLKCP", "LDG", "LD"),
    "shared stores": ("STS",),
    "global stores": ("STG", "ST", "RED", "ATOM", "UTMASTG", "UTMAREDG"),
    "local": LOCAL,
    "float": ("F", "H", "D", "I2F"),
    "special": ("MUFU",),
    "waits": ("BAR", "DEPBAR", "LDGDEPBAR", "SYNCS", "WARPGROUP", "WARPSYNC", "MEMBAR", "FENCE", "NANOSLEEP")
    + ("CCTL", "ERRBAR", "CGAERRBAR", "UCGABAR", "ARRIVES"),
    "integer": ("FLO", "LDC"),  # besides all others
    "control": (
        "BRA",
        "BRX",
        "JMP",
        "BSSY",
        "BSYNC",
        "BREAK",
        "BMOV",
        "CALL",
        "RET",
        "EXIT",
        "NOP",
        "VOTE",
        "SHFL",
    )
    + ("REDUX", "ELECT", "ENDCOLLECTIVE", "YIELD"),
}

# Families whose kernels move memory, and multiply nothing.
MOVERS = ("attention_ops", "quantize", "weights")

# Passes around the matrix products: parts of a kernel's name.
HELPERS = (
    "lower_flags",
    "split_k_reduce",
    "sum_codes",
    "gather_columns",
    "fmha_alone",
    "fmha_combine",
    "fmha_preprocess",
    "fmha_postprocess",
    "fmha_dalibi",
    "fmha_dsink",
    "wide_statistics",
    "wide_head_sums",
)


class Instruction(NamedTuple):
    opcode: str  # without its modifiers
    continues: bool  # what follows it may be next
    targets: tuple[str, ...]  # labels that it may jump to


@dataclasses.dataclass
class Loop:
    """A loop as it runs.

    `round` counts the instructions of one way round by kind; "matrix" are those that multiply. It is the way
    that does the most work with the fewest instructions: masks and edges take others.
    """

    round: collections.Counter[str]
    local: int  # instructions that read or write local memory, on whatever way


@dataclasses.dataclass
class Entry:
    """One __global__ function in one cubin."""

    name: str
    demangled: str = ""
    registers: int = 0
    shared: int = 0  # bytes, static
    stack: int = 0  # bytes
    local: int = 0  # instructions that read or write local memory
    instructions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    multiplier: str = ""  # the instruction that multiplies
    main_loop: Loop | None = None
    producer_loop: Loop | None = None  # where warps of their own fetch what the main loop multiplies


@dataclasses.dataclass
class Unit:
    """One object file."""

    label: str  # <family>/<sku>/<unit>
    sku: str
    entries: dict[str, dict[str, Entry]]  # by real architecture and mangled name
    ptx: set[str]  # virtual architectures

    @property
    def moves(self) -> bool:
        return self.label.split("/")[0] in MOVERS


# ---- tools ----


def tool(name: str) -> str:
    """The registry's tools live beside the Python packages; an installed toolkit's serve as well."""
    bundled = [pathlib.Path(p) / "nvidia" / "cu13" / "bin" / name for p in sys.path if p]
    found = next((str(p) for p in bundled if p.is_file()), None) or shutil.which(name)
    if found is None:
        sys.exit(f"{name} not found; install the dependency group 'audit' or put a CUDA toolkit on the PATH")
    return found


def dump(path: pathlib.Path, *options: str, cwd: str | None = None) -> str:
    command = [tool("cuobjdump"), *options, str(path.resolve())]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def demangle(names: Iterable[str]) -> dict[str, str]:
    names = list(names)
    done = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    return dict(zip(names, done.stdout.splitlines(), strict=True))


# ---- reading a disassembly ----

_LINE = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(@\S+ +)?([A-Z][A-Z0-9_]*)((?:\.\w+)*)(.*)")
_LABEL = re.compile(r"\.L_x_\d+")


def parse(listing: str) -> Iterator[tuple[str, list[Instruction], dict[str, int]]]:
    """Functions of nvdisasm -c: name, code, and what labels stand for."""
    name, code, labels = "", list[Instruction](), dict[str, int]()
    for line in listing.splitlines():
        if line.startswith(".text.") and line.endswith(":"):
            if name:
                yield name, code, labels
            name, code, labels = line[len(".text.") : -1], [], {}
        elif line.startswith(".L_x_"):
            labels[line.rstrip(":")] = len(code)
        elif match := _LINE.match(line):
            predicate, opcode, modifiers, operands = match.groups()
            # BRA.U.ANY goes back for threads whose operands differ from the first's: there are none.
            jumps = opcode in ("BRA", "BRX", "BRXU", "JMP") and modifiers != ".U.ANY"
            # A branch may also have a condition among its operands or modifiers.
            surely = not predicate and (
                opcode != "BRA" or not modifiers and not re.match(r" *!?U?P\d", operands)
            )
            continues = not (surely and (jumps or opcode in ("EXIT", "RET")))
            code.append(Instruction(opcode, continues, tuple(_LABEL.findall(operands)) if jumps else ()))
    if name:
        yield name, code, labels


# ---- loops ----


class Flow:
    """Basic blocks, which of them every way to another leads through, and so the loops."""

    def __init__(self, code: list[Instruction], labels: dict[str, int]) -> None:
        goals = {i: [labels[t] for t in x.targets if t in labels] for i, x in enumerate(code) if x.targets}
        starts = {0, *(goal for of_one in goals.values() for goal in of_one)}
        starts |= {i + 1 for i, x in enumerate(code) if x.targets or not x.continues}
        bounds = [*sorted(s for s in starts if s < len(code)), len(code)]
        self.blocks = [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
        number = {block.start: i for i, block in enumerate(self.blocks)}
        self.next: list[list[int]] = []
        for i, block in enumerate(self.blocks):
            following = [number[goal] for goal in goals.get(block[-1], ()) if goal in number]
            if code[block[-1]].continues and i + 1 < len(self.blocks):
                following.append(i + 1)
            self.next.append(following)
        self._find_dominators()

    def _find_dominators(self) -> None:
        """Cooper, Harvey and Kennedy, A simple, fast dominance algorithm, 2001."""
        order, seen, stack = list[int](), {0}, [(0, iter(self.next[0]))]
        while stack:
            block, following = stack[-1]
            fresh = next((n for n in following if n not in seen), None)
            if fresh is None:
                order.append(block)
                stack.pop()
            else:
                seen.add(fresh)
                stack.append((fresh, iter(self.next[fresh])))
        self._rank = {block: i for i, block in enumerate(order)}  # the first block has the highest
        self.order = order[::-1]
        self.before: dict[int, list[int]] = {block: [] for block in order}
        for block in order:
            for n in self.next[block]:
                self.before[n].append(block)
        self._dominator = {0: 0}
        changed = True
        while changed:
            changed = False
            for block in reversed(order[:-1]):
                known = [b for b in self.before[block] if b in self._dominator]
                best = functools.reduce(self._meet, known)
                if self._dominator.get(block) != best:
                    self._dominator[block] = best
                    changed = True

    def _meet(self, a: int, b: int) -> int:
        while a != b:
            if self._rank[a] < self._rank[b]:
                a = self._dominator[a]
            else:
                b = self._dominator[b]
        return a

    def dominates(self, a: int, b: int) -> bool:
        while self._rank[b] < self._rank[a]:
            b = self._dominator[b]
        return a == b

    def loops(self) -> dict[int, tuple[set[int], list[int]]]:
        """By the block that a loop is entered through: its blocks, and those that lead back."""
        found: dict[int, tuple[set[int], list[int]]] = {}
        for block in self.before:
            for head in self.next[block]:
                if not self.dominates(head, block):
                    continue
                body, latches = found.setdefault(head, ({head}, []))
                latches.append(block)
                open_ends = [block]
                while open_ends:
                    b = open_ends.pop()
                    if b not in body:
                        body.add(b)
                        open_ends += self.before[b]
        return found


@functools.cache
def kind_of(opcode: str) -> str:
    if opcode in TENSOR_CORES:
        return "matrix"
    fits = [
        (len(start), kind) for kind, starts in KINDS.items() for start in starts if opcode.startswith(start)
    ]
    return max(fits)[1] if fits else "integer"


def find_loop(code: list[Instruction], flow: Flow, wanted: Set[str]) -> Loop | None:
    """The innermost loop with the most of the wanted instructions; of several such the shortest.

    On CUDA cores that with the largest share of them: exponentials, too, are made of multiply-adds.
    """
    weights = [sum(code[i].opcode in wanted for i in block) for block in flow.blocks]
    loops = {head: loop for head, loop in flow.loops().items() if any(weights[block] for block in loop[0])}
    innermost = [
        (body, latches)
        for head, (body, latches) in loops.items()
        if not any(other != head and other in body for other in loops)
    ]
    if not innermost:
        return None

    def rank(loop: tuple[set[int], list[int]]) -> tuple[float, int]:
        count, length = sum(weights[b] for b in loop[0]), sum(len(flow.blocks[b]) for b in loop[0])
        return count / length if wanted <= set(CUDA_CORES) else count, -length

    body, latches = max(innermost, key=rank)
    opcodes = {b: [code[i].opcode for i in flow.blocks[b]] for b in body}
    everything = [opcode for of_block in opcodes.values() for opcode in of_block]
    work = wanted | SUMS | (COPIES if COPIES.intersection(everything) else LOADS)
    way = _best_way(flow, opcodes, latches, work)
    kinds = ("matrix" if opcode in wanted else kind_of(opcode) for b in way for opcode in opcodes[b])
    return Loop(collections.Counter(kinds), sum(opcode in LOCAL for opcode in everything))


def _best_way(flow: Flow, opcodes: dict[int, list[str]], latches: list[int], work: Set[str]) -> list[int]:
    """The blocks of the way round a loop that does the most work with the fewest instructions."""
    values = {b: (sum(opcode in work for opcode in x), -len(x)) for b, x in opcodes.items()}
    # In this order every block follows those that lead to it, other than round a loop.
    order = [b for b in flow.order if b in opcodes]
    place = {b: i for i, b in enumerate(order)}
    best = {order[0]: values[order[0]]}
    came_from: dict[int, int] = {}
    for b in order:
        for n in flow.next[b]:
            if place.get(n, 0) > place[b]:
                value = (best[b][0] + values[n][0], best[b][1] + values[n][1])
                if n not in best or value > best[n]:
                    best[n], came_from[n] = value, b
    way = [max(latches, key=lambda latch: best[latch])]
    while way[-1] != order[0]:
        way.append(came_from[way[-1]])
    return way


def describe(entry: Entry, code: list[Instruction], labels: dict[str, int]) -> None:
    entry.instructions = collections.Counter(x.opcode for x in code)
    entry.local = sum(entry.instructions[opcode] for opcode in LOCAL)
    flow = Flow(code, labels)
    used = sorted(TENSOR_CORES & entry.instructions.keys(), key=lambda opcode: entry.instructions[opcode])
    for multiplier in used[-1:] or CUDA_CORES:
        if loop := find_loop(code, flow, {multiplier}):
            entry.multiplier, entry.main_loop = multiplier, loop
            break
    entry.producer_loop = find_loop(code, flow, {"UTMALDG"})


# ---- units ----


def _read_listing(cubin: pathlib.Path) -> list[Entry]:
    listing = subprocess.run(
        [tool("nvdisasm"), "-c", str(cubin)], check=True, capture_output=True, text=True
    ).stdout
    entries = []
    for name, code, labels in parse(listing):
        entry = Entry(name)
        describe(entry, code, labels)
        entries.append(entry)
    return entries


def read_unit(label: str, sku: str, path: pathlib.Path) -> Unit:
    entries: dict[str, dict[str, Entry]] = collections.defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        dump(path, "-xelf", "all", cwd=folder)
        for cubin in pathlib.Path(folder).iterdir():
            arch = cubin.name.split(".")[-2]
            entries[arch] = {entry.name: entry for entry in _read_listing(cubin)}
    arch = name = ""
    for line in dump(path, "-res-usage").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):$", line):
            name = match[1]
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            entry = entries[arch][name]
            entry.registers, entry.stack, entry.shared = map(int, match.groups())
    for functions in entries.values():
        for name, readable in demangle(functions).items():
            functions[name].demangled = readable
    return Unit(label, sku, dict(entries), set(re.findall(r"\.(sm_\w+)\.ptx", dump(path, "-lptx"))))


def read_units(build: pathlib.Path) -> dict[str, Unit]:
    """All units of a build tree, by label."""
    found = []
    for path in sorted(build.rglob("*.cu.o")):
        if match := re.search(r"cutplan_\w+_(sm\d+)\.dir/(.+)\.cu\.o$", path.as_posix()):
            found.append((match[2], match[1], path))
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        return {unit.label: unit for unit in pool.map(read_unit, *zip(*found, strict=True))} if found else {}
