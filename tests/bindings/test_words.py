"""Errors are in the words of who called: of a function its own operands, of a constructor one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan

# What the caller of a function has nothing to do with.
PLAN_WORDS = re.compile(
    r"\bselect|\bdescriptor|the plan|operand [do]\b|\b[do] at 0x|\bEpilogue|\bd itself|layout r"
)


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)


def frozen(*shape: int) -> np.ndarray:
    x = np.ones(shape, "float32")
    x.flags.writeable = False
    return x


A, B, HALF = ones(4, 4), ones(3, 4, 4), ones(4, 4).half()
GAPS = ones(8, 16)[::2, ::4]  # no dimension is contiguous
OFFSETS = torch.tensor([0, 1, 1, 4], dtype=torch.int32)
Q = ones(1, 2, 4, 8)
GEMM, HOST = cutplan.describe(A, A, A), cutplan.device_properties("cpu")
OUT, LSE = cutplan.attention(Q, Q, Q, return_lse=True)

BAD: list[tuple[str, Callable[..., object], tuple[Any, ...], dict[str, Any], str]] = [
    (
        "a without a run",
        cutplan.matmul,
        (GAPS, A),
        {},
        "operand a: one of its last two dimensions contiguous.*one that is",
    ),
    (
        "b without a run",
        cutplan.matmul,
        (A, GAPS),
        {},
        "operand b: one of its last two dimensions contiguous.*one that is",
    ),
    ("b2 without a run", cutplan.matmul, (A, A), {"b2": GAPS}, "operand b2: .*; pass one that is contiguous"),
    (
        "out without a run",
        cutplan.matmul,
        (A, A),
        {"out": GAPS},
        "operand out: .*; pass one that is contiguous",
    ),
    (
        "a batch of outs",
        cutplan.matmul,
        (B, B),
        {"out": ones(3, 8, 16)[:, ::2, ::4]},
        "operand out: .*one that is contiguous",
    ),
    ("out of another type", cutplan.matmul, (A, A), {"out": A.double()}, "operand out: dtype .* got float64"),
    (
        "another out_dtype",
        cutplan.matmul,
        (A, A),
        {"out_dtype": "float64"},
        "operand out: dtype .* got float64",
    ),
    (
        "out is a",
        cutplan.matmul,
        (A, A),
        {"out": A},
        "operand out: must not share .* operand a, got out at .* and a at",
    ),
    (
        "out is b of a batch",
        cutplan.matmul,
        (B, B),
        {"out": B},
        "operand out: must not share .*memory of its own",
    ),
    (
        "out with stride 0",
        cutplan.matmul,
        (A, A),
        {"out": ones(1, 4).expand(4, 4)},
        "operand out: its elements",
    ),
    ("out read-only", cutplan.matmul, (A, A), {"out": frozen(4, 4)}, "operand out: must be writable"),
    (
        "bias of another type",
        cutplan.matmul,
        (A, A),
        {"bias": ones(4).half()},
        "operand bias: dtype float32 required beside",
    ),
    (
        "bias with gaps",
        cutplan.matmul,
        (A, A),
        {"bias": ones(8)[::2]},
        "operand bias: contiguous required.*one that is contiguous",
    ),
    (
        "bias2 alone",
        cutplan.matmul,
        (A, A),
        {"bias2": ones(4)},
        "operand bias2: bias and b2 required",
    ),
    (
        "bias2 without b2",
        cutplan.matmul,
        (A, A),
        {"bias": ones(4), "bias2": ones(4)},
        "operand bias2: .*leave it out",
    ),
    (
        "b2 and interleaved",
        cutplan.matmul,
        (A, A),
        {"b2": A, "gate": "interleaved"},
        "operand b2: not with gate=",
    ),
    (
        "beta without c",
        cutplan.matmul,
        (A, A),
        {"beta": 1.0},
        "beta: must be 0 without operand c, got 1; pass c",
    ),
    ("two types", cutplan.matmul, (A, HALF), {}, "operands a and b: one element type required"),
    (
        "b of another type, b2",
        cutplan.matmul,
        (A, A),
        {"b2": HALF},
        "operand b2: dtype float32 required, got float16",
    ),
    (
        "gate and column-major out",
        cutplan.matmul,
        (A, A),
        {"b2": A, "out": ones(4, 4).T},
        "operand out: row-major required with gate 'separate', got a column-major one",
    ),
    (
        "grad without a run",
        cutplan.matmul_backward,
        (GAPS, A, A),
        {},
        "operand grad: one of its last two dimensions",
    ),
    (
        "a without a run, back",
        cutplan.matmul_backward,
        (A, GAPS, A),
        {},
        "operand a: one of its last two dimensions",
    ),
    (
        "b without a run, back",
        cutplan.matmul_backward,
        (A, A, GAPS),
        {},
        "operand b: one of its last two dimensions",
    ),
    (
        "gradients of int8",
        cutplan.matmul_backward,
        (A, A, A),
        {"grad_dtype": "int8"},
        "operand da: dtype float32",
    ),
    (
        "a of groups",
        cutplan.grouped_matmul,
        (GAPS, B, OFFSETS),
        {},
        "operand a: .*; pass one that is contiguous",
    ),
    (
        "out of groups",
        cutplan.grouped_matmul,
        (A, B, OFFSETS),
        {"out": A},
        "operand out: must not share .* got out at",
    ),
    (
        "out of groups, gaps",
        cutplan.grouped_matmul,
        (A, B, OFFSETS),
        {"out": GAPS},
        "operand out: .*one that is contiguous",
    ),
    (
        "bias2 of groups",
        cutplan.grouped_matmul,
        (A, B, OFFSETS),
        {"bias2": ones(3, 4)},
        "operand bias2: .*leave it",
    ),
    (
        "offsets of int64",
        cutplan.grouped_matmul,
        (A, B, OFFSETS.long()),
        {},
        "operand offsets: dtype int32 required",
    ),
    (
        "out is q",
        cutplan.attention,
        (Q, Q, Q),
        {"out": Q},
        "operand out: must not share .*got out at .* and q at",
    ),
    (
        "out of bool",
        cutplan.attention,
        (Q, Q, Q),
        {"out": Q.bool()},
        "operand out: dtype float32 required .*got bool",
    ),
    (
        "out_dtype of o",
        cutplan.attention,
        (Q, Q, Q),
        {"out_dtype": "float64"},
        "operand out: dtype .*got float64",
    ),
    (
        "out with gaps",
        cutplan.attention,
        (Q, Q, Q),
        {"out": ones(1, 2, 4, 16)[..., ::2]},
        "operand out: a contiguous",
    ),
    (
        "k of another type",
        cutplan.attention,
        (Q, Q.half(), Q),
        {},
        "operand k: dtype float32 required, got float16",
    ),
    (
        "v shorter than k",
        cutplan.attention,
        (Q, Q, Q[:, :, :2]),
        {},
        r"operand v: shape \[1, 2, 4, 8\].*required, got",
    ),
    (
        "a long head",
        cutplan.attention,
        (ones(1, 1, 2, 300),) * 3,
        {},
        "dim: a head dimension of at most 256 required of q and k",
    ),
    (
        "heads of k",
        cutplan.attention,
        (ones(1, 3, 4, 8), Q, Q),
        {},
        "heads_k: a divisor of heads, 3, required of k and v",
    ),
    ("no k", cutplan.attention, (Q, None, Q), {}, "operand k: required, not given"),
    (
        "one of the offsets",
        cutplan.attention,
        (Q[0], Q[0], Q[0]),
        {"cu_seqlens_q": OFFSETS},
        "operand cu_seqlens_k: req",
    ),
    (
        "grad of another type",
        cutplan.attention_backward,
        (Q.half(), Q, Q, Q, OUT, LSE),
        {},
        "operand grad: dtype float32",
    ),
    (
        "o of another shape",
        cutplan.attention_backward,
        (Q, Q, Q, Q, OUT[:, :1], LSE),
        {},
        "o: shape .* required, got",
    ),
]


@pytest.mark.parametrize(
    ("call", "operands", "options", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_functions_speak_of_their_own_operands(
    call: Callable[..., object], operands: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(cutplan.Error, match=text) as caught:
        call(*operands, **options)
    said = str(caught.value)
    assert "\n" not in said and not PLAN_WORDS.search(said.replace("operand o: shape", "")), said
    assert type(caught.value) is not cutplan.Error


def test_plans_speak_of_theirs() -> None:
    plan = cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=4, n=4, k=4, a="float32"), "cpu")
    with pytest.raises(
        cutplan.DTypeMismatch, match="operand b: .* by the descriptor, .*or select a plan for float16"
    ):
        plan.run(A, HALF, A)
    for fp8 in ("float8_e4m3fn", "float8_e5m2", "int8"):
        raw = cutplan.as_dtype(torch.zeros(4, 4, dtype=torch.uint8), "uint8" if fp8 == "int8" else fp8)
        with pytest.raises(cutplan.DTypeMismatch, match="operand b: .*never casts: convert it$"):
            plan.run(A, raw, A)  # there is no plan for it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_an_additive_mask_goes_to_bias(dtype: torch.dtype) -> None:
    q = Q.to(dtype)
    mask = torch.zeros(4, 4, dtype=dtype).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf)
    for call, operands in (
        (cutplan.attention, (q, q, q)),
        (cutplan.attention_backward, (q, q, q, q, q, torch.zeros(1, 2, 4))),
    ):
        with pytest.raises(
            cutplan.DTypeMismatch, match=r"operand mask: dtype bool .*additive mask .*goes to bias=, as"
        ):
            call(*operands, mask=mask)  # type: ignore[operator]
    o = cutplan.attention(q, q, q, bias=mask)
    assert torch.allclose(o, cutplan.attention(q, q, q, causal="top_left"))
    with pytest.raises(cutplan.DTypeMismatch, match="operand mask: dtype bool .*got int32; .*convert it"):
        cutplan.attention(q, q, q, mask=mask.int())


@pytest.mark.parametrize("bad", [True, 1, "top", "bottom-right", b"top_left", cutplan.Align.top_left])
def test_options_list_the_choices(bad: Any) -> None:
    choices = {
        "causal": r"None, 'top_left', 'bottom_right'",
        "align": r"None, 'bottom_right', 'top_left'",
        "layout": r"'bhsd', 'bshd'",
    }
    for option, names in choices.items():
        if option == "align" and isinstance(bad, cutplan.Align):
            continue
        for more in ({}, {"return_lse": True}):
            with pytest.raises((ValueError, TypeError), match=f"must be one of {names}"):
                cutplan.attention(Q, Q, Q, **{option: bad}, **more)
    for option, names in {
        "activation": "'none', 'relu', 'gelu_erf', 'gelu_tanh', 'silu'",
        "gate": "None, 'separate', 'interleaved'",
        "math": "'fast', 'tf32', 'tf32x3', 'strict'",
    }.items():
        with pytest.raises(ValueError, match=f"{option}: must be one of {names}"):
            cutplan.matmul(A, A, **{option: bad})
    if bad is not True:
        with pytest.raises(ValueError, match="bias: must be one of False, True, 'n', 'm'"):
            cutplan.matmul_backward(A, A, A, bias=bad)


@pytest.mark.parametrize("bad", ["half", "float", None, np.complex64, "\ud800"])
def test_element_types_are_listed(bad: Any) -> None:
    if bad is not None:
        for call in (
            lambda: cutplan.matmul(A, A, out_dtype=bad),
            lambda: cutplan.attention(Q, Q, Q, out_dtype=bad),
            lambda: cutplan.grouped_matmul(A, B, OFFSETS, out_dtype=bad),
        ):
            with pytest.raises(TypeError, match="out_dtype: must be an element type, one of .*float16"):
                call()
        with pytest.raises(TypeError, match="grad_dtype: .* not a valid DType"):
            cutplan.matmul_backward(A, A, A, grad_dtype=bad)
    with pytest.raises(ValueError, match="not a valid DType; must be one of 'float64', 'float32'"):
        cutplan.DType(bad)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: cutplan.GemmDescriptor(m=1, n=1, k=1),
            r"GemmDescriptor\(\): a: required, not given; it is an element",
        ),
        (lambda: cutplan.GemmDescriptor(n=1, k=1, a="float16"), r"m: required, not given; it is an integer"),
        (
            lambda: cutplan.GemmDescriptor(m="1", n=1, k=1, a="float16"),
            r"m: an integer required, got '1' \(str\)",
        ),
        (
            lambda: cutplan.GemmDescriptor(m=1.0, n=1, k=1, a="float16"),
            r"m: an integer required, got 1.0 \(float\)",
        ),
        (
            lambda: cutplan.GemmDescriptor(m=True, n=1, k=1, a="float16"),
            r"m: an integer required, got True \(bool\)",
        ),
        (
            lambda: cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", epilogue={}),
            "epilogue: an Epilogue required, got",
        ),
        (
            lambda: cutplan.GemmDescriptor(m=1, n=1, k=1, a="float16", rows=3),
            "no argument rows; there are m, n, k, a, b",
        ),
        (
            lambda: cutplan.PlanPreference(sm_count=2**40),
            "sm_count: an integer of 32 bits required, got 10995",
        ),
        (
            lambda: cutplan.GemmDescriptor(m=2**64, n=1, k=1, a="float32"),
            r"m: an integer of 64 bits required, got 18446744073709551616 \(int\)",
        ),
        (
            lambda: cutplan.GemmDescriptor(1, 1, 1, "float16"),
            "arguments are given by name, got 4 without one",
        ),
        (lambda: cutplan.GroupedGemmDescriptor(m=1, n=1, k=1, a="float16"), "groups: required, not given"),
        (lambda: cutplan.Epilogue(c="yes"), r"c: True or False required, got 'yes' \(str\)"),
        (
            lambda: cutplan.Epilogue(scale=True),
            r"Epilogue\(\): no argument scale; there are bias, c, residual",
        ),
        (lambda: cutplan.PlanPreference(sm_count=None, kernel=3), "kernel: a string required, got 3"),
        (lambda: cutplan.PlanPreference(max_workspace_bytes=-5), "max_workspace_bytes: at least 0"),
        (lambda: cutplan.PlanPreference(max_workspace_bytes=-1), "max_workspace_bytes: at least 0"),
        (
            lambda: cutplan.GemmDescriptor(m=1, n=1, k=1, dtype="float16"),
            "a: required, not given; it is an element type, .*; given are m, n, k, dtype",
        ),
        (
            lambda: cutplan.matmul(A, A, bias=A[:1]),
            r"bias: shape \[4, 1\] .*along the columns of D it has one dimension.* got \[1, 4\]",
        ),
        (lambda: cutplan.FmhaDescriptor(heads=1, seq_q=1, seq_k=1, dim=8), "dtype: required, not given"),
        (
            lambda: cutplan.FmhaDescriptor(heads=1, seq_q=1, seq_k=1, dim=8, dtype="float16", window=3),
            "window: two int",
        ),
        (
            lambda: cutplan.FmhaDescriptor(heads=1, seq_q=1, seq_k=1, dim=8, dtype="float16", softcap=""),
            "softcap: a num",
        ),
        (lambda: cutplan.FmhaBackwardDescriptor(), "forward: required, not given; it is an FmhaDescriptor"),
        (lambda: cutplan.FmhaBackwardDescriptor(3), "forward: an FmhaDescriptor required, got 3"),
        (lambda: cutplan.FmhaBackwardDescriptor(3, forward=3), "forward given twice"),
        (lambda: cutplan.GemmPlan.select(3, "cpu"), "descriptor: a GemmDescriptor required, got 3"),
        (lambda: cutplan.GemmPlan.select(), "descriptor: a GemmDescriptor required, got None"),
        (
            lambda: cutplan.FmhaPlan.select(cutplan.Epilogue(), "cpu"),
            "descriptor: a FmhaDescriptor required, got Epi",
        ),
        (lambda: plan().run(A, A, A, alpha="2"), r"alpha: a number required, got '2' \(str\)"),
        (lambda: plan().run(A, A, A, beta=[]), r"beta: a number required, got \[\] \(list\)"),
        (lambda: plan().run(A, A), "operand d: required, not given"),
        (lambda: plan().can_implement(), "operand a: required, not given"),
        (lambda: cutplan.describe(A), "operand b: not given"),
        (lambda: cutplan.attention(Q, Q, Q, scale="x"), r"scale: a number required, got 'x'"),
        (lambda: cutplan.attention(Q, Q, Q, dropout_p=0.5), "dropout_p: 0 required without rng_state"),
        (lambda: cutplan.attention(Q, Q, Q, window=4), "window: two integers required, got 4"),
        (lambda: cutplan.attention(Q, Q, Q, softcap="x"), "softcap: a number required, got 'x'"),
        (
            lambda: cutplan.attention(Q, Q, Q, window=(2**63, 0)),
            r"window\[0\]: an integer of 64 bits required",
        ),
        (
            lambda: cutplan.attention(Q, Q, Q, window=(0, 1.0)),
            r"window: two integers required, got \(0, 1.0\)",
        ),
        *(
            (
                lambda pair=pair: cutplan.GemmPlan.select(GEMM, pair),
                r"device: a DLPack pair \(type, id\) of integers of 32 bits required, got \(",
            )
            for pair in (("cpu", 0), (2**40, 0), (1, 0, 0), (True, 0))
        ),
        (
            lambda: cutplan.PlanPreference(kernel="\ud800"),
            r"kernel: a string that UTF-8 can hold required, got '\\ud800'",
        ),
        (
            lambda: cutplan.PlanPreference(kernel=""),
            "kernel: the name of a kernel, or None for any, required",
        ),
        (
            lambda: cutplan.measure_gemm(GEMM, "cpu", candidates=-1),
            r"candidates: at least 0 \(all\) required",
        ),
        (
            lambda: cutplan.measure_fmha(cutplan.describe_attention(Q, Q, Q), "cpu", candidates=-(2**31)),
            "candidates: at least 0",
        ),
        (lambda: cutplan.DeviceProperties(name="\ud800"), r"name: a string that UTF-8 can hold required"),
        (lambda: cutplan.DType("\ud800"), r"'\\ud800' is not a valid DType"),
        (lambda: cutplan.GemmPlan.select(GEMM, "\ud800"), r"device: must be .*, got '\\ud800'"),
        *(
            (
                lambda x=x: cutplan.matmul(A, A, alpha=x),
                r"alpha: a number required, got a tensor \(\w+\); pass float\(x\)",
            )
            for x in (torch.tensor(2.0, requires_grad=True), torch.tensor(2), np.array(2.0))
        ),
        (lambda: cutplan.matmul(A, A, c=A, beta=torch.tensor(2.0)), "beta: a number required, got a tensor"),
        (
            lambda: cutplan.attention(Q, Q, Q, scale=torch.tensor(2.0)),
            "scale: a number required, got a tensor",
        ),
    ],
)
def test_wrong_arguments_take_a_line(call: Callable[[], object], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text) as caught:
        call()
    said = str(caught.value)
    assert "\n" not in said and len(said) < 200 and "incompatible function arguments" not in said


def test_numbers_beyond_floats_are_named() -> None:
    for number in (10**400, -(10**5000)):
        with pytest.raises(OverflowError, match="^alpha: a number that a float holds required"):
            cutplan.matmul(A, A, alpha=number)


@pytest.mark.parametrize(
    "call, text",
    [
        (
            lambda: plan().run(A, A, A, A),
            r"GemmPlan.run\(\): at most 3 arguments without a name, got 4; c, bias, b2 and",
        ),
        (lambda: plan().run(A, A, A, biass=A), r"GemmPlan.run\(\): no argument biass; is bias meant\?"),
        (lambda: plan().run(A, A, A, a=A), r"GemmPlan.run\(\): a given twice"),
        (lambda: plan().can_implement(x=A), r"can_implement\(\): no argument x; there are a, b, d, c, bias"),
        (
            lambda: cutplan.describe(A, A, A, actvation="relu"),
            r"describe\(\): no argument actvation; is activation",
        ),
        (lambda: cutplan.describe_attention(Q, Q, Q, cusal=1), "no argument cusal; is causal meant"),
        (
            lambda: cutplan.GemmPlan.select(GEMM, "cpu", math="strict"),
            "select.*no argument math; there are descriptor",
        ),
        (lambda: plan().precision_guarantee.error_bound(64.0), "error_bound.*exact: required, not given"),
        (lambda: cutplan.gemm_kernels(3, HOST), "gemm_kernels.*descriptor: GemmDescriptor required, got int"),
        (lambda: cutplan.device_properties(), "device_properties.*device: required, not given"),
        (lambda: cutplan.device_properties(None), "device_properties.*device: DeviceLike required, got None"),
        (
            lambda: cutplan.measure_gemm(GEMM, "cpu", "x"),
            r"measure_gemm\(\): preference: PlanPreference or None required, got str",
        ),
        (
            lambda: cutplan.measure_gemm(GEMM, "cpu", candidates="x"),
            "candidates: an integer required, got 'x'",
        ),
        (
            lambda: plan().precision_guarantee.error_bound(1, None),
            "error_bound.*exact: float required, got None",
        ),
        (lambda: cutplan.inspect(A, 3), r"inspect\(\): name: str required, got int"),
    ],
)
def test_calls_that_no_function_takes(call: Callable[[], object], text: str) -> None:
    """In a line, where nanobind has a page of signatures."""
    with pytest.raises(TypeError, match=text) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 220


def test_a_boolean_bias_goes_to_mask() -> None:
    with pytest.raises(
        cutplan.Unsupported, match="operand bias: dtype .*, got bool; a boolean mask goes to mask="
    ):
        cutplan.attention(Q, Q, Q, bias=Q[..., :4] > 0)


def test_no_activation_is_none_too() -> None:
    expected = cutplan.matmul(A, A)
    assert (cutplan.matmul(A, A, activation=None) == expected).all()
    assert cutplan.describe(A, A, A, activation=None) == cutplan.describe(A, A, A)
    offsets = np.array([0, len(A)], np.int32)
    assert (cutplan.grouped_matmul(A, A[None], offsets, activation=None) == expected).all()


def plan() -> cutplan.GemmPlan:
    return cutplan.GemmPlan.select(cutplan.describe(A, A, A), "cpu")


def test_numbers_of_numpy_are_numbers() -> None:
    sizes = {name: np.int64(4) for name in "mnk"}
    assert cutplan.GemmDescriptor(**sizes, a="float32", alignment=np.int32(4)).m == 4
    assert (cutplan.matmul(A, A, alpha=np.float32(0.5)) == 2).all()
    assert cutplan.FmhaDescriptor(
        heads=1, seq_q=1, seq_k=1, dim=8, dtype="float16", window=[3, 0]
    ).window == (3, 0)


def test_everything_prints() -> None:
    shown: list[Any] = [
        cutplan.inspect(A),
        cutplan.as_dtype(torch.zeros(2, 2, dtype=torch.uint8), "int8"),
        cutplan.TensorView(A, shape=(2, 2), strides=(4, 1), offset=1),
        cutplan.device_properties("cpu"),
        *(plan(), plan().sku, plan().precision_guarantee, plan().preference, plan().descriptor),
        *(cutplan.gemm_support()[0], cutplan.fmha_support()[0], cutplan.tuning_cache()),
        *(cutplan.Math.tf32, cutplan.matmul_backward(A, A, A)),
    ]
    for x in shown:
        assert repr(x).startswith((type(x).__name__, "<")) and " object at 0x" not in repr(x), repr(x)
    assert repr(shown[0]) == (
        "TensorInfo(shape=(4, 4), strides=(4, 1), dtype='float32', device='cpu', read_only=False, "
        "framework='torch')"
    )
    assert repr(shown[2]) == "TensorView(Tensor, dtype=None, shape=(2, 2), strides=(4, 1), offset=1)"


FUNCTIONS: list[tuple[Callable[..., object], tuple[Any, ...]]] = [
    (cutplan.matmul, (A, A)),
    (cutplan.matmul, (B, B)),
    (cutplan.grouped_matmul, (A, B, OFFSETS)),
    (cutplan.matmul_backward, (A, A, A)),
    (cutplan.attention, (Q, Q, Q)),
    (cutplan.attention_backward, (Q, Q, Q, Q, OUT, LSE)),
]


@pytest.mark.parametrize("bad", [{"math": "strict"}, [1], "strict", A], ids=["dict", "list", "str", "Tensor"])
def test_a_preference_is_one(bad: Any) -> None:
    for call, operands in FUNCTIONS:
        with pytest.raises(TypeError) as caught:
            call(*operands, preference=bad)
        assert str(caught.value) == (
            f"preference: a PlanPreference or None required, got {type(bad).__name__}; "
            "write it as cutplan.PlanPreference(math='strict')"
        )


def test_an_option_that_is_none_is_its_default() -> None:
    for x, y in ((A, A), (B, B)):
        expected = cutplan.matmul(x, y)
        for option in ("alpha", "math", "deterministic"):
            assert (cutplan.matmul(x, y, **{option: None}) == expected).all()
    options: dict[str, Any] = {"math": None, "preference": cutplan.PlanPreference(math="strict")}
    assert (cutplan.matmul(A, A, **options) == cutplan.matmul(A, A)).all()
    offsets = torch.tensor([0, 1, 1, 4], dtype=torch.int32)
    expected = cutplan.grouped_matmul(A, B, offsets)
    for option in ("alpha", "math", "deterministic"):
        assert (cutplan.grouped_matmul(A, B, offsets, **{option: None}) == expected).all()
    assert cutplan.matmul_backward(A, A, A, bias=None, math=None, deterministic=None).dbias is None

    state = torch.zeros(2, dtype=torch.int64)
    dq = cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE).dq
    assert (cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE, deterministic=None, dbias=None).dq == dq).all()
    assert (cutplan.attention(Q, Q, Q, return_lse=None) == OUT).all()
    for option in ("window", "softcap", "layout", "dropout_p"):
        more: dict[str, Any] = {option: None, **({"rng_state": state} if option == "dropout_p" else {})}
        o, lse = cutplan.attention(Q, Q, Q, return_lse=True, **more)
        assert (o == OUT).all() and (lse == LSE).all()
        assert (cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE, **more).dq == dq).all()
    assert (cutplan.attention(Q, Q, Q, dropout_p=None) == OUT).all()


@pytest.mark.parametrize("bad", ["no", 1, 0, 1.0, LSE, [True]], ids=repr)
def test_flags_are_bools(bad: Any) -> None:
    before = LSE.clone()
    for call, operands in FUNCTIONS:
        if call is not cutplan.attention:
            with pytest.raises(TypeError, match="^deterministic: True or False required, got "):
                call(*operands, deterministic=bad)
    with pytest.raises(TypeError, match="^return_lse: True or False required, got "):
        cutplan.attention(Q, Q, Q, return_lse=bad)
    for option, operand in {"dbias": "bias", "dalibi_slopes": "alibi_slopes", "dsink": "sink"}.items():
        for given in ({}, {operand: ones(2) if operand != "bias" else ones(4, 4)}):
            with pytest.raises(TypeError, match=f"^{option}: True or False required, got "):
                cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE, **given, **{option: bad})
    with pytest.raises(TypeError, match=r"PlanPreference\(\): deterministic: True or False required, got "):
        cutplan.PlanPreference(deterministic=bad)
    assert torch.equal(LSE, before)


def test_bools_of_numpy_are_bools() -> None:
    assert cutplan.PlanPreference(deterministic=np.True_).deterministic is True
    assert len(cutplan.attention(Q, Q, Q, return_lse=np.True_)) == 2
    assert (cutplan.attention(Q, Q, Q, return_lse=np.False_) == OUT).all()
    with pytest.raises(cutplan.InvalidProblem, match="deterministic: not beside preference"):
        cutplan.matmul(A, A, deterministic=np.True_, preference=cutplan.PlanPreference())  # type: ignore[call-overload]
    gradients = cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE, dbias=np.False_)  # type: ignore[arg-type]
    assert gradients.dbias is None
    with pytest.raises(cutplan.MissingOperand, match="operand bias: required by dbias=True"):
        cutplan.attention_backward(Q, Q, Q, Q, OUT, LSE, dbias=np.True_)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [True, False])
def test_a_bool_is_no_operand(bad: bool) -> None:
    of_attention = "bias mask alibi_slopes sink seqused_k cu_seqlens_q cu_seqlens_k rng_state"
    operands = {
        cutplan.matmul: "bias c b2 bias2 residual aux row_scale column_scale out",
        cutplan.grouped_matmul: "bias b2 bias2 row_scale column_scale out",
        cutplan.attention: f"{of_attention} out",
        cutplan.attention_backward: of_attention,
    }
    for call, given in FUNCTIONS:
        for name in operands.get(call, "").split():
            with pytest.raises(cutplan.ExportRefused, match=f"^operand {name}: bool does not speak DLPack"):
                call(*given, **{name: bad})


def test_a_bias_is_not_printed() -> None:
    for bias, name in ((ones(4), "Tensor"), (np.ones(4, "float32"), "ndarray")):
        with pytest.raises(TypeError) as caught:
            cutplan.matmul_backward(A, A, A, bias=bias)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"bias: must be one of False, True, 'n', 'm'; got {name}; dbias does not depend on the bias: "
            "pass bias=True"
        )


TALL, OFFSETS_WANTED = (
    ones(6, 4),
    "operand offsets: shape [4] (groups + 1 offsets, starting with 0 and then the end of each group) "
    "required, got ",
)


@pytest.mark.parametrize(
    ("a", "b", "offsets", "text"),
    [
        (
            *(TALL, ones(4, 5), OFFSETS),
            "operand a: column-major required with a 2-D b, whose groups are over k: pass x.T of a row-major "
            "x; for groups of rows b is [groups, k, n]",
        ),
        (TALL, ones(5, 4).T, OFFSETS, "operand a: column-major required with a 2-D b"),
        (ones(4, 6).T, ones(5, 4).T, OFFSETS, "operand b: row-major required where it is 2-D; pass a contig"),
        (ones(4, 6).T, B, OFFSETS, "operand a: row-major required; pass a contiguous copy"),
        (ones(4, 6).T, ones(3, 5, 4).mT, OFFSETS, "operand a: row-major required; pass a contiguous copy"),
        (
            *(ones(20, 64), ones(3, 48, 64), OFFSETS),
            "operand b: 64 rows required to match the last dimension of a, got 48 (a has shape [20, 64], b "
            "[3, 48, 64]); pass b.mT",
        ),
        (ones(20, 64), ones(3, 48, 32), OFFSETS, "operand b: 64 rows required to match the last dimension"),
        (
            *(ones(20, 6), ones(20, 5), OFFSETS),
            "operand b: 6 rows required to match the last dimension of a, got 20 (a has shape [20, 6], b "
            "[20, 5]); with a 2-D b the groups are over k: pass a.T",
        ),
        *(
            (TALL, B, wrong, f"{OFFSETS_WANTED}[{len(wrong)}]")
            for wrong in (OFFSETS[1:], OFFSETS.repeat(2), OFFSETS[:0])
        ),
    ],
)
def test_groups_in_the_words_of_who_called(
    a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, text: str
) -> None:
    with pytest.raises(cutplan.Error, match=re.escape(text)) as caught:
        cutplan.grouped_matmul(a, b, offsets)
    said = str(caught.value)
    assert "\n" not in said and "over m" not in said and "layout" not in said


@pytest.mark.parametrize("causal", [True, False])
def test_a_bool_for_causal_is_told_its_name(causal: bool) -> None:
    for call, operands in FUNCTIONS[-2:]:
        with pytest.raises(ValueError) as caught:
            call(*operands, causal=causal)
        assert str(caught.value) == (
            f"causal: must be one of None, 'top_left', 'bottom_right'; got {causal}; True of torch's "
            "is_causal is 'top_left', of FlashAttention's causal 'bottom_right'; False is None"
        )
    q, k = ones(1, 1, 2, 8), torch.randn(1, 1, 5, 8)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True)
    assert torch.allclose(cutplan.attention(q, k, k, causal="top_left"), theirs, atol=1e-5)


def test_packed_rows_before_heads_are_told_their_layout() -> None:
    q, k = ones(48, 8, 16), ones(30, 2, 16)
    ends = [torch.tensor([0, 20, rows], dtype=torch.int32) for rows in (48, 30)]
    packed: dict[str, Any] = {"cu_seqlens_q": ends[0], "cu_seqlens_k": ends[0]}
    hint = r"; of operands \[T, H, D\], with rows before heads, pass layout='bshd'$"
    for call, operands in (
        (cutplan.attention, (q, q, q)),
        (cutplan.attention_backward, (q, q, q, q, q, ones(48, 8))),
    ):
        with pytest.raises(cutplan.Error, match="operand cu_seqlens_q: must end with 8, .*got 48" + hint):
            call(*operands, **packed)  # type: ignore[operator]
    packed["cu_seqlens_k"] = ends[1]
    with pytest.raises(cutplan.Error, match="heads_k: a divisor of heads, 48.*" + hint):
        cutplan.attention(q, k, k, **packed)
    o, lse = cutplan.attention(q, k, k, **packed, layout="bshd", return_lse=True)
    assert cutplan.attention_backward(o, q, k, k, o, lse, **packed, layout="bshd").dk.shape == k.shape
    with pytest.raises(cutplan.Error, match="must end with 40, the rows of the packed operand, got 48$"):
        cutplan.attention(q[:40], k, k, **packed, layout="bshd")


def test_a_call_that_raised_is_not_the_last() -> None:
    cutplan.attention(Q, Q, Q)
    kept = cutplan.last_kernels()
    x, q = A.clone(), Q.clone()
    raising: list[Callable[[], object]] = [
        lambda: cutplan.matmul(x, x, out=x),
        lambda: cutplan.matmul(B, B, out=B),
        lambda: cutplan.matmul_backward(A, A, A, grad_dtype="int8"),
        lambda: cutplan.grouped_matmul(x, B, OFFSETS, out=x),
        lambda: cutplan.attention(q, q, q, out=q),
        lambda: cutplan.attention_backward(
            q, q, q, q, OUT, LSE, dropout_p=2.0, rng_state=torch.zeros(2).long()
        ),
    ]
    for call in raising:
        with pytest.raises(cutplan.Error):
            call()
        assert cutplan.last_kernels() == kept
