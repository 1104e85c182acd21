"""Errors of plans in the words of the function that was called: its operands, and what its caller can do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from . import _core

# What only the caller of a plan can do, or has to know.
_PLAN_WORDS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r" required by the (?:descriptor|plan's layout)", " required"),
        (r", the plan's device,", ""),
        (r", or select a plan for (?:that device|\w+)", ""),
        (r"; select the layout that its strides have, or pass", "; pass"),
        (
            r"(operand (?:a|b|b2|grad|da|db): )row-major \(last dimension contiguous\) with strides >= 0",
            r"\1one of its last two dimensions contiguous, and strides >= 0,",
        ),
        (r"; select with Epilogue\(c=True\) and pass c", "; pass c"),
        (
            r"operand bias2: given, but .*",
            "operand bias2: b and bias, and b2, required beside it; pass these, or leave it out",
        ),
        (
            r"operand b2: given, but .*",
            "operand b2: not with gate='interleaved', whose b holds both; leave one of them out",
        ),
        (
            r"a row-major d required with ('\w+'), got layout \w+; \w+ works",
            r"a row-major result required with \1, got a column-major out or residual; pass row-major ones",
        ),
        (
            r"layout: crr required with groups over k, got r\w\w",
            "operand a: column-major required with a 2-D b, whose groups are over k: pass x.T of a row-major "
            "x; for groups of rows b is [groups, k, n]",
        ),
        (
            r"layout: crr required with groups over k, got cc\w",
            "operand b: row-major required where it is 2-D; pass a contiguous copy",
        ),
        (
            r"layout: rcr or rrr required with groups over m, got c\w\w",
            "operand a: row-major required; pass a contiguous copy",
        ),
        (r"^dim: ", "operands q and k: "),
        (r"^dim_v: ", "operand v: "),
        (r"^heads_k: a divisor of heads, (\d+),", r"operand k: a number of heads that divides q's, \1,"),
    )
]
_OPERAND = re.compile(r"(?<=operand )\w+|\b\w+(?= at 0x)|(?<=be )\w+(?= itself)")


def reword(error: _core.Error, names: Mapping[str, str]) -> None:
    """Changes the text of a plan's error. `names`: what the caller calls the plan's operands."""
    text = str(error)
    for pattern, replacement in _PLAN_WORDS:
        text = pattern.sub(replacement, text)
    if names:
        text = _OPERAND.sub(lambda found: names.get(found[0], found[0]), text)
    error.args = (text,)
