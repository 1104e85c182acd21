"""Compares the machine code of two build trees, function by function: what a change has left alone.

    python .ci/same_code.py BEFORE AFTER

A function is the same where its instructions are, labels aside, whatever it is called and in whatever unit it
lies. The exit status is 1 where AFTER has code that BEFORE has not.
"""

from __future__ import annotations

import collections
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

Functions = dict[tuple[str, str], str]  # architecture and mangled name: digest of the code


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
            lines.append(_LABEL.sub(number, match[1].replace(name, "")))
    close()
    return found


def read(path: pathlib.Path) -> Functions:
    """Of one object file."""
    found: Functions = {}
    with tempfile.TemporaryDirectory() as folder:
        dump(path, "-xelf", "all", cwd=folder)
        for cubin in pathlib.Path(folder).iterdir():
            listing = subprocess.run(
                [tool("nvdisasm"), "-c", str(cubin)], check=True, capture_output=True, text=True
            ).stdout
            arch = cubin.name.split(".")[-2]
            found |= {(arch, name): code for name, code in functions_of_listing(listing).items()}
    return found


def read_tree(build: pathlib.Path) -> Functions:
    paths = sorted(build.rglob("*.cu.o"))
    if not paths:
        sys.exit(f"{build}: no object file of CUDA code")
    merged: Functions = {}
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        for functions in pool.map(read, paths):
            merged |= functions
    return merged


def main(before: str, after: str) -> int:
    old, new = read_tree(pathlib.Path(before)), read_tree(pathlib.Path(after))
    codes = collections.Counter((arch, code) for (arch, _), code in old.items())
    same = renamed = 0
    other: list[tuple[str, str]] = []
    for (arch, name), code in new.items():
        if old.get((arch, name)) == code:
            same += 1
        elif (arch, code) in codes:
            renamed += 1
        else:
            other.append((arch, name))
    gone = set(old.values()) - set(new.values())
    names = demangle({name for _, name in other})
    for arch, name in sorted(other):
        print(f"{'changed' if (arch, name) in old else 'new':8}{arch:8}{names[name]}")
    print(
        f"{len(new)} functions: {same} the same, {renamed} under another name, {len(other)} with other code; "
        f"{len(gone)} codes of {before} are gone"
    )
    return 1 if other else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
