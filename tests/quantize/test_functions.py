"""quantize() and dequantize(): frameworks, dimensions, and what a Quantized carries."""

from __future__ import annotations

import copy
import pickle

import ml_dtypes
import numpy as np
import pytest
import torch

import cutplan
from tests.quantize.problems import DEVICES, generator, values
from tests.quantize.test_quantize import kinds


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("granularity", ["tensor", "row", "column", "group", "block"])
def test_further_dimensions(device: str, kind: tuple[str, bool], granularity: str, seed: int) -> None:
    """They are one of batches."""
    x = values((2, 3, 1, 6, 10), torch.bfloat16, generator(device, seed))
    dtype, symmetric = kind
    options = {"granularity": granularity, "symmetric": symmetric}
    if granularity in ("group", "block"):
        options["group_size"] = 4
    q = cutplan.quantize(x, dtype, **options)  # type: ignore[arg-type]
    flat = cutplan.quantize(x.reshape(6, 6, 10), dtype, **options)  # type: ignore[arg-type]
    columns = 5 if dtype == "int4" else 10
    assert q.data.shape == (2, 3, 1, 6, columns)
    assert torch.equal(q.data.view(torch.uint8).flatten(), flat.data.view(torch.uint8).flatten())
    kept = flat.scale.shape[1:]
    assert q.scale.shape == ((1,) if granularity == "tensor" else (2, 3, 1, *kept))
    assert torch.equal(q.scale.flatten(), flat.scale.flatten())
    back = cutplan.dequantize(q, torch.float32)
    assert back.shape == x.shape
    assert torch.equal(back.flatten(), cutplan.dequantize(flat, "float32").flatten())
    amax = torch.empty_like(q.scale)
    again = cutplan.quantize(x, dtype, scale=q.scale, zero=q.zero, amax=amax, **options)  # type: ignore[arg-type]
    assert again.scale is q.scale and again.zero is q.zero
    assert torch.equal(again.data.view(torch.uint8), q.data.view(torch.uint8))
    assert float(amax.max()) == float(x.abs().max())


def test_a_batch_of_one_keeps_its_dimension() -> None:
    x = torch.ones(1, 4, 6)
    for granularity, shape in (("row", (1, 4)), ("column", (1, 6)), ("block", (1, 1, 1)), ("tensor", (1,))):
        q = cutplan.quantize(x, "int8", granularity=granularity)  # type: ignore[arg-type]
        assert q.data.shape == x.shape and q.scale.shape == shape
        assert cutplan.dequantize(q, "float16").shape == x.shape
        assert cutplan.quantize(x[0], "int8", granularity=granularity).scale.shape == shape[
            -q.scale.dim() + 1 :
        ] or (granularity == "tensor")  # type: ignore[arg-type]


def test_numpy() -> None:
    x = np.random.default_rng(7).standard_normal((4, 6), dtype=np.float32)
    q = cutplan.quantize(x, np.int8, granularity="row", symmetric=False)
    assert isinstance(q.data, np.ndarray) and q.data.dtype == np.int8
    assert q.scale.dtype == np.float32 and q.zero.dtype == np.int32
    back = (q.data.astype(np.float64) - q.zero[:, None]) * q.scale[:, None]
    assert np.abs(back - x).max() < q.scale.max()
    assert np.array_equal(cutplan.dequantize(q, "float32"), back.astype(np.float32))
    eight = cutplan.quantize(x.astype(ml_dtypes.bfloat16), "float8_e4m3fn")
    assert eight.data.dtype == ml_dtypes.float8_e4m3fn
    assert cutplan.dequantize(eight, "bfloat16").dtype == ml_dtypes.bfloat16


def test_numpy_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    x = np.ones((4, 6), np.float32)
    with pytest.raises(
        cutplan.Unsupported, match="NumPy has no float8_e5m2 of its own and ml_dtypes is not installed"
    ):
        cutplan.quantize(x, "float8_e5m2")
    assert cutplan.quantize(x, "int8").data.dtype == np.int8


def test_what_a_quantized_carries() -> None:
    x = torch.randn(6, 8)
    q = cutplan.quantize(x, torch.int8, granularity="group", group_size=3, axis=-2)
    assert q[3:] == ("int8", "group", 3, -2) and q.zero is None
    assert cutplan.quantize(x, "int8", granularity="block").group_size == 128
    by_hand = cutplan.Quantized(q.data, q.scale, granularity="group", group_size=3, axis=-2)
    expected = cutplan.dequantize(q, "float32")
    for same in (by_hand, pickle.loads(pickle.dumps(q)), copy.deepcopy(q)):
        assert torch.equal(cutplan.dequantize(same, "float32"), expected)
    bare = cutplan.Quantized(q.data, q.scale)
    assert torch.equal(
        cutplan.dequantize(bare, "float32", granularity="group", group_size=3, axis=-2), expected
    )


def test_kernels_by_name() -> None:
    x = torch.randn(6, 8)
    q = cutplan.quantize(x, "int4")
    assert cutplan.last_kernels() == ("quantize.host.f32",)
    cutplan.dequantize(q, "bfloat16")
    assert cutplan.last_kernels() == ("dequantize.host.bf16",)
    names = [sku.name for sku in cutplan.quantize_registry()]
    assert len(names) == len(set(names)) and "quantize.host.bf16" in names
    plan = cutplan.QuantizePlan.select(
        cutplan.QuantizeDescriptor(rows=6, columns=8, x="float32", dtype="int4"),
        "cpu",
        cutplan.PlanPreference(kernel="quantize.host.f32"),
    )
    assert pickle.loads(pickle.dumps(plan)).sku.name == plan.sku.name == "quantize.host.f32"
    assert (str(plan.sku.a), str(plan.sku.d)) == ("float32", "int4")


def test_nibbles() -> None:
    """The first of two columns is in the low half; without a zero point they are two's complement."""
    x = torch.tensor([[7.0, -7.0, 1.0, -1.0]])
    q = cutplan.quantize(x, "int4", scale=torch.ones(1))
    assert q.data.tolist() == [[0x97, 0xF1]]
    unsigned = cutplan.quantize(
        x, "int4", symmetric=False, scale=torch.ones(1), zero=torch.tensor([8], dtype=torch.int32)
    )
    assert unsigned.data.tolist() == [[0x1F, 0x79]]
    assert cutplan.dequantize(unsigned, "float32").tolist() == x.tolist()


def test_ties_go_to_even() -> None:
    x = torch.tensor([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.5]])
    assert cutplan.quantize(x, "int8", scale=torch.ones(1)).data.tolist() == [[0, 2, 2, 0, -2, -2, 126, 127]]


def test_leading_dimensions_that_repeat() -> None:
    """Where no stride steps through them all, they are refused, and not read as what lies elsewhere."""
    x = torch.arange(64.0).reshape(2, 1, 4, 8)
    with pytest.raises(cutplan.LayoutMismatch, match="operand x: leading dimensions that one stride"):
        cutplan.quantize(x.expand(2, 3, 4, 8), "int8", granularity="row")
    repeated = cutplan.quantize(x[:1].expand(2, 3, 4, 8), "int8", granularity="row")  # stride 0 in both
    assert torch.equal(
        repeated.scale, cutplan.quantize(x[0], "int8", granularity="row").scale.expand(2, 3, 4)
    )
    data = torch.ones(2, 1, 1, 3, dtype=torch.int8).expand(2, 2, 1, 3)
    with pytest.raises(cutplan.LayoutMismatch, match="operand data: leading dimensions"):
        cutplan.dequantize(cutplan.Quantized(data, torch.ones(1)), "float32")
    memory = torch.full((64,), -7.0)
    with pytest.raises(cutplan.LayoutMismatch, match="operand amax: leading dimensions"):
        cutplan.quantize(
            torch.ones(2, 3, 1, 2),
            "int8",
            granularity="row",
            amax=memory[:2].reshape(2, 1, 1).expand(2, 3, 1),
        )
    assert (memory == -7).all()


def test_leading_dimensions_of_scales_are_those_of_x() -> None:
    x = torch.ones(2, 3, 1, 4)
    for shape in ((3, 2, 1), (6, 1)):
        with pytest.raises(
            cutplan.ShapeMismatch, match=r"operand scale: the leading dimensions \[2, 3\] of x"
        ):
            cutplan.quantize(x, "int8", granularity="row", scale=torch.ones(shape))
    q = cutplan.quantize(x, "int8", granularity="row")
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand scale: the leading dimensions \[2, 3\] of data"
    ):
        cutplan.dequantize(q._replace(scale=torch.ones(3, 2, 1)), "float32")


def test_none_is_the_default() -> None:
    x = torch.randn(2, 3, 4, 8)
    got = cutplan.quantize(x, "int8", symmetric=None, granularity=None)  # type: ignore[arg-type]
    assert torch.equal(got.data, cutplan.quantize(x, "int8").data)
    gradients = cutplan.alibi_backward(x, dscores=None, dslopes=None)
    assert torch.equal(gradients.dscores, x) and gradients.dslopes.shape == (3,)


def test_float8_has_no_zero() -> None:
    q = cutplan.quantize(torch.ones(2, 4), "float8_e4m3fn")
    with pytest.raises(cutplan.Unsupported, match="operand zero: none required with float8_e4m3fn, got one"):
        cutplan.dequantize(q._replace(zero=torch.zeros(1, dtype=torch.int32)), "float32")
