"""Audits the machine code of an all-SKU build, which needs no GPU: `audit.py build/all [--update]`.

Every kernel entry must hold the matrix instruction that its folder promises, every unit must have been
compiled for the architectures that its folder serves, all of it must have reached libcutplan.so, and
registers, static shared memory, stack and local memory traffic (spills) must stay within the budget recorded
in spills.json. docs/machine-code.md must be what machine_code.py makes of the build. --update rewrites both.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import sys

import machine_code
import sass

BUDGET = pathlib.Path(__file__).with_name("spills.json")

# What a folder's units hold: instruction of every entry, real architectures, virtual architectures.
PROMISES = {
    "sm80": ("HMMA", {"sm_80", "sm_90"}, {"sm_80"}),
    "sm89": ("HMMA", {"sm_89", "sm_90"}, set()),
    "sm90": ("HGMMA", {"sm_90a"}, set()),
}

# Units that multiply otherwise, by their whole label: float64 on tensor cores, IEEE float32 on CUDA cores,
# 8 bits.
OTHERWISE = {
    r"gemm/sm\d\d/f64(_\w+)?": "DMMA",
    r"gemm/sm\d\d/f32_strict(_\w+)?": "FFMA",
    r"gemm/sm80/i8_\w+": "IMMA",
    r"gemm/sm90/i8_\w+": "IGMMA",
    r"gemm/sm90/e[45]m[32]_\w+": "QGMMA",
}
# mma.sync of float8 is an instruction of compute capability 8.9; 9.0 takes it apart.
FLOAT8_BY_MMA_SYNC = r"gemm/sm89/e[45]m[32]\w*"

# Entries without a matrix instruction: passes around the products, and attention on CUDA cores.
WITHOUT_MATRIX_INSTRUCTION = (*sass.HELPERS, "CudaCores")

# What 16-bit attention kernels besides these hold, too: ldmatrix for fragments, cp.async for copies.
ATTENTION = ("LDSM", "LDGSTS")


def shown(entry: sass.Entry) -> str:
    text = entry.demangled or entry.name
    return text if len(text) <= 200 else text[:200] + "..."


def instruction_of(label: str, sku: str, arch: str) -> str:
    if re.fullmatch(FLOAT8_BY_MMA_SYNC, label):
        return "QMMA" if arch == "sm_89" else "HMMA"
    return next((i for units, i in OTHERWISE.items() if re.fullmatch(units, label)), PROMISES[sku][0])


def check_unit(unit: sass.Unit) -> list[str]:
    label = unit.label
    _, real, virtual = PROMISES[unit.sku]
    problems = []
    if set(unit.entries) != real:
        problems.append(f"{label}: compiled for {sorted(unit.entries)}, required {sorted(real)}")
    if unit.ptx != virtual:
        problems.append(f"{label}: PTX for {sorted(unit.ptx)}, required {sorted(virtual)}")
    for arch, functions in unit.entries.items():
        instruction = instruction_of(label, unit.sku, arch)
        for entry in functions.values():
            exempt = unit.moves or any(helper in entry.name for helper in WITHOUT_MATRIX_INSTRUCTION)
            streams = "sm80_fmha_" in entry.name and "sm80_fmha_wide_" not in entry.name
            required = (instruction, *ATTENTION) if streams else (instruction,)
            problems += [
                f"{label} {arch}: no {missing} in {shown(entry)}"
                for missing in required
                if not exempt and not entry.instructions[missing]
            ]
    return problems


def measure(functions: dict[str, sass.Entry]) -> dict[str, int]:
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

    units = sass.read_units(arguments.build)
    missing = PROMISES.keys() - {unit.sku for unit in units.values()}
    if missing:
        names = ", ".join(sorted(missing))
        sys.exit(f"audit: {arguments.build} has no units of {names}; build with CUTPLAN_SKUS=all")

    problems: list[str] = []
    measured: dict[str, dict[str, dict[str, int]]] = {}
    cubins = 0
    print(f"{'unit':36}{'arch':8}{'entries':>8}{'matrix':>8}{'regs':>6}{'shared':>8}{'stack':>7}{'local':>7}")
    for label, unit in units.items():
        problems += check_unit(unit)
        measured[label] = {}
        for arch, functions in sorted(unit.entries.items()):
            cubins += 1
            worst = measured[label][arch] = measure(functions)
            matrix = sum(e.instructions[instruction_of(label, unit.sku, arch)] for e in functions.values())
            print(
                f"{label:36}{arch:8}{len(functions):8}{matrix:8}{worst['registers']:6}{worst['shared']:8}"
                f"{worst['stack']:7}{worst['local']:7}"
            )

    libraries = list(arguments.build.rglob("libcutplan.so"))
    if len(libraries) != 1:
        sys.exit(f"audit: one libcutplan.so required under {arguments.build}, found {len(libraries)}")
    shipped = sass.dump(libraries[0], "-lelf").count(".cubin")
    if shipped != cubins:
        problems.append(
            f"libcutplan.so: {cubins} cubins required, one per unit and architecture, found {shipped}"
        )

    if arguments.update:
        BUDGET.write_text(json.dumps(measured, indent=2) + "\n")
        problems += machine_code.write(units.values())
        print(f"recorded in {BUDGET.name} and {machine_code.PAGE.name}")
    else:
        problems += machine_code.check(units.values())
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
