"""Compares the machine code of two build trees, function by function: what a change has left alone.

    python .ci/same_code.py BEFORE AFTER

A function is the same where its instructions are, labels aside, whatever it is called and in whatever unit it
lies. The exit status is 1 where AFTER has code that BEFORE has not.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from sass import demangle, dump, tool

_INSTRUCTION = re.compile(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;")
_LABEL = re.compile(r"\.L_x_\d+")
# In the names of a unit's own functions, to keep units apart: the file's name, digests of where it lies.
_OF_UNIT = re.compile(r"\d+_INTERNAL_[0-9a-f]{8}_\d+_\w+?_cu_[0-9a-f]{8}")

Functions = dict[tuple[str, str, str], str]  # unit, architecture and mangled name: digest of the code


def functions_of_listing(listing: str) -> dict[str, str]:
    """Of nvdisasm -c: a digest of each function's instructions, with labels numbered as they occur."""
    found: dict[str, str] = {}
    name, lines, numbers = "", list[str](), dict[str, str]()

    def close() -> None:
        if name:
            found[name] = hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def number(match: re.Match[str]) -> str:
        return numbers.setdefault(match[0], f"L{len(numbers)}")

    for line in listing.splitlines():
        if line.startswith(".text.") and line.endswith(":"):
            close()
            name, lines, numbers = line[len(".text.") : -1], [], {}
        elif line.startswith(".L_x_"):
            lines.append(_LABEL.sub(number, line))
        elif match := _INSTRUCTION.match(line):
            lines.append(_LABEL.sub(number, _OF_UNIT.sub("", match[1].replace(name, ""))))
    close()
    return found


def read(unit: str, path: pathlib.Path) -> Functions:
    """Of one object file."""
    found: Functions = {}
    with tempfile.TemporaryDirectory() as folder:
        dump(path, "-xelf", "all", cwd=folder)
        for cubin in pathlib.Path(folder).iterdir():
            listing = subprocess.run(
                [tool("nvdisasm"), "-c", str(cubin)], check=True, capture_output=True, text=True
            ).stdout
            arch = cubin.name.split(".")[-2]
            found |= {(unit, arch, name): code for name, code in functions_of_listing(listing).items()}
    return found


def read_tree(build: pathlib.Path) -> Functions:
    paths = sorted(build.rglob("*.cu.o"))
    if not paths:
        sys.exit(f"{build}: no object file of CUDA code")
    units = [path.relative_to(build).as_posix() for path in paths]
    merged: Functions = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for functions in pool.map(read, units, paths):
            merged |= functions
    return merged


def main(before: str, after: str) -> int:
    old, new = read_tree(pathlib.Path(before)), read_tree(pathlib.Path(after))
    codes = {(arch, code) for (_, arch, _), code in old.items()}
    same = elsewhere = 0
    other: list[tuple[str, str, str]] = []
    for function, code in new.items():
        if old.get(function) == code:
            same += 1
        elif (function[1], code) in codes:
            elsewhere += 1
        else:
            other.append(function)
    gone = set(old.values()) - set(new.values())
    names = demangle({name for _, _, name in other})
    for function in sorted(other):
        unit, arch, name = function
        print(f"{'changed' if function in old else 'new':8}{arch:8}{names[name]}  {unit}")
    print(
        f"{len(new)} functions: {same} the same, {elsewhere} in another unit or under another name, "
        f"{len(other)} with other code; {len(gone)} codes of {before} are gone"
    )
    return 1 if other else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
