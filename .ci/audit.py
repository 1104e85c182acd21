"""Audits the machine code of an all-SKU build, which needs no GPU: `audit.py build/all [--update]`.

Every kernel entry must hold the matrix instruction that its folder promises, every unit must have been
compiled for the architectures that its folder serves, all of it must have reached libcutplan.so, and
registers, static shared memory, stack and local memory traffic (spills) must stay within the budget recorded
in spills.json, which --update rewrites.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

BUDGET = pathlib.Path(__file__).with_name("spills.json")

# What a folder's units hold: instruction of every entry, real architectures, virtual architectures.
PROMISES = {
    "sm80": ("HMMA", {"sm_80", "sm_90"}, {"sm_80"}),
    "sm89": ("HMMA", {"sm_89", "sm_90"}, set()),
    "sm90": ("HGMMA", {"sm_90a"}, set()),
}

# Units that multiply otherwise: float64 on tensor cores, IEEE float32 on CUDA cores.
OTHERWISE = {"gemm/sm80/f64": "DMMA", "gemm/sm90/f64": "DMMA", "gemm/sm80/f32_strict": "FFMA"}

# Passes around the matrix products that have no matrix instruction of their own, and kernels on CUDA cores.
WITHOUT_MATRIX_INSTRUCTION = (
    "split_k_reduce",
    "fmha_combine",
    "fmha_statistics",
    "fmha_collect",
    "fmha_dalibi",
    "fmha_dsink",
    "wide_delta",
    "wide_head_sums",
    "CudaCores",
)

# What 16-bit attention kernels besides these hold, too: ldmatrix for fragments, cp.async for copies.
ATTENTION = ("LDSM", "LDGSTS")


@dataclasses.dataclass
class Entry:
    """One __global__ function in one cubin."""

    name: str
    registers: int = 0
    shared: int = 0  # bytes, static
    stack: int = 0  # bytes
    local: int = 0  # instructions that read or write local memory
    instructions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


def tool(name: str) -> str:
    """The registry's tools live beside the Python packages; an installed toolkit's serve as well."""
    bundled = [pathlib.Path(p) / "nvidia" / "cu13" / "bin" / name for p in sys.path if p]
    found = next((str(p) for p in bundled if p.is_file()), None) or shutil.which(name)
    if found is None:
        sys.exit(
            f"audit: {name} not found; install the dependency group 'audit' or put a CUDA toolkit on the PATH"
        )
    return found


def dump(path: pathlib.Path, *options: str) -> str:
    # cuobjdump looks for nvdisasm on the PATH.
    environment = {"PATH": str(pathlib.Path(tool("nvdisasm")).parent)}
    command = [tool("cuobjdump"), *options, str(path)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def read_entries(unit: pathlib.Path) -> dict[str, dict[str, Entry]]:
    """Entries by architecture and mangled name."""
    entries: dict[str, dict[str, Entry]] = collections.defaultdict(dict)
    arch = name = ""
    for line in dump(unit, "-res-usage").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function (\S+):$", line):
            name = match[1]
        elif match := re.match(r"\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            registers, stack, shared = map(int, match.groups())
            entries[arch][name] = Entry(name, registers, shared, stack)
    for line in dump(unit, "-sass").splitlines():
        if match := re.match(r"arch = (\w+)", line):
            arch = match[1]
        elif match := re.match(r"\s*Function : (\S+)", line):
            name = match[1]
        elif match := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+ )?([A-Z0-9_]+)", line):
            entries[arch][name].instructions[match[1]] += 1
    for functions in entries.values():
        for entry in functions.values():
            entry.local = entry.instructions["STL"] + entry.instructions["LDL"]
    return dict(entries)


def demangle(name: str) -> str:
    filt = shutil.which("c++filt")
    text = subprocess.run([filt, name], capture_output=True, text=True).stdout.strip() if filt else name
    return text if len(text) <= 200 else text[:200] + "..."


def instruction_of(label: str, sku: str) -> str:
    return OTHERWISE.get(label, PROMISES[sku][0])


def check_unit(label: str, sku: str, unit: pathlib.Path, entries: dict[str, dict[str, Entry]]) -> list[str]:
    _, real, virtual = PROMISES[sku]
    instruction = instruction_of(label, sku)
    problems = []
    if set(entries) != real:
        problems.append(f"{label}: compiled for {sorted(entries)}, required {sorted(real)}")
    ptx = set(re.findall(r"\.(sm_\w+)\.ptx", dump(unit, "-lptx")))
    if ptx != virtual:
        problems.append(f"{label}: PTX for {sorted(ptx)}, required {sorted(virtual)}")
    for arch, functions in entries.items():
        for entry in functions.values():
            exempt = any(helper in entry.name for helper in WITHOUT_MATRIX_INSTRUCTION)
            streams = "sm80_fmha_" in entry.name and "sm80_fmha_wide_" not in entry.name
            required = (instruction, *ATTENTION) if streams else (instruction,)
            problems += [
                f"{label} {arch}: no {missing} in {demangle(entry.name)}"
                for missing in required
                if not exempt and not entry.instructions[missing]
            ]
    return problems


def measure(functions: dict[str, Entry]) -> dict[str, int]:
    """What is held against the budget: the worst entry of a unit on one architecture."""
    return {
        "registers": max(e.registers for e in functions.values()),
        "shared": max(e.shared for e in functions.values()),
        "stack": max(e.stack for e in functions.values()),
        "local": max(e.local for e in functions.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("build", type=pathlib.Path, help="build tree of all SKUs")
    parser.add_argument("--update", action="store_true", help="record what is measured as the budget")
    arguments = parser.parse_args()

    units = {}
    for path in sorted(arguments.build.rglob("*.cu.o")):
        match = re.search(r"cutplan_(\w+)_(sm\d+)\.dir/(.+)\.cu\.o$", path.as_posix())
        if match:
            units[match[3]] = (match[2], path)
    missing = PROMISES.keys() - {sku for sku, _ in units.values()}
    if missing:
        names = ", ".join(sorted(missing))
        sys.exit(f"audit: {arguments.build} has no units of {names}; build with CUTPLAN_SKUS=all")

    problems: list[str] = []
    measured: dict[str, dict[str, dict[str, int]]] = {}
    cubins = 0
    print(f"{'unit':36}{'arch':8}{'entries':>8}{'matrix':>8}{'regs':>6}{'shared':>8}{'stack':>7}{'local':>7}")
    for label, (sku, path) in units.items():
        entries = read_entries(path)
        problems += check_unit(label, sku, path, entries)
        measured[label] = {}
        for arch, functions in sorted(entries.items()):
            cubins += 1
            worst = measured[label][arch] = measure(functions)
            matrix = sum(e.instructions[instruction_of(label, sku)] for e in functions.values())
            print(
                f"{label:36}{arch:8}{len(functions):8}{matrix:8}{worst['registers']:6}{worst['shared']:8}"
                f"{worst['stack']:7}{worst['local']:7}"
            )

    libraries = list(arguments.build.rglob("libcutplan.so"))
    if len(libraries) != 1:
        sys.exit(f"audit: one libcutplan.so required under {arguments.build}, found {len(libraries)}")
    shipped = dump(libraries[0], "-lelf").count(".cubin")
    if shipped != cubins:
        problems.append(
            f"libcutplan.so: {cubins} cubins required, one per unit and architecture, found {shipped}"
        )

    if arguments.update:
        BUDGET.write_text(json.dumps(measured, indent=2) + "\n")
        print(f"recorded in {BUDGET.name}")
    else:
        budget = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
        for label, archs in measured.items():
            for arch, worst in archs.items():
                allowed = budget.get(label, {}).get(arch)
                if allowed is None:
                    problems.append(
                        f"{label} {arch}: no budget recorded; look at the table, then run with --update"
                    )
                    continue
                problems += [
                    f"{label} {arch}: {what} at most {allowed[what]} by the recorded budget, found {found}"
                    for what, found in worst.items()
                    if found > allowed[what]
                ]
        problems += [
            f"{label}: in {BUDGET.name} but not in the build" for label in budget if label not in measured
        ]

    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    print(f"{len(units)} units, {cubins} cubins: {'FAILED' if problems else 'passed'}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
