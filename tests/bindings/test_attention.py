"""cutplan.attention and attention_backward: every library, layouts, outputs, options, and what is refused."""

from __future__ import annotations

import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from cutplan import _core
from tests.bindings.conftest import LIBRARIES, Library, random_array

B, H, HK, SQ, SK, D, DV = 2, 4, 2, 9, 13, 8, 16

FLOATS = {"float16", "bfloat16", "float32", "float64"}
# JAX on the GPU has no outputs to allocate.
WITH_OUTPUTS = [x for x in LIBRARIES if not (x.immutable and x.device != "cpu") and FLOATS & set(x.dtypes)]
every_library = pytest.mark.parametrize("library", WITH_OUTPUTS, ids=lambda x: x.id)


def operands(rng: np.random.Generator, dtype: str) -> list[np.ndarray]:
    shapes = ((B, H, SQ, D), (B, HK, SK, D), (B, HK, SK, DV))
    return [random_array(rng, shape, dtype) for shape in shapes]


def exact(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """o, lse, the magnitude of o and the size of the scores, in float64; causal is bottom-right."""
    q, k, v = (x.astype("float64") for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
    scale = q.shape[-1] ** -0.5
    scores = scale * q @ k.swapaxes(-1, -2)
    size = (scale * np.abs(q) @ np.abs(k).swapaxes(-1, -2)).max(-1, keepdims=True)
    if causal:
        i, j = np.arange(q.shape[2])[:, None], np.arange(k.shape[2])
        scores = np.where(j <= i + k.shape[2] - q.shape[2], scores, -np.inf)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    p = weights / total
    return p @ v, (highest + np.log(total))[..., 0], p @ np.abs(v), size


def close(o: np.ndarray, expected: tuple[np.ndarray, ...], plan: cutplan.FmhaPlan) -> bool:
    """Every element within the plan's own bound, and the reference's roundings."""
    value, _, magnitude, size = expected
    bound = plan.precision_guarantee.error_bound(magnitude, value, size)
    return bool((np.abs(o - value) <= bound + 2.0**-48 * (1 + size) * magnitude).all())


@every_library
def test_every_library_and_type(library: Library, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known = FLOATS & set(library.dtypes)
    for dtype in sorted(known):
        q, k, v = operands(rng, dtype)
        expected = exact(q, k, v, causal=True)
        o, lse = cutplan.attention(
            library.make(q), library.make(k), library.make(v), causal="bottom_right", return_lse=True
        )
        infos = cutplan.inspect(o), cutplan.inspect(lse)
        own = "numpy" if library.name == "ml_dtypes" else library.name
        assert [x.framework for x in infos] == [own, own]
        assert [str(x.dtype) for x in infos] == [dtype, "float32"]
        assert [x.shape for x in infos] == [(B, H, SQ, DV), (B, H, SQ)]
        plan = cutplan.FmhaPlan.select(
            cutplan.describe_attention(q, k, v, causal="bottom_right"), library.device
        )
        assert close(library.numpy(o), expected, plan)
        assert np.abs(library.numpy(lse) - expected[1]).max() < 1e-3


@every_library
def test_gradients_of_every_library(library: Library, seed: int) -> None:
    rng = np.random.default_rng(seed)
    dtype = next(x for x in ("float64", "float32", "float16", "bfloat16") if x in library.dtypes)
    q, k, v = operands(rng, dtype)
    grad = random_array(rng, (B, H, SQ, DV), dtype)
    leaves = [torch.from_numpy(x.astype("float64")).requires_grad_() for x in (q, k, v)]
    wide = torch.nn.functional.scaled_dot_product_attention(*leaves, enable_gqa=True)
    wanted = torch.autograd.grad(wide, leaves, torch.from_numpy(grad.astype("float64")))
    made = [library.make(x) for x in (q, k, v, grad)]
    o, lse = cutplan.attention(*made[:3], return_lse=True)
    gradients = cutplan.attention_backward(made[3], *made[:3], o, lse)
    assert gradients[3:] == (None, None, None)
    for got, reference, like in zip(gradients, wanted, made, strict=False):
        assert cutplan.inspect(got).dtype == cutplan.inspect(like).dtype
        assert cutplan.inspect(got).framework == cutplan.inspect(like).framework
        scale = float(reference.abs().max())
        error = np.abs(library.numpy(got) - reference.numpy()).max() / scale
        assert error < (0.1 if dtype in ("float16", "bfloat16") else 1e-4)


def test_layouts_are_the_same_numbers(device: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    q, k, v = (
        torch.randn(s, dtype=torch.float16, device=device)
        for s in ((B, H, SQ, D), (B, HK, SK, D), (B, HK, SK, DV))
    )
    grad = torch.randn(B, H, SQ, DV, dtype=torch.float16, device=device)
    plain, plain_lse = cutplan.attention(q, k, v, return_lse=True)
    turned = [x.transpose(1, 2).contiguous() for x in (q, k, v, grad)]
    o, lse = cutplan.attention(*turned[:3], layout="bshd", return_lse=True)
    assert o.shape == (B, SQ, H, DV) and lse.shape == (B, H, SQ)
    assert torch.equal(o.transpose(1, 2), plain) and torch.equal(lse, plain_lse)
    options: dict[str, Any] = {"deterministic": True}
    one = cutplan.attention_backward(grad, q, k, v, plain, plain_lse, **options)
    other = cutplan.attention_backward(turned[3], *turned[:3], o, lse, layout="bshd", **options)
    for x, y in zip(one[:3], other[:3], strict=True):
        assert torch.equal(x, y.transpose(1, 2))


def test_sequences_one_after_the_other(device: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    lengths_q, lengths_k = (3, 0, 9), (5, 4, 13)
    offsets = [
        torch.tensor([0, *itertools.accumulate(x)], dtype=torch.int32, device=device)
        for x in (lengths_q, lengths_k)
    ]
    q, k, v = (
        torch.randn(h, sum(n), D, dtype=torch.float16, device=device)
        for h, n in ((H, lengths_q), (HK, lengths_k), (HK, lengths_k))
    )
    o, lse = cutplan.attention(
        q, k, v, cu_seqlens_q=offsets[0], cu_seqlens_k=offsets[1], causal="bottom_right", return_lse=True
    )
    assert o.shape == (H, sum(lengths_q), D) and lse.shape == (H, sum(lengths_q))
    for of_q, of_k in zip(
        itertools.pairwise(offsets[0].tolist()), itertools.pairwise(offsets[1].tolist()), strict=True
    ):
        one = cutplan.attention(
            q[None, :, slice(*of_q)],
            k[None, :, slice(*of_k)],
            v[None, :, slice(*of_k)],
            causal="bottom_right",
        )
        assert torch.allclose(o[:, slice(*of_q)].float(), one[0].float(), atol=4e-3, rtol=4e-3)


def test_out_and_its_type(device: str) -> None:
    q = torch.ones(1, 2, 3, 8, dtype=torch.float16, device=device)
    out = torch.full((1, 2, 3, 8), torch.nan, device=device)
    assert cutplan.attention(q, q, q, out=out) is out
    assert (out == 1).all()
    o, lse = cutplan.attention(q, q, q, out=out, return_lse=True)
    assert o is out and isinstance(lse, torch.Tensor)
    assert cutplan.attention(q, q, q, out_dtype="float32").dtype == torch.float32
    with pytest.raises(cutplan.ShapeMismatch, match=r"operand out: shape \[1, 2, 3, 8\].*required, got"):
        cutplan.attention(q, q, q, out=out[..., :4])
    with pytest.raises(cutplan.DTypeMismatch, match="operand out: out_dtype float16 required, got float32"):
        cutplan.attention(q, q, q, out=out, out_dtype="float16")
    gradients = cutplan.attention_backward(q, q, q, q, o, lse, grad_dtype="float32")
    assert all(x.dtype == torch.float32 for x in gradients[:3])


def test_gradients_of_operands_that_are_asked_for(device: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    q, grad = (torch.randn(2, 4, 6, 8, dtype=torch.float16, device=device) for _ in range(2))
    bias = torch.randn(1, 4, 1, 6, dtype=torch.float16, device=device)
    slopes, sink = torch.rand(4, device=device), torch.randn(4, device=device)
    options: dict[str, Any] = {"bias": bias, "alibi_slopes": slopes, "sink": sink, "softcap": 5.0}
    o, lse = cutplan.attention(q, q, q, return_lse=True, **options)
    every = {"dbias": True, "dalibi_slopes": True, "dsink": True}
    gradients = cutplan.attention_backward(grad, q, q, q, o, lse, **every, **options)
    assert isinstance(gradients, cutplan.AttentionGradients)
    assert gradients._fields == ("dq", "dk", "dv", "dbias", "dalibi_slopes", "dsink")
    for got, like in zip(gradients[3:], (bias, slopes, sink), strict=True):
        assert got.shape == like.shape and got.dtype == like.dtype and bool(got.isfinite().all())
    for name in every:
        one = cutplan.attention_backward(grad, q, q, q, o, lse, **{name: True}, **options)
        assert [x is not None for x in one[3:]] == [field == name for field in gradients._fields[3:]]
    for name in every:
        with pytest.raises(cutplan.MissingOperand, match=f"operand {name[1:]}: required by {name}=True"):
            cutplan.attention_backward(grad, q, q, q, o, lse, **{name: True})


def test_gradients_may_be_slices_of_one_tensor(device: str, seed: int) -> None:
    """Q, K and V of one projection, and their gradients: interleaved, and yet no element is shared."""
    torch.manual_seed(seed % 2**31)
    for shape, index in (((2, 7, 3, 4, 16), 2), ((2, 7, 4, 3, 16), 3)):
        qkv = torch.randn(shape, dtype=torch.float16, device=device)
        dqkv = torch.full_like(qkv, torch.nan)
        q, k, v = qkv.unbind(index)
        o, lse = cutplan.attention(q, k, v, layout="bshd", return_lse=True)
        grad = torch.randn_like(o)
        forward = cutplan.describe_attention(q, k, v, o, lse=lse, layout="bshd")
        plan = cutplan.FmhaBackwardPlan.select(
            cutplan.FmhaBackwardDescriptor(forward), device, cutplan.PlanPreference(deterministic=True)
        )
        scratch = torch.empty(plan.workspace_size, dtype=torch.uint8, device=device)
        plan.run(grad, q, k, v, o, lse, *dqkv.unbind(index), workspace=scratch)
        apart = cutplan.attention_backward(grad, q, k, v, o, lse, layout="bshd", deterministic=True)
        assert torch.equal(dqkv, torch.stack(apart[:3], index))
        with pytest.raises(cutplan.Overlap, match="operand dq: must not share memory with operand q"):
            plan.run(grad, q, k, v, o, lse, *qkv.unbind(index), workspace=scratch)
        dq, dk, _ = dqkv.unbind(index)
        with pytest.raises(cutplan.Overlap, match="operand dv: must not share memory with operand dk"):
            plan.run(grad, q, k, v, o, lse, dq, dk, dk, workspace=scratch)


def test_plans_are_kept(device: str) -> None:
    q = torch.ones(1, 1, 4, 8, dtype=torch.float16, device=device)
    cutplan.clear_tuning()
    before = _core.chosen_plans()
    for _ in range(3):
        o, lse = cutplan.attention(q, q, q, return_lse=True)
        cutplan.attention_backward(q, q, q, q, o, lse)
    assert _core.chosen_plans() == before + 2


# ---- descriptors and plans


def test_descriptor_defaults_and_fields() -> None:
    d = cutplan.FmhaDescriptor(heads=4, seq_q=5, seq_k=6, dim=8, dtype="float16")
    assert (d.batch, d.heads, d.heads_k, d.seq_q, d.seq_k, d.dim, d.dim_v) == (1, 4, 4, 5, 6, 8, 8)
    assert d.dtype is d.o is cutplan.DType.float16
    assert d.layout is cutplan.FmhaLayout.bhsd and d.align is cutplan.Align.bottom_right
    assert d.causal is None and d.bias is None and d.window == (-1, -1) and d.softcap == 0
    assert not (d.varlen or d.alibi or d.mask or d.sink or d.seqused_k or d.dropout or d.lse)
    b = cutplan.FmhaBackwardDescriptor(d)
    assert b.grad is cutplan.DType.float16 and b.forward.lse and not (b.dbias or b.dalibi_slopes or b.dsink)
    with pytest.raises(AttributeError):
        d.heads = 3  # type: ignore[misc]


def test_descriptors_are_values() -> None:
    fields: dict[str, tuple[Any, Any]] = {
        "batch": (1, 2),
        "heads": (4, 8),
        "heads_k": (4, 2),
        "seq_q": (5, 6),
        "seq_k": (5, 6),
        "dim": (8, 16),
        "dim_v": (8, 16),
        "dtype": ("float16", "bfloat16"),
        "o": ("float16", "float32"),
        "layout": ("bhsd", "bshd"),
        "varlen": (False, True),
        "causal": (None, "top_left"),
        "align": (None, "top_left"),
        "window": ((-1, -1), (3, -1)),
        "softcap": (0.0, 2.5),
        "alibi": (False, True),
        "bias": (None, "float32"),
        "mask": (False, True),
        "sink": (False, True),
        "seqused_k": (False, True),
        "dropout": (False, True),
        "lse": (False, True),
    }
    base = {name: values[0] for name, values in fields.items()}
    made: list[Any] = [cutplan.FmhaDescriptor(**base), cutplan.FmhaDescriptor(**{**base, "window": (-1, 3)})]
    made += [cutplan.FmhaDescriptor(**{**base, name: values[1]}) for name, values in fields.items()]
    made += [cutplan.FmhaBackwardDescriptor(x) for x in made[:2]]
    made += [
        cutplan.FmhaBackwardDescriptor(made[0], **{name: value})
        for name, value in (("grad", "float32"), ("dbias", True), ("dalibi_slopes", True), ("dsink", True))
    ]
    for x, y in itertools.combinations(made, 2):
        assert x != y
    assert len({hash(x) for x in made}) == len(made)
    for x in made:
        again = eval(
            repr(x), {name: getattr(cutplan, name) for name in ("FmhaDescriptor", "FmhaBackwardDescriptor")}
        )
        assert again == x and hash(again) == hash(x)
    assert made[0] != "a descriptor"
    assert set(inspect.signature(cutplan.attention).parameters) >= {
        "q",
        "k",
        "v",
        "causal",
        "sink",
        "stream",
    }


def test_alignment_is_said_once() -> None:
    options: dict[str, Any] = {"heads": 1, "seq_q": 2, "seq_k": 3, "dim": 8, "dtype": "float16"}
    for causal, align in itertools.product((None, "top_left", "bottom_right"), repeat=2):
        if causal and align and causal != align:
            with pytest.raises(
                cutplan.InvalidProblem, match=f"align: '{causal}', which causal sets, .*got '{align}'"
            ):
                cutplan.FmhaDescriptor(**options, causal=causal, align=align)
        else:
            d = cutplan.FmhaDescriptor(**options, causal=causal, align=align)
            assert str(d.align) == (causal or align or "bottom_right")
            assert (None if d.causal is None else str(d.causal)) == causal
    with pytest.raises(ValueError, match="causal: must be one of None, 'top_left', 'bottom_right'; got True"):
        cutplan.FmhaDescriptor(**options, causal=True)
    with pytest.raises(ValueError, match="layout: must be one of 'bhsd', 'bshd'; got 'sbhd'"):
        cutplan.FmhaDescriptor(**options, layout="sbhd")


def test_descriptors_read_off_tensors() -> None:
    q = torch.empty(2, 4, 5, 8, dtype=torch.float16)
    k, v = torch.empty(2, 2, 6, 8, dtype=torch.float16), torch.empty(2, 2, 6, 16, dtype=torch.float16)
    assert cutplan.describe_attention(q, k, v, causal="top_left", softcap=2.0) == cutplan.FmhaDescriptor(
        batch=2,
        heads=4,
        heads_k=2,
        seq_q=5,
        seq_k=6,
        dim=8,
        dim_v=16,
        dtype="float16",
        causal="top_left",
        softcap=2.0,
    )
    described = cutplan.describe_attention(
        q,
        k,
        v,
        torch.empty(2, 4, 5, 16),
        lse=torch.empty(2, 4, 5),
        bias=torch.empty(5, 6),
        mask=torch.ones(5, 6, dtype=torch.bool),
        alibi_slopes=torch.empty(4),
        sink=torch.empty(4),
        seqused_k=torch.ones(2, dtype=torch.int32),
        rng_state=torch.zeros(2, dtype=torch.int64),
        window=(1, 2),
        align="top_left",
    )
    assert described == cutplan.FmhaDescriptor(
        batch=2,
        heads=4,
        heads_k=2,
        seq_q=5,
        seq_k=6,
        dim=8,
        dim_v=16,
        dtype="float16",
        o="float32",
        align="top_left",
        window=(1, 2),
        alibi=True,
        bias="float32",
        mask=True,
        sink=True,
        seqused_k=True,
        dropout=True,
        lse=True,
    )


@pytest.mark.parametrize("backward", [False, True])
def test_plans_say_what_they_are(backward: bool, device: str) -> None:
    forward = cutplan.FmhaDescriptor(heads=2, seq_q=5, seq_k=6, dim=8, dtype="float16", lse=True)
    descriptor: Any = cutplan.FmhaBackwardDescriptor(forward) if backward else forward
    kind: Any = cutplan.FmhaBackwardPlan if backward else cutplan.FmhaPlan
    plan = kind.select(descriptor, device)
    assert plan.descriptor == descriptor and plan.workspace_size >= 0
    assert plan.device == ("cpu" if device == "cpu" else "cuda:0")
    assert plan.sku.category == "attention" and plan.sku.op == ("fmha_backward" if backward else "fmha")
    assert str(plan.sku) in repr(plan) and repr(descriptor) in repr(plan)
    again = kind.select(descriptor, device, cutplan.PlanPreference(kernel=plan.sku.name, deterministic=False))
    assert again.sku.name == plan.sku.name
    names = [x.name for x in cutplan.fmha_kernels(descriptor, cutplan.device_properties(device))]
    assert names[0] == plan.sku.name
    assert plan.precision_guarantee.scores > 0
    assert plan.precision_guarantee.error_bound(1.0, 0.5, 3.0) > plan.precision_guarantee.error_bound(
        1.0, 0.5, 0.0
    )


def test_math_is_a_preference() -> None:
    assert [str(x) for x in cutplan.Math] == ["fast", "tf32", "tf32x3", "strict"]
    assert cutplan.PlanPreference().math is cutplan.Math.tf32x3
    preference = cutplan.PlanPreference(math="strict")
    assert eval(repr(preference), {"PlanPreference": cutplan.PlanPreference}).math is cutplan.Math.strict
    descriptor = cutplan.FmhaDescriptor(heads=2, seq_q=5, seq_k=6, dim=8, dtype="float32")
    assert cutplan.FmhaPlan.select(descriptor, "cpu", preference).sku.schedule == "strict"
    gemm = cutplan.GemmDescriptor(m=4, n=4, k=4, a="float32")
    assert cutplan.GemmPlan.select(gemm, "cpu", preference).sku.arch is cutplan.Arch.host
    with pytest.raises(
        ValueError, match="math: must be one of 'fast', 'tf32', 'tf32x3', 'strict'; got 'exact'"
    ):
        cutplan.PlanPreference(math="exact")


def test_bounds_of_arrays() -> None:
    descriptor = cutplan.FmhaDescriptor(heads=2, seq_q=5, seq_k=6, dim=8, dtype="float16")
    guarantee = cutplan.FmhaPlan.select(descriptor, "cpu").precision_guarantee
    magnitude, sizes = np.array([[1.0], [2.0]]), np.array([0.0, 5.0, 50.0])
    bounds = guarantee.error_bound(magnitude, 0.25, sizes)
    assert bounds.shape == (2, 3)
    for i, j in np.ndindex(2, 3):
        assert bounds[i, j] == guarantee.error_bound(float(magnitude[i, 0]), 0.25, float(sizes[j]))


def test_gradients_of_stride_zero(device: str, seed: int) -> None:
    torch.manual_seed(seed % 2**31)
    q, k, v = torch.randn(3, 1, 2, 9, 8, device=device, dtype=torch.float16).unbind()
    o, lse = cutplan.attention(q, k, v, return_lse=True)
    for of in ((), (1, 1, 1, 8), (1, 2, 9, 1), (1, 2, 1, 8), (1, 1, 9, 8)):
        grad = torch.randn(of, device=device, dtype=torch.float16).expand(o.shape)
        assert 0 in grad.stride()
        options: dict[str, Any] = {"deterministic": True}
        got = cutplan.attention_backward(grad, q, k, v, o, lse, **options)
        want = cutplan.attention_backward(grad.contiguous(), q, k, v, o, lse, **options)
        for x, y in zip(got[:3], want[:3], strict=True):
            assert torch.equal(x, y)
