"""Writes the type stubs of the native module: `stubs.py <file>`.

nanobind's generator takes what carries a module's name to be what the module defines. What the native module
defines carries the public name, cutplan, so the generator is told that name.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

from nanobind.stubgen import ReplacePattern, StubGen

import cutplan._core

# Comparison and hash of values are type slots, which tell no types; object's own declarations serve.
_SLOTS = re.compile(r"\.__(eq|ne|lt|le|gt|ge|hash)__$")


class _Stubs(StubGen):
    """Leaves out the overloads that only refuse."""

    def put_nb_func(self, fn: Any, name: str | None = None, is_classmethod: bool = False) -> None:
        signatures = tuple(s for s in fn.__nb_signature__ if not s[0].endswith("-> typing.NoReturn"))
        if len(signatures) < len(fn.__nb_signature__):
            members = {"__nb_signature__": signatures, "__name__": fn.__name__}
            fn = type(type(fn).__name__, (), members)()  # by whose name the generator tells methods
        super().put_nb_func(fn, name, is_classmethod)


def main() -> None:
    cutplan._core.__name__ = "cutplan"
    generator = _Stubs(cutplan._core, patterns=[ReplacePattern(_SLOTS, [], 0)])
    generator.put(cutplan._core)
    pathlib.Path(sys.argv[1]).write_text(generator.get())


if __name__ == "__main__":
    main()
