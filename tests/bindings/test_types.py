"""What a type checker says of calls: right names pass, wrong ones do not, results are what operands were."""

from __future__ import annotations

import enum
import importlib.util
import pathlib
import re
import subprocess
import sys
import typing

import pytest

import cutplan
from cutplan import _typing
from tests.environment import note_not_run

GOOD = """
from typing import Any, Literal
from typing_extensions import assert_type
import cutplan

class T:
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> Any: ...

x, flag = T(), bool(input())
assert_type(cutplan.matmul(x, x, activation="gelu_erf", math="strict", gate="interleaved"), T)
assert_type(cutplan.matmul(x, x, activation=cutplan.Activation.relu, preference=cutplan.PlanPreference()), T)
assert_type(cutplan.grouped_matmul(x, x, x, activation="silu", deterministic=True), T)
assert_type(cutplan.attention(x, x, x, causal="bottom_right", layout="bshd", align=None), T)
assert_type(cutplan.attention(x, x, x, causal=cutplan.Causal.top_left, return_lse=True), tuple[T, T])
assert_type(cutplan.attention(x, x, x, return_lse=flag), T | tuple[T, T])
cutplan.attention(x, x, x, return_lse=flag, out=x)
cutplan.matmul_backward(x, x, x, bias=True, activation="relu", preference=None)
cutplan.matmul_backward(x, x, x, bias=flag)
cutplan.attention_backward(x, x, x, x, x, x, causal="top_left")
e = cutplan.Epilogue(bias="m", activation="gelu_tanh", aux="store", gate=None)
g = cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", layout="ccc", epilogue=e)
cutplan.GroupedGemmDescriptor(groups=1, m=1, n=1, k=1, a="float16", over="k", layout="crr")
cutplan.FmhaDescriptor(heads=1, seq_q=1, seq_k=1, dim=8, dtype="float16", layout="bhsd", align="top_left")
p = cutplan.PlanPreference(arch="sm90", math="tf32x3", tune="measure")
plan = cutplan.GemmPlan.select(g, "cpu", p)
assert_type(plan.preference, cutplan.PlanPreference)
assert_type(g.epilogue.gate, Literal["separate", "interleaved"] | None)
assert_type(cutplan.inspect(x).device, str)
assert_type(cutplan.last_kernels(), tuple[str, ...])
assert_type(g == g, bool)
hash(g)
cutplan.describe(x, x, x, aux=x, aux_mode="store", activation="relu")
assert_type(plan.precision_guarantee.error_bound(1.0, 2.0), float)
"""

BAD = {
    'cutplan.matmul(x, x, activation="gelu")': "activation",
    'cutplan.matmul(x, x, math="exact")': "math",
    'cutplan.matmul(x, x, gate="glu")': "gate",
    'cutplan.matmul(x, x, preference="fast")': "preference",
    'cutplan.matmul_backward(x, x, x, bias="k")': "bias",
    "cutplan.attention(x, x, x, causal=True)": "causal",
    'cutplan.attention(x, x, x, layout="sbhd")': "layout",
    'cutplan.attention_backward(x, x, x, x, x, x, align="left")': "align",
    'cutplan.grouped_matmul(x, x, x, activation="tanh")': "activation",
    'cutplan.Epilogue(aux="load")': "aux",
    'cutplan.Epilogue(activation="gelu")': "activation",
    'cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", layout="rrx")': "layout",
    'cutplan.GemmDescriptor(m=1, n=1, a="float16")': "k",
    'cutplan.GroupedGemmDescriptor(groups=1, m=1, n=1, k=1, a="float16", over="n")': "over",
    'cutplan.PlanPreference(arch="sm70")': "arch",
    'cutplan.PlanPreference(tune="always")': "tune",
    'cutplan.describe(x, x, aux_mode="keep")': "aux_mode",
}


def check(path: pathlib.Path) -> str:
    """What mypy says of a file."""
    root = pathlib.Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", root / "pyproject.toml", path],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
    )
    return done.stdout + done.stderr


def test_names_are_checked(tmp_path: pathlib.Path) -> None:
    if importlib.util.find_spec("mypy") is None:
        note_not_run("bindings: what mypy says of calls (mypy is not installed)")
        return
    path = tmp_path / "calls.py"
    path.write_text(GOOD + "".join(f"{call}\n" for call in BAD))
    said = [line for line in check(path).splitlines() if ": error: " in line]
    lines = {int(re.search(r":(\d+): error: ", line)[1]): line for line in said}  # type: ignore[index]
    first = GOOD.count("\n") + 1
    assert [number for number in lines if number < first] == [], said
    for number, (call, argument) in enumerate(BAD.items(), first):
        assert number in lines and (f'"{argument}"' in lines[number] or "overload" in lines[number]), call


NAMED = ["Activation", "Align", "Arch", "Causal", "FmhaLayout", "GemmLayout", "Math", "Tune"]


@pytest.mark.parametrize("name", NAMED)
def test_names_are_those_of_the_members(name: str) -> None:
    alias, kind = getattr(_typing, f"{name}Like"), getattr(cutplan, name)
    (literal,) = (x for x in typing.get_args(alias) if typing.get_origin(x) is typing.Literal)
    assert issubclass(kind, enum.Enum)
    assert sorted(typing.get_args(literal)) == sorted(str(member) for member in kind)


def test_names_alone_are_those_that_are_taken() -> None:
    for alias, make in (
        (_typing.AuxLike, lambda x: cutplan.Epilogue(aux=x)),
        (_typing.GateLike, lambda x: cutplan.Epilogue(gate=x)),
        (
            _typing.GroupedOverLike,
            lambda x: cutplan.GroupedGemmDescriptor(groups=1, m=1, n=1, k=1, a="float16", over=x),
        ),
    ):
        with pytest.raises(ValueError) as refused:
            make("nonesuch")
        assert re.findall(r"'(\w+)'", str(refused.value).split(";")[0]) == list(typing.get_args(alias))
