"""Who may include whom, as CONTRIBUTING.md has it: read off every file of the library and the package."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CPP = ROOT / "cpp"
FAMILIES = sorted({header.parent.name for header in (CPP / "src").glob("*/family.hpp")} - {"core"})
FRAMEWORKS = {"torch", "jax", "cupy", "numpy"}

# Headers of others, and the files that may include them.
FOREIGN = {
    r"cutlass/|cute/|cuda_(bf16|fp16|fp8|pipeline)\.h": r"src/.*(\.cuh|\.cu|/sm\d\d/.*)",  # device files
    r"cuda_runtime(_api)?\.h|cuda\.h": r"src/core/(cuda|launch)\.hpp|src/.*(\.cuh|/sm\d\d/.*)",
    r"dlpack/": r"bindings/.*",
    r"nanobind/|Python\.h": r"bindings/.*",
    r"xla/ffi/api/": r"jax/.*",
}


def sources() -> list[pathlib.Path]:
    return sorted(p for p in CPP.rglob("*") if p.suffix in (".hpp", ".cpp", ".cuh", ".cu", ".in"))


def includes(path: pathlib.Path) -> Iterator[tuple[str, bool]]:
    """Of each: what is included, and whether it is one of our own files."""
    for mark, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE):
        yield name, mark == '"'


def architecture(path: str) -> int:
    """A file's: 80 of src/gemm/sm80/gemm.cuh, and of device files elsewhere; 0 of what the host runs."""
    found = re.search(r"\bsm(\d\d)/", path)
    return int(found[1]) if found else 80 if path.endswith((".cuh", ".cu")) else 0


def complaint(place: str, name: str, own: bool) -> str | None:
    """Why the file at `place`, in cpp/, must not include `name`; None: it may."""
    if not own:
        for header, homes in FOREIGN.items():
            if re.match(header, name) and not re.fullmatch(homes, place):
                return f"only {homes} may"
        known = any(re.match(header, name) for header in FOREIGN)
        return None if known or re.fullmatch(r"[a-z_]+(\.h)?|sys/[a-z]+\.h", name) else "a library of others"
    room = name.split("/")[0] if "/" in name else ""
    if place.startswith("include/"):
        return None if room == "cutplan" else "the public headers are the ground that all stands on"
    if place.startswith(("bindings/", "jax/")):
        tables = [f"{family}/operands.hpp" for family in FAMILIES]
        return None if room in ("", "cutplan") or name in ("core/operands.hpp", *tables) else "not a table"
    own_family = place.split("/")[1]
    if room not in {"core", "cutplan", own_family if own_family in FAMILIES else "core"}:
        return f"of {own_family} only that, core and the public headers may be"
    newer = architecture(name) > architecture(place)
    return "what runs on the host, or on older devices, knows nothing of newer ones" if newer else None


@pytest.mark.parametrize(
    ("place", "name", "own"),
    [
        ("src/core/plan.hpp", "gemm/kernel.hpp", True),
        ("src/gemm/choose.cpp", "fmha/kernel.hpp", True),
        ("src/gemm/choose.cpp", "gemm/epilogue.cuh", True),
        ("src/gemm/choose.cpp", "cutlass/cutlass.h", False),
        ("src/fmha/sm80/forward.cuh", "core/sm90/ring.cuh", True),
        ("include/cutplan/plan.hpp", "cuda_runtime.h", False),
        ("bindings/gemm.cpp", "gemm/support.hpp", True),
        ("src/core/tensor.cpp", "dlpack/dlpack.h", False),
        ("bindings/gemm.cpp", "torch/extension.h", False),
        ("src/core/tensor.cpp", "xla/ffi/api/ffi.h", False),
        ("jax/handlers.cpp", "xla/service/custom_call_target.h", False),
        ("jax/problem.hpp", "gemm/support.hpp", True),
    ],
)
def test_the_rules_refuse(place: str, name: str, own: bool) -> None:
    assert complaint(place, name, own)


def test_every_include_keeps_the_rules() -> None:
    found, wrong = 0, []
    for path in sources():
        place = str(path.relative_to(CPP))
        for name, own in includes(path):
            found += 1
            # A template of a header names its family when it is filled in.
            why = complaint(place, name.replace("@family@", "core"), own)
            if why:
                wrong.append(f"{place} includes {name}: {why}")
    assert found > 300 and not wrong, "\n".join(wrong)


def test_the_package_imports_no_framework_by_itself() -> None:
    """At the head of a module none at all; in a function only what the caller has. A package that is named
    after a framework is imported by who wants it, and by nothing here."""
    wrong = []
    for path in sorted((ROOT / "python").rglob("*.py")):
        if path.parent.name in FRAMEWORKS:
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            wrong += [f"{path.name} imports {m}" for m in modules if m.split(".")[0] in FRAMEWORKS]
    assert not wrong, "\n".join(wrong)
