"""What is refused, with which error and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cutplan

U = np.zeros((256, 16), np.uint8)
SCALE = np.ones((2, 16), np.float32)
WORDS = np.zeros((32, 16), np.int32)  # of k
ZEROS = np.zeros((2, 2), np.int32)
W = np.zeros((256, 16), np.float32)
HALF = np.float16


def call(w: Any = U, format: Any = "uint4", scale: Any = SCALE, **options: Any) -> Callable[[], object]:
    return lambda: cutplan.pack_weights(w, format, scale=scale, **options)


def floats(w: Any = W, format: Any = "int4", **options: Any) -> Callable[[], object]:
    return lambda: cutplan.pack_weights(w, format, **options)


def select(**changes: Any) -> Callable[[], object]:
    fields: dict[str, Any] = {"n": 16, "k": 256, "format": "uint4", "w": "uint8", "scale": "float32"}
    return lambda: cutplan.PackWeightsPlan.select(cutplan.PackWeightsDescriptor(**fields | changes), "cpu")


def unpack(**changes: Any) -> Callable[[], object]:
    fields: dict[str, Any] = {"n": 16, "k": 256, "format": "uint4", "scale": "float32", "out": "float16"}
    return lambda: cutplan.UnpackWeightsPlan.select(
        cutplan.UnpackWeightsDescriptor(**fields | changes), "cpu"
    )


def gptq(*changes: Any, **options: Any) -> Callable[[], object]:
    tensors = [*changes, *[WORDS, ZEROS, SCALE][len(changes) :]]
    return lambda: cutplan.pack_weights.from_gptq(*tensors, **options)


def awq(*changes: Any, **options: Any) -> Callable[[], object]:
    tensors = [*changes, *[U[:, :2].astype(np.int32), ZEROS, SCALE][len(changes) :]]
    return lambda: cutplan.pack_weights.from_awq(*tensors, **options)


def compressed(*changes: Any, **options: Any) -> Callable[[], object]:
    tensors = [*changes, *[WORDS.T.copy(), SCALE.T.copy()][len(changes) :]]
    return lambda: cutplan.pack_weights.from_compressed_tensors(*tensors, **options)


def torchao(*tensors: Any, **options: Any) -> Callable[[], object]:
    return lambda: cutplan.pack_weights.from_torchao(*tensors, **options)


def nf4(
    packed: Any = None, absmax: Any = None, shape: Any = (16, 256), **options: Any
) -> Callable[[], object]:
    packed = np.zeros(2048, np.uint8) if packed is None else packed
    absmax = np.ones(64, np.float32) if absmax is None else absmax
    return lambda: cutplan.pack_weights.from_nf4(packed, absmax, shape, **options)


def quantized(
    format: Any = "int8", like: dict[str, Any] | None = None, **options: Any
) -> Callable[[], object]:
    like = {"dtype": "int8", "granularity": "group", "group_size": 32, "axis": -2, **(like or {})}
    return lambda: cutplan.pack_weights(cutplan.quantize(W, **like), format, **options)


TILES = np.zeros((2, 4, 32, 2), np.int32)
BOTH = np.ones((2, 16, 2), np.float32)
G_IDX = (np.arange(256) // 128).astype(np.int32)
SQUARE = np.ones((16, 16), np.float32)

REFUSED: list[tuple[Callable[[], object], type[Exception], str]] = [
    # ---- pack_weights() ----
    (
        call(format="int3"),
        ValueError,
        "format: must be one of 'int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1'; got 'int3'",
    ),
    (
        floats(format="int3"),
        ValueError,
        "format: must be one of 'int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1'; got 'int3'",
    ),
    (call(scale=None), cutplan.MissingOperand, "operand scale: required with w of uint8, codes, not given"),
    (floats(scale=SCALE), cutplan.InvalidProblem, "operand scale: none required with w of floats"),
    (floats(zero=SCALE), cutplan.InvalidProblem, "operand zero: none required with w of floats"),
    (call(U[0]), cutplan.ShapeMismatch, "operand w: rank 2 required, got [16]"),
    (
        call(group_size=96),
        cutplan.Unsupported,
        "group_size: 32, 64, 128, or 0 or at least k = 256, for a whole column, required, got 96; "
        "where it is a "
        "multiple of one of these, repeat each scale and zero",
    ),
    (call(group_size=-2), cutplan.Unsupported, "group_size: 32, 64, 128, or 0 or at least k = 256"),
    (floats(group_size=96), cutplan.Unsupported, "group_size: 32, 64, 128, or -1 or at least k = 256"),
    (
        call(group_size=64),
        cutplan.ShapeMismatch,
        "operand scale: shape [4, 16] (groups of k, n) required, got [2, 16]",
    ),
    (
        call(zero=SCALE[:, :8]),
        cutplan.ShapeMismatch,
        "operand zero: shape [2, 16] (groups of k, n) required, got [2, 8]",
    ),
    (
        call(scale=SCALE.astype(np.float64)),
        cutplan.Unsupported,
        "operand scale: one of float16, bfloat16, float32 required, got float64",
    ),
    (
        call(zero=SCALE.astype(HALF)),
        cutplan.Unsupported,
        "operand zero: scale's type, float32, or an integer type required, got float16; convert it, or scale",
    ),
    (
        call(zero=SCALE.astype(np.float64)),
        cutplan.Unsupported,
        "operand zero: int32, uint8, int8, int64, or scale's type, float32, required, got float64",
    ),
    (
        call(format="nf4", zero=SCALE),
        cutplan.Unsupported,
        "operand zero: none required with nf4, got one; int4, uint4 and int8 have zero points",
    ),
    (
        call(U.astype(np.float64)),
        cutplan.Unsupported,
        "operand w: codes in int32, uint8, int8 or int64 required, got float64",
    ),
    (
        call(U + np.uint8(16)),
        cutplan.InvalidProblem,
        "operand w: from 0 to 15 required in uint8 with uint4, got 16",
    ),
    (
        call(U.astype(np.int8) - 9, "int4"),
        cutplan.InvalidProblem,
        "operand w: from -8 to 7 required in int8 with int4, got -9",
    ),
    (
        call(U.astype(np.int32) + 128, "int8"),
        cutplan.InvalidProblem,
        "operand w: from -128 to 127 required in int32 with int8, got 128",
    ),
    (
        floats(W[::2, ::2]),
        cutplan.LayoutMismatch,
        "operand w: one of its dimensions contiguous required of floats, got strides [32, 2]",
    ),
    (
        floats(W[:, :15], "uint4"),
        cutplan.InvalidProblem,
        "n: an even number required of floats with uint4, got 15; use int4, or pad to 16",
    ),
    # ---- Quantized ----
    (
        quantized("int4"),
        cutplan.Unsupported,
        "format: 'int8' required of a Quantized of int8, got 'int4'",
    ),
    (
        quantized("int4", {"dtype": "int4", "symmetric": False}),
        cutplan.Unsupported,
        "format: 'uint4' required of a Quantized of int4 with zero, got 'int4'",
    ),
    (
        quantized("int8", {"granularity": "row", "group_size": None, "axis": -1}),
        cutplan.Unsupported,
        "operand w: a Quantized in groups along axis -2, by columns or as one tensor required, got "
        "granularity 'row'",
    ),
    (
        quantized("int8", {"axis": -1, "group_size": 8}),
        cutplan.Unsupported,
        "got granularity 'group' along axis -1",
    ),
    (quantized(scale=SCALE), cutplan.InvalidProblem, "operand scale: none required with a Quantized"),
    (
        quantized(group_size=64),
        cutplan.InvalidProblem,
        "group_size: that of the Quantized, 32, required, got 64",
    ),
    (
        lambda: cutplan.pack_weights(
            cutplan.quantize(W, "float8_e4m3fn")._replace(dtype="float8_e5m2"), "e4m3"
        ),
        cutplan.Unsupported,
        "operand w: a Quantized of int4, int8 or float8_e4m3fn required, got float8_e5m2",
    ),
    # ---- descriptors ----
    (select(n=-1), cutplan.InvalidProblem, "n: an extent >= 0 required, got -1"),
    (select(n=2**30, k=2**30, group_size=0), cutplan.InvalidProblem, "n, k: at most 2^48 elements required"),
    (
        select(w="float32"),
        cutplan.Unsupported,
        "operand w: integer codes required with uint4, got float32; quantize() makes them, nf4 and "
        "e2m1 take floats",
    ),
    (
        select(w="float8_e4m3fn"),
        cutplan.Unsupported,
        "operand w: int32, uint8, int8 or int64 required with uint4, got float8_e4m3fn",
    ),
    (
        select(signed_codes=True),
        cutplan.Unsupported,
        "signed_codes: False required with uint4, which has no two's complement, got True",
    ),
    (
        select(order="awq"),
        cutplan.InvalidProblem,
        "order: 'linear' required where elements hold one code each, got 'awq'; packed_along 'k' or "
        "'n' has others",
    ),
    (
        select(order="awq", packed_along="k"),
        cutplan.Unsupported,
        "order: 'linear' or 'high_first' required where an element of w holds 2 codes, got 'awq', an "
        "order of 8",
    ),
    (
        select(format="int8", packed_along="k"),
        cutplan.Unsupported,
        "packed_along: 'none' required of w of type uint8 with int8, got 'k'; int32 holds 4 codes",
    ),
    (
        select(w="int64", packed_along="n"),
        cutplan.Unsupported,
        "packed_along: 'none' required of w of type int64 with uint4, got 'n'; int32 holds 8 codes, "
        "uint8 and int8 2",
    ),
    (
        select(k=250, w="int32", packed_along="k"),
        cutplan.InvalidProblem,
        "k: a multiple of 8 required, the codes of one int32, got 250; pad to 256, or pass w with "
        "one code an element",
    ),
    (
        select(n=15, packed_along="n"),
        cutplan.InvalidProblem,
        "n: a multiple of 2 required, the codes of one uint8, got 15; pad to 16",
    ),
    (
        select(n=12, zero="int32", zero_packed=True),
        cutplan.InvalidProblem,
        "n: a multiple of 8 required, the codes of one int32 of zero, got 12; pass zero with one an element",
    ),
    (select(zero_packed=True), cutplan.InvalidProblem, "zero_packed: False required without zero, got True"),
    (select(zero_bias=1), cutplan.InvalidProblem, "zero_bias: 0 required without zero, got 1"),
    (
        select(zero="float32", zero_bias=1),
        cutplan.InvalidProblem,
        "zero_bias: 0 required with a zero of type float32, got 1; add it to zero",
    ),
    (
        select(zero="float32", zero_packed=True),
        cutplan.Unsupported,
        "zero_packed: False required of a zero of type float32 with uint4, got True; int32 holds 8 codes",
    ),
    (
        select(permutation=True, group_size=0),
        cutplan.InvalidProblem,
        "permutation: none required where a whole column shares a scale (k = 256, group_size 0), got one",
    ),
    (
        unpack(out="float64"),
        cutplan.Unsupported,
        "operand out: one of float16, bfloat16, float32 required, got float64",
    ),
    (
        unpack(format="e2m1", zero=True),
        cutplan.Unsupported,
        "zero: False required with e2m1, got True; int4, uint4 and int8 have zero points",
    ),
    (
        unpack(scale="int8"),
        cutplan.Unsupported,
        "operand scale: one of float16, bfloat16, float32 required, got int8",
    ),
    (
        lambda: cutplan.unpack_weights(U),  # type: ignore[arg-type]
        TypeError,
        "packed: a PackedWeights required, as pack_weights() returns it, got ndarray; "
        "PackedWeights.from_tensor() makes one of its tensor",
    ),
    # ---- from_gptq() ----
    (gptq(bits=3), cutplan.Unsupported, "bits: 4 or 8 required, got 3"),
    (gptq(WORDS[0]), cutplan.ShapeMismatch, "operand qweight: rank 2 required, got [16]"),
    (
        gptq(WORDS.astype(np.float32)),
        cutplan.Unsupported,
        "operand qweight: integer codes required with uint4, got float32",
    ),
    (
        gptq(WORDS, ZEROS[:, :1]),
        cutplan.ShapeMismatch,
        "operand qzeros: shape [2, 2] (groups of k, n / codes of an element) required, got [2, 1]",
    ),
    (
        gptq(WORDS, ZEROS, SCALE[:, :8]),
        cutplan.ShapeMismatch,
        "operand scales: shape [2, 16] (groups of k, n) required, got [2, 8]",
    ),
    (
        gptq(WORDS, ZEROS, np.ones((3, 16), HALF)),
        cutplan.ShapeMismatch,
        "operand scales: groups of 32, 64 or 128 of the 256 rows, or one, required, got 3",
    ),
    (
        gptq(WORDS, ZEROS, SCALE, G_IDX[:255]),
        cutplan.ShapeMismatch,
        "operand g_idx: shape [256] (rows) required, got [255]",
    ),
    (
        gptq(WORDS, ZEROS, SCALE, G_IDX * 0),
        cutplan.InvalidProblem,
        "operand g_idx: the group of each row required, got 0 for all of 2 groups; the index was "
        "never filled in",
    ),
    (
        gptq(WORDS, ZEROS, SCALE, np.sort(np.append(G_IDX[1:], 1)).astype(np.int32)),
        cutplan.InvalidProblem,
        "operand g_idx: 128 rows of each group required, from group 0 on, got row 127 of group 1 as "
        "number 127",
    ),
    (
        gptq(WORDS, ZEROS, SCALE, cutplan.TensorView(G_IDX, shape=(256,), strides=(1,))),
        cutplan.Unsupported,
        "operand g_idx: a tensor of its own library required, got a TensorView",
    ),
    # ---- from_awq() ----
    (awq(bits=8), cutplan.Unsupported, "bits: 4 required of AWQ, got 8"),
    (awq(WORDS[:, :2], None), cutplan.MissingOperand, "operand qzeros: required, not given"),
    (
        awq(np.zeros((256, 8), np.uint8)),
        cutplan.DTypeMismatch,
        "operand qweight: dtype int32 required, got uint8; view it as int32, if its memory is that",
    ),
    # ---- from_compressed_tensors() ----
    (
        compressed(WORDS.T.copy(), SCALE.T.copy(), (16, 250)),
        cutplan.InvalidProblem,
        "k: a multiple of 8 required, the codes of one int32, got 250; pad the weight to 256",
    ),
    (
        compressed(WORDS.T.copy(), SCALE.T.copy(), (16, 128)),
        cutplan.ShapeMismatch,
        "operand weight_packed: the codes of weight_shape [16, 128] required, got [16, 256]",
    ),
    (
        compressed(WORDS.T.copy(), SCALE),
        cutplan.ShapeMismatch,
        "operand weight_scale: groups of 32, 64 or 128 of the 256 rows, or one, required, got 16",
    ),
    (
        compressed(WORDS.T.astype(np.uint8), SCALE.T.copy()),
        cutplan.DTypeMismatch,
        "operand weight_packed: dtype int32 required, got uint8",
    ),
    # ---- from_torchao() ----
    (torchao(U), cutplan.MissingOperand, "operand scale: required, not given"),
    (torchao(U[0]), cutplan.ShapeMismatch, "operand qdata: rank 2 or 4 required, got [16]"),
    (
        torchao(U.T.copy(), SCALE, scale_and_zero=BOTH),
        cutplan.InvalidProblem,
        "operand scale_and_zero: none required",
    ),
    (
        torchao(U.T.copy(), SCALE, shape=(16, 128)),
        cutplan.ShapeMismatch,
        "operand qdata: the codes of shape [16, 128] required, got [16, 256] of uint8",
    ),
    (
        torchao(np.zeros((16, 8), np.uint8), SQUARE),
        cutplan.ShapeMismatch,
        "operand scale: as many groups as columns, 16, required not to be",
    ),
    (
        torchao(np.zeros((16, 8), np.uint8), np.ones((3, 5), HALF)),
        cutplan.ShapeMismatch,
        "operand scale: shape [16, groups] or [groups, 16] required, got [3, 5]",
    ),
    (
        torchao(np.zeros((16, 128), np.uint8), SCALE * 0, SCALE),
        cutplan.InvalidProblem,
        "operand scale: other than 0, and finite zero / scale, required of a zero that is added to "
        "the product, got 0; "
        "dequantise the weight and pack the floats",
    ),
    (
        torchao(np.zeros((16, 128), np.uint8), SCALE * np.float32(1e-30), SCALE * np.float32(1e30)),
        cutplan.InvalidProblem,
        "got zero / scale beyond float32",
    ),
    (
        torchao(np.zeros((16, 256), np.uint8), SCALE[0], bits=8),
        cutplan.MissingOperand,
        "operand zero_point: required with codes of uint8, not given",
    ),
    (
        torchao(TILES[..., :1].astype(np.uint8), scale_and_zero=BOTH),
        cutplan.ShapeMismatch,
        "operand qdata: int32 [n / 8, k / (16 i), 32, i / 2] with i of 2, 4 or 8 required of rank 4, "
        "got uint8",
    ),
    (
        torchao(TILES),
        cutplan.MissingOperand,
        "operand scale_and_zero: required with qdata of rank 4, not given",
    ),
    (
        torchao(TILES, scale_and_zero=BOTH[:, :8]),
        cutplan.ShapeMismatch,
        "operand scale_and_zero: shape [groups, 16, 2] required, got [2, 8, 2]",
    ),
    (
        torchao(TILES, scale_and_zero=BOTH, shape=(17, 256)),
        cutplan.ShapeMismatch,
        "shape: at most [16, 256], what qdata holds, required, got [17, 256]",
    ),
    # ---- from_nf4() ----
    (
        nf4(shape=(16, 250)),
        cutplan.InvalidProblem,
        "shape: k a multiple of blocksize, 64, required, so that blocks are of one row, got k = 250",
    ),
    (
        nf4(np.zeros(2047, np.uint8)),
        cutplan.ShapeMismatch,
        "operand packed: 2048 elements required, got [2047]",
    ),
    (
        nf4(np.zeros((2048, 2), np.uint8)[:, :1]),
        cutplan.LayoutMismatch,
        "operand packed: contiguous required, got strides [2, 1] of [2048, 1]",
    ),
    (
        nf4(absmax=np.ones(65, np.float32)),
        cutplan.ShapeMismatch,
        "operand absmax: 64 elements required, got [65]",
    ),
    (
        nf4(absmax=np.ones(64, np.uint8)),
        cutplan.MissingOperand,
        "operand nested_absmax: required with absmax of uint8, not given",
    ),
    (
        nf4(code=np.arange(16, dtype=np.float32)),
        cutplan.Unsupported,
        "operand code: the table of NF4 required, got another",
    ),
    (nf4(np.zeros(2048, np.int32)), cutplan.DTypeMismatch, "operand packed: dtype uint8 required, got int32"),
    (
        nf4(absmax=np.ones(64, np.float64)),
        cutplan.Unsupported,
        "operand absmax: one of float16, bfloat16, float32 required, got float64",
    ),
    # ---- from_kaio() ----
    (
        lambda: cutplan.pack_weights.from_kaio(WORDS[:, ::2], SCALE),
        cutplan.LayoutMismatch,
        "operand packed: contiguous required, got strides [16, 2] of [32, 8]; pass a contiguous copy",
    ),
    (
        lambda: cutplan.pack_weights.from_kaio(WORDS, SCALE, group_size=64),
        cutplan.ShapeMismatch,
        "operand scales: shape [4, 16] (groups of k, n) required, got [2, 16]",
    ),
    (
        lambda: cutplan.pack_weights.from_kaio(WORDS.astype(np.int64), SCALE),
        cutplan.DTypeMismatch,
        "operand packed: dtype int32 required, got int64",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=[f"{i}" for i in range(len(REFUSED))])
def test_refusals(case: tuple[Callable[[], object], type[Exception], str]) -> None:
    refused, error, words = case
    with pytest.raises(error) as caught:
        refused()
    assert words in str(caught.value)


# ---- what a tensor says of itself ----


def changed(at: int, value: int) -> np.ndarray[Any, Any]:
    data = cutplan.pack_weights(U, "uint4", scale=SCALE).data.copy()
    data[at] = value
    return data


DATA = cutplan.pack_weights(U, "uint4", scale=SCALE).data
HEADERS: list[tuple[Any, type[Exception], str]] = [
    (
        changed(0, ord("X")),
        cutplan.InvalidProblem,
        'packed weights: "CUTPLANW" in the first 8 bytes required, got "XUTPLANW"; pack_weights() and its',
    ),
    (
        changed(8, 2),
        cutplan.Unsupported,
        "packed weights: version 1 of the layout required, got 2; pack the weights again with this "
        "version of cutplan",
    ),
    (
        DATA[:-256],
        cutplan.ShapeMismatch,
        f"packed weights: {DATA.size} bytes required by the header (uint4, k = 256, n = 16), got "
        f"{DATA.size - 256}; "
        "the tensor was cut",
    ),
    (
        np.append(DATA, DATA[:1]),
        cutplan.ShapeMismatch,
        f"got {DATA.size + 1}; pass the tensor itself, without what follows",
    ),
    (
        DATA[:100],
        cutplan.ShapeMismatch,
        "packed weights: a tensor of 256 bytes at least required, the header's, got 100",
    ),
    (DATA[:0], cutplan.ShapeMismatch, "a tensor of 256 bytes at least required, the header's, got 0"),
    (changed(12, 6), cutplan.InvalidProblem, "packed weights: the header is damaged: format 6"),
    (changed(40, 3), cutplan.InvalidProblem, "packed weights: the header is damaged: type 3 of scales"),
    (
        changed(44, 2),
        cutplan.InvalidProblem,
        "packed weights: the header is damaged: a flag that is neither 0 nor 1",
    ),
    (
        changed(32, 96),
        cutplan.InvalidProblem,
        "packed weights: the header is damaged: group_size: 32, 64, 128",
    ),
    (
        changed(23, 255),
        cutplan.InvalidProblem,
        "packed weights: the header is damaged: n: an extent >= 0 required",
    ),
    (changed(24, 255), cutplan.InvalidProblem, "packed weights: the header is damaged"),
    (
        changed(200, 1),
        cutplan.InvalidProblem,
        "packed weights: the header is damaged: offsets that its extents do not give",
    ),
    (
        DATA.view(np.int8),
        cutplan.DTypeMismatch,
        "operand data: dtype uint8 required, got int8; view it as bytes",
    ),
    (DATA.reshape(2, -1), cutplan.ShapeMismatch, "operand data: rank 1 required, got [2,"),
    (DATA[::-1][::-1][::2], cutplan.LayoutMismatch, "operand data: contiguous required, got stride 2"),
]


@pytest.mark.parametrize("case", HEADERS, ids=[f"{i}" for i in range(len(HEADERS))])
def test_headers(case: tuple[Any, type[Exception], str]) -> None:
    data, error, words = case
    with pytest.raises(error) as caught:
        cutplan.PackedWeights.from_tensor(data)
    assert words in str(caught.value)


def test_what_plans_refuse() -> None:
    descriptor = cutplan.PackWeightsDescriptor(
        n=16, k=256, format="uint4", w="uint8", scale="float32", zero="int32", permutation=True
    )
    plan = cutplan.PackWeightsPlan.select(descriptor, "cpu")
    data = np.empty(cutplan.packed_weights_size(descriptor), np.uint8)
    zero, order = np.zeros((2, 16), np.int32), np.arange(256, dtype=np.int32)
    plan.can_implement(U, SCALE, data, zero=zero, permutation=order)
    with pytest.raises(cutplan.MissingOperand, match="operand permutation: required, not given"):
        plan.run(U, SCALE, data, zero=zero)
    with pytest.raises(cutplan.MissingOperand, match="operand zero: required, not given"):
        plan.run(U, SCALE, data, permutation=order)
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand permutation: shape \[256\] \(rows of w\) required"
    ):
        plan.run(U, SCALE, data, zero=zero, permutation=order[1:])
    with pytest.raises(cutplan.DTypeMismatch, match="operand permutation: dtype int32 required, got int64"):
        plan.run(U, SCALE, data, zero=zero, permutation=order.astype(np.int64))
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand packed: shape .* \(bytes of the layout\) required"
    ):
        plan.run(U, SCALE, data[1:], zero=zero, permutation=order)
    with pytest.raises(cutplan.Overlap, match="operand packed: must not share memory with operand w"):
        memory = np.zeros(data.size + U.size, np.uint8)
        plan.run(
            memory[10 : 10 + U.size].reshape(256, 16),
            SCALE,
            memory[: data.size],
            zero=zero,
            permutation=order,
        )
    with pytest.raises(cutplan.LayoutMismatch, match="operand w: strides >= 0 required"):
        plan.run(U[::-1], SCALE, data, zero=zero, permutation=order)
    data.flags.writeable = False
    with pytest.raises(cutplan.ReadOnly, match="operand packed: must be writable"):
        plan.run(U, SCALE, data, zero=zero, permutation=order)
    bare = cutplan.PackWeightsDescriptor(n=16, k=256, format="uint4", w="uint8", scale="float32")
    plan = cutplan.PackWeightsPlan.select(bare, "cpu")
    with pytest.raises(
        cutplan.MissingOperand, match=r"operand zero: given.*PackWeightsDescriptor\(zero=\.\.\.\)"
    ):
        plan.run(U, SCALE, np.empty(cutplan.packed_weights_size(bare), np.uint8), zero=zero)
    with pytest.raises(cutplan.MissingOperand, match=r"permutation: given.*permutation=True"):
        plan.run(U, SCALE, np.empty(cutplan.packed_weights_size(bare), np.uint8), permutation=order)
    unpack = cutplan.UnpackWeightsDescriptor(n=16, k=256, format="uint4", scale="float32", out="float32")
    with pytest.raises(
        cutplan.ShapeMismatch, match=r"operand out: shape \[256, 16\] \(k, n\) required, got \[16, 256\]"
    ):
        cutplan.UnpackWeightsPlan.select(unpack, "cpu").run(
            np.zeros(cutplan.packed_weights_size(bare), np.uint8), np.empty((16, 256), np.float32)
        )
    with pytest.raises(cutplan.DTypeMismatch, match="operand packed: dtype uint8 required, got int8"):
        cutplan.UnpackWeightsPlan.select(unpack, "cpu").run(
            np.zeros(cutplan.packed_weights_size(bare), np.int8), np.empty((256, 16), np.float32)
        )


def test_header_of_too_few_bytes() -> None:
    with pytest.raises(ValueError, match="header: the first 256 bytes of the packed tensor required"):
        cutplan.read_packed_weights(b"CUTPLANW", 4096)


@pytest.mark.cuda
def test_addresses_on_a_device() -> None:
    import torch

    p = cutplan.pack_weights(torch.zeros(64, 16, device="cuda", dtype=torch.uint8), "uint4",
                             scale=torch.ones(1, 16, device="cuda"))  # fmt: skip
    memory = torch.zeros(p.data.numel() + 1, dtype=torch.uint8, device="cuda")
    memory[1:] = p.data
    odd = cutplan.PackedWeights.from_tensor(memory[1:])
    with pytest.raises(cutplan.Misaligned, match="operand packed: an address that is a multiple of 16 bytes"):
        cutplan.unpack_weights(odd)
