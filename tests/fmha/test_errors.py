"""Bad input, one row each: the error's type and text, untouched outputs, and a next call that works."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from tests.fmha.problems import Case, Problem, generator

B, H, HK, SQ, SK, D, DV = 2, 4, 2, 24, 40, 32, 48
Call = dict[str, Any]

CASE = Case(SQ, SK, D, DV, batch=B, heads=H, heads_k=HK)
PACKED = Case(dim=D, dim_v=DV, heads=H, heads_k=HK, packed=((10, 16), (14, 24)))
FULL = {"alibi": "bh", "bias": "float16", "mask": "bk", "sink": True, "dropout_p": 0.5, "seqused_k": (SK, 7)}


@dataclass(frozen=True)
class Bad:
    """One way to misuse a plan, as a change to the arguments of a good call."""

    name: str
    error: str
    says: tuple[str, ...]  # patterns that the message must all contain
    change: Callable[[Call], Call]
    options: dict[str, Any] = field(default_factory=dict)  # of the case
    packed: bool = False

    @property
    def case(self) -> Case:
        return replace(PACKED if self.packed else CASE, **self.options)


def put(**new: Callable[[Any], Any]) -> Callable[[Call], Call]:
    """Replaces arguments by what the functions make of them."""
    return lambda call: {**call, **{name: make(call.get(name)) for name, make in new.items()}}


def every_second(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x], dim=-1)[..., ::2]


def other_device(x: torch.Tensor) -> torch.Tensor:
    return x.cpu() if x.is_cuda else x.cuda()


def lie_on(outer: str, inner: str) -> Callable[[Call], Call]:
    """`inner` takes the memory of `outer`, as far as it reaches."""

    def change(call: Call) -> Call:
        target, shape = call[outer], call[inner].shape
        strides = [0] * len(shape)
        strides[-1] = 1
        return {**call, inner: target.as_strided(shape, strides).view(call[inner].dtype)}

    return change


BAD_CALLS = [
    # rank and shape
    Bad(
        "q_rank_3",
        "ShapeMismatch",
        ("operand q", rf"\[{B}, {H}, {SQ}, {D}\]", rf"got \[{H}, {SQ}, {D}\]"),
        put(q=lambda x: x[0]),
    ),
    Bad("q_rank_5", "ShapeMismatch", ("operand q", "got"), put(q=lambda x: x[None])),
    Bad(
        "q_heads",
        "ShapeMismatch",
        ("operand q", rf"got \[{B}, {H - 1}, {SQ}, {D}\]"),
        put(q=lambda x: x[:, 1:]),
    ),
    Bad(
        "q_rows",
        "ShapeMismatch",
        ("operand q", rf"got \[{B}, {H}, {SQ - 1}, {D}\]"),
        put(q=lambda x: x[:, :, 1:]),
    ),
    Bad(
        "q_dim",
        "ShapeMismatch",
        ("operand q", rf"got \[{B}, {H}, {SQ}, {D - 8}\]"),
        put(q=lambda x: x[..., 8:]),
    ),
    Bad(
        "q_layout",
        "ShapeMismatch",
        ("operand q", rf"got \[{B}, {SQ}, {H}, {D}\]"),
        put(q=lambda x: x.transpose(1, 2)),
    ),
    Bad(
        "k_heads",
        "ShapeMismatch",
        ("operand k", rf"\[{B}, {HK}, {SK}, {D}\]", rf"got \[{B}, {H}, {SK}, {D}\]"),
        put(k=lambda x: x.repeat(1, 2, 1, 1)),
    ),
    Bad(
        "k_rows",
        "ShapeMismatch",
        ("operand k", rf"got \[{B}, {HK}, {SK - 1}, {D}\]"),
        put(k=lambda x: x[:, :, 1:]),
    ),
    Bad("k_batch", "ShapeMismatch", ("operand k", rf"got \[{B - 1}, "), put(k=lambda x: x[1:])),
    Bad(
        "v_dim",
        "ShapeMismatch",
        ("operand v", rf"\[{B}, {HK}, {SK}, {DV}\]", rf"got \[{B}, {HK}, {SK}, {D}\]"),
        put(v=lambda x: x[..., :D]),
    ),
    Bad(
        "o_rows",
        "ShapeMismatch",
        ("operand o", rf"got \[{B}, {H}, {SQ - 1}, {DV}\]"),
        put(o=lambda x: x[:, :, 1:]),
    ),
    Bad(
        "lse_shape",
        "ShapeMismatch",
        ("operand lse", rf"\[{B}, {H}, {SQ}\]", rf"got \[{B}, {SQ}, {H}\]"),
        put(lse=lambda x: x.transpose(1, 2)),
    ),
    Bad(
        "bias_not_broadcast",
        "ShapeMismatch",
        ("operand bias", rf"\[{B}, {H}, {SQ}, {SK}\]", "got"),
        put(bias=lambda x: x[..., :-1]),
        FULL,
    ),
    Bad(
        "bias_heads",
        "ShapeMismatch",
        ("operand bias", rf"got \[{B}, {H - 1}, "),
        put(bias=lambda x: x[:, 1:]),
        FULL,
    ),
    Bad(
        "mask_not_broadcast", "ShapeMismatch", ("operand mask", "got"), put(mask=lambda x: x[..., :-1]), FULL
    ),
    Bad(
        "slopes_of_key_heads",
        "ShapeMismatch",
        ("operand alibi_slopes", rf"\[{H}\]", rf"got \[{HK}\]"),
        put(alibi_slopes=lambda x: x[0, :HK]),
        FULL,
    ),
    Bad(
        "sink_short",
        "ShapeMismatch",
        ("operand sink", rf"\[{H}\]", rf"got \[{H - 1}\]"),
        put(sink=lambda x: x[1:]),
        FULL,
    ),
    Bad(
        "seqused_short",
        "ShapeMismatch",
        ("operand seqused_k", rf"\[{B}\]", rf"got \[{B - 1}\]"),
        put(seqused_k=lambda x: x[1:]),
        FULL,
    ),
    Bad(
        "rng_state_short",
        "ShapeMismatch",
        ("operand rng_state", r"\[2\]", r"got \[1\]"),
        put(rng_state=lambda x: x[1:]),
        FULL,
    ),
    Bad(
        "cu_seqlens_short",
        "ShapeMismatch",
        ("operand cu_seqlens_q", r"\[3\]", r"got \[2\]"),
        put(cu_seqlens_q=lambda x: x[1:]),
        packed=True,
    ),
    Bad("packed_rank_4", "ShapeMismatch", ("operand q", "got"), put(q=lambda x: x[None]), packed=True),
    # dtype
    Bad(
        "q_dtype",
        "DTypeMismatch",
        ("operand q", "float16 required", "got bfloat16"),
        put(q=lambda x: x.bfloat16()),
    ),
    Bad(
        "k_dtype",
        "DTypeMismatch",
        ("operand k", "float16 required", "got float32"),
        put(k=lambda x: x.float()),
    ),
    Bad("v_integers", "DTypeMismatch", ("operand v", "got int32"), put(v=lambda x: x.int())),
    Bad(
        "o_dtype",
        "DTypeMismatch",
        ("operand o", "float16 required", "got float32"),
        put(o=lambda x: x.float()),
    ),
    Bad(
        "lse_dtype",
        "DTypeMismatch",
        ("operand lse", "float32 required", "got float16"),
        put(lse=lambda x: x.half()),
    ),
    Bad(
        "lse_double",
        "DTypeMismatch",
        ("operand lse", "float32", "got float64"),
        put(lse=lambda x: x.double()),
    ),
    Bad(
        "bias_dtype",
        "DTypeMismatch",
        ("operand bias", "float16 required", "got float32"),
        put(bias=lambda x: x.float()),
        FULL,
    ),
    Bad(
        "mask_dtype",
        "DTypeMismatch",
        ("operand mask", "bool", "got float16"),
        put(mask=lambda x: x.half()),
        FULL,
    ),
    Bad(
        "slopes_dtype",
        "DTypeMismatch",
        ("operand alibi_slopes", "float32 or float16", "got float64"),
        put(alibi_slopes=lambda x: x.double()),
        FULL,
    ),
    Bad(
        "sink_dtype",
        "DTypeMismatch",
        ("operand sink", "float32 or float16", "got float64"),
        put(sink=lambda x: x.double()),
        FULL,
    ),
    Bad(
        "seqused_dtype",
        "DTypeMismatch",
        ("operand seqused_k", "int32", "got int64"),
        put(seqused_k=lambda x: x.long()),
        FULL,
    ),
    Bad(
        "cu_seqlens_dtype",
        "DTypeMismatch",
        ("operand cu_seqlens_k", "int32", "got int64"),
        put(cu_seqlens_k=lambda x: x.long()),
        packed=True,
    ),
    Bad(
        "rng_state_dtype",
        "DTypeMismatch",
        ("operand rng_state", "int64", "got int32"),
        put(rng_state=lambda x: x.int()),
        FULL,
    ),
    # layout
    Bad(
        "q_every_second",
        "LayoutMismatch",
        ("operand q", "contiguous last dimension", "got stride 2"),
        put(q=every_second),
    ),
    Bad("v_transposed", "LayoutMismatch", ("operand v", "contiguous"), put(v=lambda x: x.mT.contiguous().mT)),
    Bad("o_every_second", "LayoutMismatch", ("operand o", "contiguous"), put(o=every_second)),
    Bad("lse_every_second", "LayoutMismatch", ("operand lse",), put(lse=every_second)),
    # presence
    Bad("lse_missing", "MissingOperand", ("operand lse", "required", "not given"), put(lse=lambda x: None)),
    Bad("bias_missing", "MissingOperand", ("operand bias", "not given"), put(bias=lambda x: None), FULL),
    Bad("mask_missing", "MissingOperand", ("operand mask", "not given"), put(mask=lambda x: None), FULL),
    Bad(
        "slopes_missing",
        "MissingOperand",
        ("operand alibi_slopes", "not given"),
        put(alibi_slopes=lambda x: None),
        FULL,
    ),
    Bad("sink_missing", "MissingOperand", ("operand sink", "not given"), put(sink=lambda x: None), FULL),
    Bad(
        "seqused_missing",
        "MissingOperand",
        ("operand seqused_k", "not given"),
        put(seqused_k=lambda x: None),
        FULL,
    ),
    Bad(
        "rng_state_missing",
        "MissingOperand",
        ("operand rng_state", "not given"),
        put(rng_state=lambda x: None),
        FULL,
    ),
    Bad(
        "cu_seqlens_missing",
        "MissingOperand",
        ("operand cu_seqlens_q", "not given"),
        put(cu_seqlens_q=lambda x: None),
        packed=True,
    ),
    Bad(
        "bias_unexpected",
        "MissingOperand",
        ("operand bias", "without"),
        put(bias=lambda x: torch.zeros(1, dtype=torch.float16)),
    ),
    Bad(
        "mask_unexpected",
        "MissingOperand",
        ("operand mask", "without"),
        put(mask=lambda x: torch.zeros(1, dtype=torch.bool)),
    ),
    Bad(
        "slopes_unexpected",
        "MissingOperand",
        ("operand alibi_slopes", "without"),
        put(alibi_slopes=lambda x: torch.zeros(H)),
    ),
    Bad("sink_unexpected", "MissingOperand", ("operand sink", "without"), put(sink=lambda x: torch.zeros(H))),
    Bad(
        "seqused_unexpected",
        "MissingOperand",
        ("operand seqused_k", "without"),
        put(seqused_k=lambda x: torch.zeros(B, dtype=torch.int32)),
    ),
    Bad(
        "cu_seqlens_unexpected",
        "MissingOperand",
        ("operand cu_seqlens_q", "without"),
        put(cu_seqlens_q=lambda x: torch.zeros(B + 1, dtype=torch.int32)),
    ),
    Bad(
        "rng_state_unexpected",
        "MissingOperand",
        ("operand rng_state", "without"),
        put(rng_state=lambda x: torch.zeros(2, dtype=torch.int64)),
    ),
    Bad("q_missing", "MissingOperand", ("operand q",), put(q=lambda x: None)),
    Bad("o_missing", "MissingOperand", ("operand o",), put(o=lambda x: None)),
    # scalars
    Bad("scale_nan", "InvalidProblem", ("scale", "finite", "got nan"), put(scale=lambda x: math.nan)),
    Bad("scale_infinite", "InvalidProblem", ("scale", "finite", "got inf"), put(scale=lambda x: math.inf)),
    Bad(
        "dropout_of_one",
        "InvalidProblem",
        ("dropout_p", "at least 0 and below 1", "got 1"),
        put(dropout_p=lambda x: 1.0),
        FULL,
    ),
    Bad(
        "dropout_below_zero",
        "InvalidProblem",
        ("dropout_p", "at least 0 and below 1", "got -0.1"),
        put(dropout_p=lambda x: -0.1),
        FULL,
    ),
    Bad("dropout_nan", "InvalidProblem", ("dropout_p", "got nan"), put(dropout_p=lambda x: math.nan), FULL),
    Bad(
        "dropout_without",
        "InvalidProblem",
        ("dropout_p", "without|dropout=True"),
        put(dropout_p=lambda x: 0.5),
    ),
    # outputs that may not be written, or not without harm
    Bad("o_on_itself", "Overlap", ("operand o",), put(o=lambda x: x[:, :1].expand(B, H, SQ, DV))),
    Bad("q_on_o", "Overlap", ("operand o", "operand q"), lie_on("o", "q")),
    Bad("k_on_o", "Overlap", ("operand o", "operand k"), lie_on("o", "k")),
    Bad("bias_on_o", "Overlap", ("operand o", "operand bias"), lie_on("o", "bias"), FULL),
    Bad("lse_on_itself", "Overlap", ("operand lse",), put(lse=lambda x: x[:, :1].expand(B, H, SQ))),
    # what the producer will not lend
    Bad(
        "q_requires_grad",
        "ExportRefused",
        ("q", "grad", "detach"),
        put(q=lambda x: x.clone().requires_grad_()),
    ),
    Bad("k_list", "ExportRefused", ("operand k", "list"), put(k=lambda x: [[1.0]])),
]

BAD_BACKWARD_CALLS = [
    Bad(
        "grad_shape",
        "ShapeMismatch",
        ("operand grad", rf"\[{B}, {H}, {SQ}, {DV}\]", "got"),
        put(grad=lambda x: x[..., :D]),
    ),
    Bad(
        "grad_dtype",
        "DTypeMismatch",
        ("operand grad", "float16 required", "got float32"),
        put(grad=lambda x: x.float()),
    ),
    Bad("grad_every_second", "LayoutMismatch", ("operand grad", "contiguous"), put(grad=every_second)),
    Bad("grad_missing", "MissingOperand", ("operand grad",), put(grad=lambda x: None)),
    Bad("o_shape", "ShapeMismatch", ("operand o", "got"), put(o=lambda x: x[:, 1:])),
    Bad("o_missing", "MissingOperand", ("operand o",), put(o=lambda x: None)),
    Bad("lse_missing", "MissingOperand", ("operand lse",), put(lse=lambda x: None)),
    Bad(
        "lse_dtype",
        "DTypeMismatch",
        ("operand lse", "float32 required", "got float64"),
        put(lse=lambda x: x.double()),
    ),
    Bad("dq_shape", "ShapeMismatch", ("operand dq", "got"), put(dq=lambda x: x[..., 8:])),
    Bad(
        "dk_heads",
        "ShapeMismatch",
        ("operand dk", rf"\[{B}, {HK}, {SK}, {D}\]", "got"),
        put(dk=lambda x: x.repeat(1, 2, 1, 1)),
    ),
    Bad(
        "dv_dtype",
        "DTypeMismatch",
        ("operand dv", "float16 required", "got bfloat16"),
        put(dv=lambda x: x.view(torch.bfloat16)),
    ),
    Bad("dq_missing", "MissingOperand", ("operand dq",), put(dq=lambda x: None)),
    Bad("dk_on_itself", "Overlap", ("operand dk",), put(dk=lambda x: x[:, :1].expand(x.shape))),
    Bad("k_on_dk", "Overlap", ("operand dk", "operand k"), lambda call: {**call, "k": call["dk"]}),
    Bad("dq_on_grad", "Overlap", ("operand dq", "operand grad"), lie_on("dq", "grad")),
    Bad(
        "dk_on_dv",
        "Overlap",
        ("operand dk", "operand dv"),
        lambda call: {**call, "dv": call["dk"]},
        {"dim_v": D},
    ),
    Bad("dbias_shape", "ShapeMismatch", ("operand dbias", "got"), put(dbias=lambda x: x[..., 1:]), FULL),
    Bad(
        "dbias_dtype",
        "DTypeMismatch",
        ("operand dbias", "float16 required", "got float32"),
        put(dbias=lambda x: x.float()),
        FULL,
    ),
    Bad("dbias_missing", "MissingOperand", ("operand dbias", "not given"), put(dbias=lambda x: None), FULL),
    Bad(
        "dslopes_shape",
        "ShapeMismatch",
        ("operand dalibi_slopes", "got"),
        put(dalibi_slopes=lambda x: x[0]),
        FULL,
    ),
    Bad(
        "dslopes_missing",
        "MissingOperand",
        ("operand dalibi_slopes", "not given"),
        put(dalibi_slopes=lambda x: None),
        FULL,
    ),
    Bad(
        "dsink_dtype",
        "DTypeMismatch",
        ("operand dsink", "float32 or float16 required", "got float64"),
        put(dsink=lambda x: x.double()),
        FULL,
    ),
    Bad("dsink_missing", "MissingOperand", ("operand dsink", "not given"), put(dsink=lambda x: None), FULL),
    Bad(
        "dbias_unexpected",
        "MissingOperand",
        ("operand dbias", "without"),
        put(dbias=lambda x: torch.zeros(1, dtype=torch.float16)),
    ),
    Bad(
        "dsink_unexpected",
        "MissingOperand",
        ("operand dsink", "without"),
        put(dsink=lambda x: torch.zeros(H)),
    ),
    Bad("bias_missing", "MissingOperand", ("operand bias", "not given"), put(bias=lambda x: None), FULL),
    Bad(
        "cu_seqlens_missing",
        "MissingOperand",
        ("operand cu_seqlens_k", "not given"),
        put(cu_seqlens_k=lambda x: None),
        packed=True,
    ),
    Bad(
        "dropout_of_one",
        "InvalidProblem",
        ("dropout_p", "at least 0 and below 1", "got 1"),
        put(dropout_p=lambda x: 1.0),
        FULL,
    ),
    Bad(
        "dq_requires_grad",
        "ExportRefused",
        ("dq", "grad"),
        put(dq=lambda x: torch.zeros_like(x).requires_grad_()),
    ),
]

FORWARD_ORDER = ("q", "k", "v", "o")
BACKWARD_ORDER = ("grad", "q", "k", "v", "o", "lse", "dq", "dk", "dv")


def refused(bad: Bad, device: str, seed: int, backward: bool) -> None:
    problem = Problem(bad.case, device, generator(device, seed))
    plan = problem.select_backward() if backward else problem.select()
    outputs = problem.outputs(plan)
    call: Call = {"q": problem.q, "k": problem.k, "v": problem.v, **problem.options}
    call |= {name: memory.view for name, memory in outputs.items()}
    if backward:
        call |= {"grad": problem.grad, "o": problem.given[0], "lse": problem.given[1]}
    scratch = torch.empty(plan.workspace_size + 1, dtype=torch.uint8, device=device)
    for entrance, extra in ((plan.run, {"workspace": scratch}), (plan.can_implement, {})):
        changed = bad.change(call)
        for name, value in changed.items():
            if isinstance(value, torch.Tensor) and value.device.type != device and "device" not in bad.name:
                changed[name] = value.to(device)
        order = BACKWARD_ORDER if backward else FORWARD_ORDER
        main = [changed.pop(name) for name in order]
        with pytest.raises(getattr(cutplan, bad.error)) as caught:
            entrance(*main, **changed, **extra)
        assert type(caught.value) is getattr(cutplan, bad.error), str(caught.value)
        message = str(caught.value)
        for pattern in bad.says:
            assert re.search(pattern, message), f"{pattern!r} not in {message!r}"
    assert not any(memory.touched() for memory in outputs.values()), "an output was written"
    assert problem.complaint(plan) is None, "the next call is wrong"


@pytest.mark.parametrize("bad", BAD_CALLS, ids=lambda bad: bad.name)
def test_bad_call(bad: Bad, device: str, seed: int) -> None:
    refused(bad, device, seed, backward=False)


@pytest.mark.parametrize("bad", BAD_BACKWARD_CALLS, ids=lambda bad: bad.name)
def test_bad_backward_call(bad: Bad, device: str, seed: int) -> None:
    refused(bad, device, seed, backward=True)


@pytest.mark.cuda
@pytest.mark.parametrize(
    "operand", ["q", "k", "v", "o", "lse", "bias", "mask", "sink", "seqused_k", "rng_state"]
)
def test_wrong_device(operand: str, device: str, seed: int) -> None:
    kind = "cpu" if device == "cuda" else "cuda"
    says = (f"operand {operand}", f"must be on {device}", f"got {kind}")
    bad = Bad("device", "DeviceMismatch", says, put(**{operand: other_device}), FULL)
    refused(bad, device, seed, backward=False)
    if operand != "o":
        refused(bad, device, seed, backward=True)


@pytest.mark.parametrize(
    "lengths, says",
    [
        ([0, 20, 10], "decreas|order"),
        ([1, 10, 24], "0"),
        ([0, 10, 25], "24"),
        ([0, 10, 23], "24"),
        ([0, -1, 24], "-1"),
    ],
    ids=str,
)
def test_lengths_on_the_host_are_checked(lengths: list[int], says: str, seed: int) -> None:
    problem = Problem(PACKED, "cpu", generator("cpu", seed))
    for plan in (problem.select(), problem.select_backward()):
        outputs = problem.outputs(plan)
        assert problem.complaint(plan) is None
        right = problem.cu_seqlens_q.clone()
        problem.cu_seqlens_q.copy_(torch.tensor(lengths))
        with pytest.raises(cutplan.InvalidProblem, match=f"operand cu_seqlens_q.*({says})"):
            problem.enqueue(plan, outputs)
        problem.cu_seqlens_q.copy_(right)
        assert not any(memory.touched() for memory in outputs.values())


@pytest.mark.parametrize("used", [[-1, 3], [0, SK + 1]], ids=str)
def test_used_lengths_on_the_host_are_checked(used: list[int], seed: int) -> None:
    case = Case(SQ, SK, D, batch=B, heads=H, seqused_k=(3, 4))
    problem = Problem(case, "cpu", generator("cpu", seed))
    for plan in (problem.select(), problem.select_backward()):
        outputs = problem.outputs(plan)
        assert problem.complaint(plan) is None
        problem.seqused_k.copy_(torch.tensor(used))
        with pytest.raises(cutplan.InvalidProblem, match=rf"operand seqused_k.*from 0 to {SK}.*got"):
            problem.enqueue(plan, outputs)
        problem.seqused_k.copy_(torch.tensor(case.seqused_k))
        assert not any(memory.touched() for memory in outputs.values())


@pytest.mark.cuda
def test_lengths_on_the_card_are_clamped(seed: int) -> None:
    """Whatever they hold, nothing outside the operands is read or written."""
    for lengths in ([0, 20, 10], [-5, 10, 24], [0, 10, 1000], [7, 3, -2], [2**31 - 1] * 3):
        problem = Problem(PACKED, "cuda", generator("cuda", seed))
        o_and_lse = problem.given
        problem.cu_seqlens_q.copy_(torch.tensor(lengths))
        problem.cu_seqlens_k.copy_(torch.tensor(lengths))
        for plan in (problem.select(), problem.select_backward()):
            outputs = problem.outputs(plan)
            how = {} if "o" in outputs else {"given": o_and_lse}
            problem.enqueue(plan, outputs, **how)
            torch.cuda.synchronize()
            assert [memory.stray_write() for memory in outputs.values()] == [None] * len(outputs), lengths
    problem = Problem(Case(SQ, SK, D, seqused_k=(SK, SK)), "cuda", generator("cuda", seed))
    problem.seqused_k.copy_(torch.tensor([-3, SK + 9]))
    plan = problem.select()
    written = problem.run(plan)
    assert not written["o"][1].isnan().any() and (written["lse"][0] == -torch.inf).all()


def test_read_only_output(seed: int) -> None:
    q, k, v = (np.random.default_rng(seed).standard_normal((1, 1, 5, 4)) for _ in range(3))
    o = np.full((1, 1, 5, 4), 7.0)
    o.flags.writeable = False
    plan = cutplan.FmhaPlan.select(
        cutplan.FmhaDescriptor(heads=1, seq_q=5, seq_k=5, dim=4, dtype="float64"), "cpu"
    )
    with pytest.raises(cutplan.ReadOnly, match="operand o.*read-only"):
        plan.run(q, k, v, o)
    assert (o == 7).all()


def test_workspace_is_checked(device: str, seed: int) -> None:
    problem = Problem(Case(100, 100), device, generator(device, seed))
    for plan in (problem.select(), problem.select_backward(), problem.select_backward(deterministic=True)):
        size = plan.workspace_size
        if size == 0:
            assert problem.complaint(plan) is None
            continue
        outputs = problem.outputs(plan)
        room = torch.empty(size + 512, dtype=torch.uint8, device=device)
        room = room[-room.data_ptr() % 256 :]
        for workspace, got in ((None, 0), (room[: size - 1], size - 1), (room[:0], 0)):
            with pytest.raises(cutplan.WorkspaceTooSmall, match=rf"{size} bytes required.*got {got}"):
                problem.enqueue(plan, outputs, workspace=workspace)
        for late in (1, 16, 128):
            with pytest.raises(cutplan.WorkspaceTooSmall, match=f"multiple of 256.*{late} "):
                problem.enqueue(plan, outputs, workspace=room[late : late + size])
        assert not any(memory.touched() for memory in outputs.values())
        assert problem.complaint(plan) is None


def select(
    device: str, preference: dict[str, Any] | None = None, backward: bool = False, **descriptor: Any
) -> Any:
    fields = {"heads": 4, "seq_q": SQ, "seq_k": SK, "dim": D, "dtype": "float16", **descriptor}
    wanted = cutplan.PlanPreference(**(preference or {}))
    forward = cutplan.FmhaDescriptor(**fields)
    if backward:
        return cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward), device, wanted)
    return cutplan.FmhaPlan.select(forward, device, wanted)


@pytest.mark.parametrize(
    "error, says, descriptor",
    [
        ("InvalidProblem", ("batch", ">= 0 required", "got -1"), {"batch": -1}),
        ("InvalidProblem", ("heads", "got -1"), {"heads": -1}),
        ("InvalidProblem", ("heads_k", "4", "got 3"), {"heads_k": 3}),
        ("InvalidProblem", ("heads_k", "got 8"), {"heads_k": 8}),
        ("InvalidProblem", ("seq_q", ">= 0 required", "got -5"), {"seq_q": -5}),
        ("InvalidProblem", ("seq_k", ">= 0 required", "got -5"), {"seq_k": -5}),
        ("Unsupported", ("dim", "256", "got 257"), {"dim": 257}),
        ("Unsupported", ("dim_v", "256", "got 300"), {"dim_v": 300}),
        ("InvalidProblem", ("dim", "got 0"), {"dim": 0}),
        ("InvalidProblem", ("dim", "got -8"), {"dim": -8}),
        ("InvalidProblem", ("window", "-1", "got -2 to the left"), {"window": (-2, 3)}),
        ("InvalidProblem", ("window", "-1", "got -7 to the right"), {"window": (3, -7)}),
        ("InvalidProblem", ("softcap", "got -1"), {"softcap": -1.0}),
        ("InvalidProblem", ("softcap", "got nan"), {"softcap": math.nan}),
        ("InvalidProblem", ("softcap", "got inf"), {"softcap": math.inf}),
        ("Unsupported", ("int8",), {"dtype": "int8"}),
        ("Unsupported", ("bias", "packed"), {"varlen": True, "bias": "float16"}),
        ("Unsupported", ("mask", "packed"), {"varlen": True, "mask": True}),
        ("Unsupported", ("operand o", "float16 or float32", "got bfloat16"), {"o": "bfloat16"}),
        ("Unsupported", ("bias", "float16 or float32", "got int32"), {"bias": "int32"}),
    ],
    ids=lambda x: str(x)[:40],
)
def test_bad_descriptor(error: str, says: tuple[str, ...], descriptor: dict[str, Any], device: str) -> None:
    for backward in (False, True):
        with pytest.raises(getattr(cutplan, error)) as caught:
            select(device, backward=backward, **descriptor)
        assert type(caught.value) is getattr(cutplan, error), str(caught.value)
        for pattern in says:
            assert re.search(pattern, str(caught.value)), f"{pattern!r} not in {str(caught.value)!r}"
    assert select(device).sku.name


def test_bad_backward_descriptor(device: str) -> None:
    forward = cutplan.FmhaDescriptor(heads=4, seq_q=SQ, seq_k=SK, dim=D, dtype="float16")
    for asked, says in (
        ({"dbias": True}, "dbias.*bias"),
        ({"dalibi_slopes": True}, "dalibi_slopes.*alibi"),
        ({"dsink": True}, "dsink.*sink"),
    ):
        with pytest.raises(cutplan.InvalidProblem, match=says):
            cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward, **asked), device)
    with pytest.raises(cutplan.Unsupported, match="dq, dk and dv.*float16 or float32.*got bfloat16"):
        cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward, grad="bfloat16"), device)


def test_bad_preference(device: str) -> None:
    for backward in (False, True):
        with pytest.raises(cutplan.Unsupported, match='holds no kernel "fmha.nonsense".*fmha_registry'):
            select(device, {"kernel": "fmha.nonsense"}, backward)
        with pytest.raises(cutplan.InvalidProblem, match="sm_count.*got -1"):
            select(device, {"sm_count": -1}, backward)
        with pytest.raises(cutplan.Unsupported, match="host|architecture"):
            select(device, {"arch": "sm90" if device == "cpu" else "host"}, backward)
    with pytest.raises(ValueError, match="math.*'tf32x3'.*'bf16'"):
        select(device, {"math": "bf16"})
    name = select(device, backward=True).sku.name
    with pytest.raises(cutplan.Unsupported, match="backward"):
        select(device, {"kernel": name})


def test_bad_names() -> None:
    fields = {"heads": 1, "seq_q": 1, "seq_k": 1, "dim": 8}
    with pytest.raises(TypeError, match="^dtype: .*float16.*'float17'"):
        cutplan.FmhaDescriptor(**fields, dtype="float17")
    with pytest.raises(ValueError, match="^layout: .*'bhsd'.*'bsdh'"):
        cutplan.FmhaDescriptor(**fields, dtype="float16", layout="bsdh")
    with pytest.raises(ValueError, match="^causal: .*'top_left'.*'upper'"):
        cutplan.FmhaDescriptor(**fields, dtype="float16", causal="upper")
    with pytest.raises((TypeError, ValueError), match="causal.*'top_left'"):
        cutplan.FmhaDescriptor(**fields, dtype="float16", causal=True)
    with pytest.raises(ValueError, match="^align: .*'bottom_right'.*'left'"):
        cutplan.FmhaDescriptor(**fields, dtype="float16", align="left")
    with pytest.raises(cutplan.InvalidProblem, match="align.*causal"):
        cutplan.FmhaDescriptor(**fields, dtype="float16", causal="top_left", align="bottom_right")


# ---- the functional face


def tensors(device: str = "cpu") -> list[torch.Tensor]:
    source = generator(device, 7)
    shapes = ((B, H, SQ, D), (B, HK, SK, D), (B, HK, SK, DV))
    return [torch.randn(shape, generator=source, device=device).half() for shape in shapes]


@pytest.mark.parametrize(
    "error, says, options",
    [
        ("InvalidProblem", "align.*causal", {"causal": "top_left", "align": "bottom_right"}),
        ("InvalidProblem", "window.*-1", {"window": (-3, 0)}),
        (
            "InvalidProblem",
            "dropout_p.*below 1 required.*got 1",
            {"dropout_p": 1.0, "rng_state": torch.zeros(2, dtype=torch.int64)},
        ),
        ("MissingOperand|InvalidProblem", "rng_state.*dropout_p|dropout_p.*rng_state", {"dropout_p": 0.5}),
        ("MissingOperand|ShapeMismatch", "cu_seqlens_k", {"cu_seqlens_q": torch.zeros(2, dtype=torch.int32)}),
        ("ShapeMismatch", "operand bias", {"bias": torch.zeros(3, SK, dtype=torch.float16)}),
        (
            "DTypeMismatch|Unsupported",
            "bias.*got float64",
            {"bias": torch.zeros(SQ, SK, dtype=torch.float64)},
        ),
        ("DTypeMismatch", "operand mask.*got int32", {"mask": torch.zeros(SQ, SK, dtype=torch.int32)}),
        ("ShapeMismatch", "operand sink", {"sink": torch.zeros(3)}),
        ("ShapeMismatch", "operand (o|out):", {"out": torch.zeros(B, H, SQ, D, dtype=torch.float16)}),
        ("Unsupported|DTypeMismatch", "operand o|out_dtype", {"out_dtype": "bfloat16"}),
    ],
    ids=lambda x: str(x)[:30] if isinstance(x, str) else "",
)
def test_attention_refuses(error: str, says: str, options: dict[str, Any]) -> None:
    q, k, v = tensors()
    with pytest.raises(cutplan.Error, match=says) as caught:
        cutplan.attention(q, k, v, **options)
    assert type(caught.value).__name__ in error.split("|"), repr(caught.value)
    if set(options) & {"out", "out_dtype"}:
        return
    o, lse = cutplan.attention(q, k, v, return_lse=True)
    with pytest.raises(cutplan.Error, match=says) as caught:
        cutplan.attention_backward(o, q, k, v, o, lse, **options)
    assert type(caught.value).__name__ in error.split("|"), repr(caught.value)


def test_attention_refuses_bad_names() -> None:
    q, k, v = tensors()
    with pytest.raises(ValueError, match="causal.*'top_left'.*'lower'"):
        cutplan.attention(q, k, v, causal="lower")
    with pytest.raises((TypeError, ValueError), match="causal"):
        cutplan.attention(q, k, v, causal=True)
    with pytest.raises(ValueError, match="layout.*'bhsd'.*'sbhd'"):
        cutplan.attention(q, k, v, layout="sbhd")


def test_attention_refuses_shapes() -> None:
    q, k, v = tensors()
    for operand, changed in (
        ("q", (q[0], k, v)),
        ("k", (q, k[..., :8], v)),
        ("v", (q, k, v[:, :, 1:])),
        ("k|heads_k", (q[:, :3], k, v)),
        ("k", (q, k[:1], v)),
    ):
        with pytest.raises((cutplan.ShapeMismatch, cutplan.InvalidProblem), match=operand):
            cutplan.attention(*changed)
    o, lse = cutplan.attention(q, k, v, return_lse=True)
    for operand, grad, o_given, lse_given in (
        ("grad", o[..., :8], o, lse),
        ("o", o, o[:, :, 1:], lse),
        ("lse", o, o, lse[..., 1:]),
    ):
        with pytest.raises(cutplan.ShapeMismatch, match=f"operand {operand}"):
            cutplan.attention_backward(grad, q, k, v, o_given, lse_given)
    with pytest.raises((cutplan.MissingOperand, cutplan.InvalidProblem), match="bias"):
        cutplan.attention_backward(o, q, k, v, o, lse, dbias=True)
