"""Writes the type stubs of the native module: `stubs.py <file>`.

nanobind's generator takes what carries a module's name to be what the module defines. What the native module
defines carries the public name, cutplan, so the generator is told that name.
"""

from __future__ import annotations

import pathlib
import re
import sys

from nanobind.stubgen import ReplacePattern, StubGen

import cutplan._core

# Comparison and hash of values are type slots, which tell no types; object's own declarations serve.
_SLOTS = re.compile(r"\.__(eq|ne|lt|le|gt|ge|hash)__$")


def main() -> None:
    cutplan._core.__name__ = "cutplan"
    generator = StubGen(cutplan._core, patterns=[ReplacePattern(_SLOTS, [], 0)])
    generator.put(cutplan._core)
    pathlib.Path(sys.argv[1]).write_text(generator.get())


if __name__ == "__main__":
    main()
