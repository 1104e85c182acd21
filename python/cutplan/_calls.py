"""What is wrong with a call that a function of the native module does not take, in one line."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def refuse(
    function: str, signature: str, is_method: bool, given: tuple[Any, ...], named: Mapping[str, Any]
) -> NoReturn:
    """Raises TypeError. `signature` is that of the stubs; of a method's arguments the first is the object."""
    raise TypeError(f"{function}(): {_explain(signature, given[is_method:], named)}")


def _explain(signature: str, given: Sequence[Any], named: Mapping[str, Any]) -> str:
    definition = ast.parse(re.sub(r"\\=?\d+", "...", signature) + ": ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    places = [x for x in arguments.args if x.arg != "self"]
    known = {x.arg: x.annotation for x in (*places, *arguments.kwonlyargs)}
    if len(given) > len(places):
        rest = ", ".join(x.arg for x in arguments.kwonlyargs[:3])
        more = f"; {rest} and others are given by name" if rest else ""
        return f"at most {len(places)} arguments without a name, got {len(given)}{more}"
    for name in named:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            return f"no argument {name}; " + (
                f"is {near[0]} meant?" if near else f"there are {', '.join(known)}"
            )
    values = {x.arg: value for x, value in zip(places, given, strict=False)}
    for name in values.keys() & named.keys():
        return f"{name} given twice"
    values |= named
    for x in places[: len(places) - len(arguments.defaults)]:
        if x.arg not in values:
            return f"{x.arg}: required, not given"
    for name, value in values.items():
        wanted = ast.unparse(known[name]) if known[name] is not None else "typing.Any"  # type: ignore[arg-type]
        if not any(_takes(part.strip(), value) for part in wanted.split(" | ")):
            got = "None" if value is None else type(value).__name__
            return f"{name}: {_readable(wanted)} required, got {got}"
    return "not of these types: " + ", ".join(
        f"{name} {type(value).__name__}" for name, value in values.items()
    )


def _takes(annotation: str, value: Any) -> bool:
    """Whether it may be what the annotation, no union, stands for: of what has no class anything but None."""
    if value is None or annotation == "None":
        return value is None and annotation in ("None", "typing.Any")
    if annotation in ("int", "float"):
        return hasattr(value, "__index__") or hasattr(value, "__float__")
    if annotation.startswith(("cutplan._typing.", "typing.", "collections.abc.")):
        return True
    return annotation.rsplit(".", 1)[-1] in (base.__name__ for base in type(value).__mro__)


def _readable(annotation: str) -> str:
    """Without the names of modules."""
    return re.sub(r"\b(?:cutplan|_typing|typing)\.", "", annotation).replace(" | ", " or ")
