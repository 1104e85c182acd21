"""Weights of few bits as calls: packed, from the layouts that others store them in, and back to floats."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core, _frameworks, _plans
from ._quantize import Quantized, quantize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._typing import CodeOrderLike, DTypeLike, PackedAlongLike, StreamLike, Tensor, WeightFormatLike

_GROUP_SIZES = (32, 64, 128)
_FLOATS = ("float16", "bfloat16", "float32")

# Dettmers et al. 2023, QLoRA, appendix E.
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class PackedWeights(NamedTuple):
    """A weight [k, n] as kernels read it: all of it in `data`, one uint8 tensor, which says what it is.

    value(k, n) = (decode(code) - zero) * scale, of groups of `group_size` rows; a group of a whole column
    has k rounded up to 64. With `has_permutation` rows have an order of their own in `data`, which every
    reader undoes. Keep `data`, in a state dict for one, and from_tensor() makes the rest of it again.
    """

    data: Any
    format: str
    n: int
    k: int
    group_size: int
    scale_dtype: str
    has_zero: bool
    has_permutation: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(k, n): of what unpack_weights() returns."""
        return self.k, self.n

    @property
    def packing(self) -> _core.WeightPacking:
        """What a plan for products of it is selected with."""
        return _core.WeightPacking(
            format=self.format,  # type: ignore[arg-type]
            n=self.n,
            group_size=self.group_size,
            scale=self.scale_dtype,
            zero=self.has_zero,
            permutation=self.has_permutation,
        )

    @classmethod
    def from_tensor(cls, data: Tensor) -> PackedWeights:
        """Of a tensor that was `data`; its first 256 bytes are read, which waits for the device.

        Raises InvalidProblem where it is no packed weight or its header is damaged, Unsupported where it
        is of another version of the layout, and ShapeMismatch where it has not the length that the header
        says.
        """
        info = _core.inspect(data, "data")
        if str(info.dtype) != "uint8":
            raise _core.DTypeMismatch(
                f"operand data: dtype uint8 required, got {info.dtype}; view it as bytes"
            )
        if len(info.shape) != 1:
            raise _core.ShapeMismatch(f"operand data: rank 1 required, got {[*info.shape]}")
        size = info.shape[0]
        if size > 1 and info.strides[0] != 1:
            raise _core.LayoutMismatch(f"operand data: contiguous required, got stride {info.strides[0]}")
        d = _core.read_packed_weights(bytes(_values(data[:256], "data")), size)  # type: ignore[index]
        return cls(data, d.format, d.n, d.k, d.group_size, str(d.scale), d.zero, d.permutation)


class _PackWeights:
    """Packs a weight [k, n], matmul's b, for products that read codes and scales.

    ``pack_weights(w, format)`` takes floats, codes or a Quantized; ``pack_weights.from_gptq()`` and its
    kin take what other libraries store. Each returns a PackedWeights in the framework of its first
    argument.
    """

    __name__ = __qualname__ = "pack_weights"
    __module__ = "cutplan"

    def __repr__(self) -> str:
        return "cutplan.pack_weights"

    def __reduce__(self) -> str:
        return "pack_weights"

    def __call__(
        self,
        w: Tensor | Quantized,
        format: WeightFormatLike,
        *,
        group_size: int | None = 128,
        scale: Tensor | None = None,
        zero: Tensor | None = None,
        stream: StreamLike | None = None,
    ) -> PackedWeights:
        """Packs `w` [k, n] as `format`: "int4", "uint4", "int8", "e4m3", "nf4" or "e2m1".

        `group_size` rows share a scale: 32, 64, 128, or -1, or k and more, for a whole column.

        Floats (float16, bfloat16, float32; one of the dimensions contiguous) are quantised to nearest,
        with scales of float32: "int4", "int8" and "e4m3" as quantize() does, symmetrically, "uint4" as it
        does with a zero point; "nf4" and "e2m1" with the greatest magnitude of a group as 1 and as 6.

        Codes, of any strides, come with `scale` [groups, n] (float16, bfloat16 or float32, and kept so;
        of a whole column also [n]), and, of "int4", "uint4" and "int8", perhaps `zero` of scale's shape,
        integers or of scale's type, in units of the codes' values. int8, int32 and int64 hold values of
        "int4" and "int8" (from -8 to 7 and from -128 to 127), uint8 holds codes (8 and 128 more). Of
        other formats both hold codes; "e4m3" may be float8_e4m3fn.

        A Quantized is one of a [k, n] in groups along axis -2, by columns, or as one tensor.

        Raises what PackWeightsPlan.select and PackWeightsPlan.run do, and InvalidProblem for codes beyond
        their range: these are looked at, which waits for the device.
        """
        name, size = str(format), _given(128 if group_size is None else group_size)
        if isinstance(w, Quantized):
            return _of_quantized(w, name, size, scale, zero, stream)
        info = _matrix(w, "w")
        if str(info.dtype) in _FLOATS:
            for operand, given in (("scale", scale), ("zero", zero)):
                if given is not None:
                    raise _core.InvalidProblem(
                        f"operand {operand}: none required with w of floats, which are quantised here, got "
                        "one; pass codes with it, or PackWeightsPlan's w of floats for nf4 and e2m1"
                    )
            return _of_floats(w, info, name, size, stream)
        if scale is None:
            raise _core.MissingOperand(f"operand scale: required with w of {info.dtype}, codes, not given")
        _check_codes(w, info, name)
        signed = name in ("int4", "int8") and str(info.dtype) in ("int8", "int32", "int64")
        n = info.shape[1]
        scale = _of_columns(scale, "scale", n)
        zero = zero if zero is None else _of_columns(zero, "zero", n)
        return _pack(w, scale, zero, format=name, group_size=size, signed=signed, stream=stream)

    @staticmethod
    def from_gptq(
        qweight: Tensor,
        qzeros: Tensor | None,
        scales: Tensor,
        g_idx: Tensor | None = None,
        *,
        bits: int = 4,
        group_size: int | None = None,
        v2: bool = False,
    ) -> PackedWeights:
        """What AutoGPTQ, GPTQModel and Transformers store for GPTQ.

        `qweight` int32 [k / c, n], c = 32 / bits codes along k in a word, `qzeros` int32 [groups, n / c],
        `scales` [groups, n]. A stored zero point is one less than it is; with `v2`, of checkpoint_format
        "gptq_v2", it is what it is. Without qzeros it is 8 (8 bits: 128).

        `g_idx` int32 [k] says which group a row is of. Where rows are not in the order of their groups
        (act_order, desc_act), the order is kept beside the codes. It has to be given then: without it
        such weights cannot be told from others.
        """
        _codes_of_word(bits)
        info, of_scales = _matrix(qweight, "qweight"), _matrix(scales, "scales")
        k = info.shape[0] * max(_width(info) // bits, 1)
        size = _inferred(group_size, k, of_scales.shape[0], "scales")
        permutation = None if g_idx is None else _permutation(g_idx, "g_idx", k, size, qweight, info)
        format = ("int4" if qzeros is None else "uint4") if bits == 4 else "int8"
        bias = 0 if qzeros is None else (0 if v2 else 1) - (128 if bits == 8 else 0)
        return _pack(
            qweight, scales, qzeros, permutation, format=format, group_size=size, along="k",
            zero_packed=qzeros is not None, zero_bias=bias,
            names={"w": "qweight", "scale": "scales", "zero": "qzeros", "permutation": "g_idx"},
        )  # fmt: skip

    @staticmethod
    def from_awq(
        qweight: Tensor,
        qzeros: Tensor,
        scales: Tensor,
        *,
        bits: int = 4,
        group_size: int | None = None,
    ) -> PackedWeights:
        """What AutoAWQ stores for its GEMM kernels.

        `qweight` int32 [k, n / 8], eight codes along n in a word, in the order 0, 2, 4, 6, 1, 3, 5, 7,
        `qzeros` int32 [groups, n / 8] likewise, `scales` [groups, n].
        """
        if bits != 4:
            raise _core.Unsupported(f"bits: 4 required of AWQ, got {bits}")
        if qzeros is None:
            raise _core.MissingOperand("operand qzeros: required, not given")
        info, of_scales = _matrix(qweight, "qweight"), _matrix(scales, "scales")
        _check_kind(info, "qweight", "int32")
        size = _inferred(group_size, info.shape[0], of_scales.shape[0], "scales")
        return _pack(
            qweight, scales, qzeros, format="uint4", group_size=size, along="n", order="awq",
            zero_packed=True,
            names={"w": "qweight", "scale": "scales", "zero": "qzeros"},
        )  # fmt: skip

    @staticmethod
    def from_compressed_tensors(
        weight_packed: Tensor,
        weight_scale: Tensor,
        weight_shape: Tensor | Sequence[int] | None = None,
        weight_zero_point: Tensor | None = None,
        weight_g_idx: Tensor | None = None,
        *,
        bits: int = 4,
    ) -> PackedWeights:
        """What compressed-tensors stores as "pack-quantized", of llm-compressor for one.

        `weight_packed` int32 [n, k / c], c = 32 / bits codes along k in a word, 8 (8 bits: 128) more than
        their values; `weight_scale` [n, groups]; `weight_zero_point` packed likewise along n, int32 [n /
        c, groups], or int8 [n, groups] of values. `weight_g_idx` as from_gptq() has it; one of -1 in
        every place is none. `weight_shape`, (n, k), is compared with what the words hold.
        """
        codes = _codes_of_word(bits)
        info, of_scale = _matrix(weight_packed, "weight_packed"), _matrix(weight_scale, "weight_scale")
        _check_kind(info, "weight_packed", "int32")
        n, k = info.shape[0], info.shape[1] * codes
        if weight_shape is not None:
            rows, columns = (int(x) for x in _values(weight_shape, "weight_shape"))
            if columns % codes and -(-columns // codes) * codes == k:
                raise _core.InvalidProblem(
                    f"k: a multiple of {codes} required, the codes of one int32, got {columns}; "
                    f"pad the weight to {k} before it is quantised"
                )
            if (rows, columns) != (n, k):
                raise _core.ShapeMismatch(
                    f"operand weight_packed: the codes of weight_shape {[rows, columns]} required, "
                    f"got {[n, k]}"
                )
        size = _inferred(None, k, of_scale.shape[1], "weight_scale")
        zero, zero_packed, bias = None, False, 0
        if weight_zero_point is not None:
            of_zero = _matrix(weight_zero_point, "weight_zero_point")
            zero_packed = str(of_zero.dtype) == "int32" and of_zero.shape[0] != n
            bias = -(1 << (bits - 1)) if zero_packed else 0
            zero = _transposed(weight_zero_point, of_zero)
        permutation = None
        if weight_g_idx is not None:
            permutation = _permutation(weight_g_idx, "weight_g_idx", k, size, weight_packed, info)
        return _pack(
            _transposed(weight_packed, info), _transposed(weight_scale, of_scale), zero, permutation,
            format="int4" if bits == 4 else "int8", group_size=size, along="k", zero_packed=zero_packed,
            zero_bias=bias,
            names={"w": "weight_packed", "scale": "weight_scale", "zero": "weight_zero_point",
                   "permutation": "weight_g_idx"},
        )  # fmt: skip

    @staticmethod
    def from_torchao(
        qdata: Tensor,
        scale: Tensor | None = None,
        zero_point: Tensor | None = None,
        *,
        scale_and_zero: Tensor | None = None,
        shape: Sequence[int] | None = None,
        bits: int = 4,
        high_first: bool = False,
    ) -> PackedWeights:
        """What torchao's weight-only tensors hold: their qdata, scale and zero_point, or scale_and_zero.

        `qdata` [n, k] has a code an element: int8 has values, uint8 codes. [n, k / 2], of uint8, or of a
        `shape`, (n, k), twice as wide, has two codes along k in a byte, the first in the low half or,
        with `high_first`, in the high one. `scale` and `zero_point` are [n, groups] or [groups, n]. A
        zero point of integers is subtracted before the product with scale; one of floats is added after
        it, to value * scale or (code - 8) * scale.

        int32 `qdata` [n / 8, k / (16 i), 32, i / 2] are the tiles of torch's _convert_weight_to_int4pack
        for CUDA, `scale_and_zero` is [groups, n, 2], and the value (code - 8) * scale + zero. `shape`
        cuts off what they were padded with.

        What is added is kept as -zero / scale in float32, and so are then scales: values differ from the
        exact ones by 2^-22 of |code - 8| scale + |zero| at most. Raises InvalidProblem where that is not
        finite; a scale of 0 has no such form.
        """
        info = _core.inspect(qdata, "qdata")
        if len(info.shape) == 4:
            return _of_tiles(qdata, info, scale_and_zero, shape)
        if len(info.shape) != 2:
            raise _core.ShapeMismatch(f"operand qdata: rank 2 or 4 required, got {[*info.shape]}")
        if scale_and_zero is not None:
            raise _core.InvalidProblem(
                "operand scale_and_zero: none required but with tiles, qdata of rank 4, got one; pass scale"
            )
        if scale is None:
            raise _core.MissingOperand("operand scale: required, not given")
        codes = _codes_of_word(bits)
        kind, (n, width) = str(info.dtype), info.shape
        packed = codes == 8 and (kind == "uint8" if shape is None else width * 2 == shape[1])
        k = 2 * width if packed else width
        if shape is not None and (n, k) != tuple(shape):
            raise _core.ShapeMismatch(
                f"operand qdata: the codes of shape {[*shape]} required, got {[*info.shape]} of {kind}"
            )
        if high_first and not packed:
            raise _core.InvalidProblem("high_first: False required where bytes hold one code, got True")
        format = "int8" if bits == 8 else "uint4" if kind == "uint8" else "int4"
        signed, bias = kind != "uint8", 0
        of_scale, groups = _by_groups(scale, "scale", n)
        zero = None
        if zero_point is not None:
            zero, _ = _by_groups(zero_point, "zero_point", n)
            if str(_core.inspect(zero_point, "zero_point").dtype) in _FLOATS:
                if isinstance(scale, _core.TensorView) or isinstance(zero_point, _core.TensorView):
                    raise _core.Unsupported(
                        "operand zero_point: integers required of a TensorView; those that are added to the "
                        "product are made anew, by their own library"
                    )
                format = "int8" if bits == 8 else "int4"
                of_scale, zero = _folded_zero(of_scale, zero)
            elif bits == 8 and not signed:
                bias = -128
        elif bits == 8 and not signed:
            raise _core.MissingOperand("operand zero_point: required with codes of uint8, not given")
        if not packed:
            _check_codes(qdata, info, format, "qdata")
        return _pack(
            _transposed(qdata, info), of_scale, zero, format=format,
            group_size=_inferred(None, k, groups, "scale"), along="k" if packed else "none",
            order="high_first" if high_first else "linear", signed=signed, zero_bias=bias,
            names={"w": "qdata", "zero": "zero_point"},
        )  # fmt: skip

    @staticmethod
    def from_nf4(
        packed: Tensor,
        absmax: Tensor,
        shape: Sequence[int],
        *,
        blocksize: int = 64,
        code: Tensor | None = None,
        nested_absmax: Tensor | None = None,
        nested_code: Tensor | None = None,
        nested_offset: float = 0.0,
        nested_blocksize: int = 256,
    ) -> PackedWeights:
        """What bitsandbytes stores for NF4, a weight of `shape` (n, k).

        `packed` uint8, n * k / 2 of them, contiguous: two codes in a byte, the first in the high half;
        `absmax` one for each `blocksize` elements, which k has to be a multiple of. `code` (quant_map) is
        compared with the table of NF4. Doubly quantised, absmax is uint8, and nested_code[absmax] *
        nested_absmax + nested_offset in float32, a nested_absmax for each `nested_blocksize`.
        """
        n, k = (int(x) for x in shape)
        if code is not None:
            table = _values(code, "code")
            if len(table) != 16 or any(abs(x - y) > 1e-6 for x, y in zip(table, _NF4, strict=True)):
                raise _core.Unsupported(
                    "operand code: the table of NF4 required, got another; FP4 of bitsandbytes is no e2m1: "
                    "dequantise it and pack the floats"
                )
        if blocksize < 1 or k % blocksize or k % 2:
            raise _core.InvalidProblem(
                f"shape: k a multiple of blocksize, {blocksize}, required, so that blocks are of one row, "
                f"got k = {k}; dequantise it and pack the floats"
            )
        info, of_absmax = _core.inspect(packed, "packed"), _core.inspect(absmax, "absmax")
        _check_kind(info, "packed", "uint8")
        _check_flat(info, "packed", n * k // 2)
        blocks = n * k // blocksize
        if nested_absmax is not None or str(of_absmax.dtype) == "uint8":
            if nested_absmax is None or nested_code is None:
                missing = "nested_absmax" if nested_absmax is None else "nested_code"
                raise _core.MissingOperand(f"operand {missing}: required with absmax of uint8, not given")
            absmax = _unnested(absmax, nested_absmax, nested_code, float(nested_offset), nested_blocksize)
            of_absmax = _core.inspect(absmax, "absmax")
        _check_flat(of_absmax, "absmax", blocks)
        groups = k // blocksize
        return _pack(
            _core.TensorView(packed, shape=(k // 2, n), strides=(1, k // 2)),
            _core.TensorView(absmax, shape=(groups, n), strides=(1, groups)),
            None, format="nf4", group_size=0 if groups <= 1 else blocksize, along="k", order="high_first",
            names={"scale": "absmax", "w": "packed", "packed": "data"},
        )  # fmt: skip

    @staticmethod
    def from_kaio(packed: Tensor, scales: Tensor, *, group_size: int = 128) -> PackedWeights:
        """What KAIO's matmul_int4 and qkv_project_int4 take.

        `packed` [k / 8, n], 32-bit words in contiguous memory, of which word k / 8 + n * (k / 8) has
        element (k, n), two's complement, in nibble k % 8: the words of a column lie side by side,
        whatever the shape says. `scales` [k / group_size, n].
        """
        packed = _as_int32(packed)
        info = _matrix(packed, "packed")
        _check_kind(info, "packed", "int32")
        words, n = info.shape
        _check_flat(info, "packed", words * n)
        return _pack(
            _core.TensorView(packed, shape=(words, n), strides=(1, words)), scales, None, format="int4",
            group_size=_given(group_size), along="k", signed=True,
            names={"scale": "scales", "w": "packed", "packed": "data"},
        )  # fmt: skip


pack_weights = _PackWeights()


def packings(b: PackedWeights, b2: Any) -> tuple[_core.WeightPacking, Tensor, Tensor | None]:
    """What a product's b and b2 hold, and their tensors."""
    if b2 is None:
        return b.packing, b.data, None
    if not isinstance(b2, PackedWeights) or b2[1:] != b[1:]:
        got = str(b2[1:]) if isinstance(b2, PackedWeights) else type(b2).__name__
        raise _core.Unsupported(f"operand b2: packed weights as b, {b[1:]}, required, got {got}")
    return b.packing, b.data, b2.data


def unpack_weights(
    packed: PackedWeights, out_dtype: DTypeLike = "float32", *, stream: StreamLike | None = None
) -> Any:
    """``(decode(code) - zero) * scale`` [k, n], a float32 product, as `out_dtype`.

    That is float16, bfloat16 or float32.

    Rows are in the order that they had when they were packed. Errors are those of
    UnpackWeightsPlan.select and UnpackWeightsPlan.run.
    """
    if not isinstance(packed, PackedWeights):
        raise TypeError(
            f"packed: a PackedWeights required, as pack_weights() returns it, got {type(packed).__name__}; "
            "PackedWeights.from_tensor() makes one of its tensor"
        )
    p = packed
    plan, out = _core.call_unpack_weights(
        p.data, None, p.n, p.k, p.format, p.group_size, p.scale_dtype, p.has_zero, p.has_permutation,
        out_dtype, None, None, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return out


def _pack(
    w: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    permutation: Tensor | None = None,
    *,
    format: str,
    group_size: int,
    along: PackedAlongLike = "none",
    order: CodeOrderLike = "linear",
    signed: bool = False,
    zero_packed: bool = False,
    zero_bias: int = 0,
    names: dict[str, str] | None = None,
    stream: StreamLike | None = None,
) -> PackedWeights:
    plan, data = _core.call_pack_weights(
        w, scale, None, zero, permutation, format, group_size, along, order, signed, zero_packed, zero_bias,
        None, None, None, stream, None, names,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    d = plan.descriptor
    return PackedWeights(
        data, d.format, d.n, d.k, d.group_size, str(d.scale), d.zero is not None, d.permutation
    )


# ---- extents ----


def _given(group_size: int) -> int:
    """As plans have it: 0 is a whole column."""
    return 0 if group_size == -1 else group_size


def _inferred(group_size: int | None, k: int, groups: int, operand: str) -> int:
    """The size that makes so many groups."""
    if group_size is not None:
        return _given(group_size)
    if groups <= 1:
        return 0
    for size in _GROUP_SIZES:
        if -(-k // size) == groups:
            return size
    raise _core.ShapeMismatch(
        f"operand {operand}: groups of 32, 64 or 128 of the {k} rows, or one, required, got {groups}; where "
        "a group is a multiple of one of these, repeat each scale and zero"
    )


def _codes_of_word(bits: int) -> int:
    if bits not in (4, 8):
        raise _core.Unsupported(f"bits: 4 or 8 required, got {bits}")
    return 32 // bits


def _width(info: _core.TensorInfo) -> int:
    """Bits of an element; of what holds no codes any, for the plan refuses it."""
    return {"uint8": 8, "int8": 8}.get(str(info.dtype), 32)


def _matrix(tensor: Any, operand: str) -> _core.TensorInfo:
    if tensor is None:
        raise _core.MissingOperand(f"operand {operand}: required, not given")
    info = _core.inspect(tensor, operand)
    if len(info.shape) != 2:
        raise _core.ShapeMismatch(f"operand {operand}: rank 2 required, got {[*info.shape]}")
    return info


def _check_kind(info: _core.TensorInfo, operand: str, kind: str) -> None:
    if str(info.dtype) != kind:
        raise _core.DTypeMismatch(
            f"operand {operand}: dtype {kind} required, got {info.dtype}; view it as {kind}, "
            "if its memory is that"
        )


def _transposed(tensor: Tensor, info: _core.TensorInfo) -> _core.TensorView:
    return _core.TensorView(tensor, shape=info.shape[::-1], strides=info.strides[::-1])


def _of_columns(tensor: Tensor, operand: str, n: int) -> Tensor:
    """[n], of whole columns, as [1, n]."""
    info = _core.inspect(tensor, operand)
    if info.shape != (n,):
        return tensor
    return _core.TensorView(tensor, shape=(1, n), strides=(0, info.strides[0]))


def _by_groups(tensor: Tensor, operand: str, n: int) -> tuple[Tensor, int]:
    """[n, groups], [groups, n] or [n] as [groups, n], and how many there are."""
    if len(_core.inspect(tensor, operand).shape) == 1:
        return _of_columns(tensor, operand, n), 1
    info = _matrix(tensor, operand)
    if info.shape[0] != n and info.shape[1] != n:
        raise _core.ShapeMismatch(
            f"operand {operand}: shape [{n}, groups] or [groups, {n}] required, got {[*info.shape]}"
        )
    if info.shape[0] == info.shape[1] != 1:
        raise _core.ShapeMismatch(
            f"operand {operand}: as many groups as columns, {n}, required not to be, for the order of its "
            "dimensions cannot be told; pass codes, scale and zero to pack_weights()"
        )
    if info.shape[0] == n:
        return _transposed(tensor, info), info.shape[1]
    return tensor, info.shape[0]


def _check_flat(info: _core.TensorInfo, operand: str, size: int) -> None:
    """Of any shape, as many elements, side by side."""
    if math.prod(info.shape) != size:
        raise _core.ShapeMismatch(f"operand {operand}: {size} elements required, got {[*info.shape]}")
    reach = 1
    for extent, stride in zip(reversed(info.shape), reversed(info.strides), strict=True):
        if extent > 1 and stride != reach and size > 0:
            raise _core.LayoutMismatch(
                f"operand {operand}: contiguous required, got strides {[*info.strides]} of {[*info.shape]}; "
                "pass a contiguous copy"
            )
        reach *= extent


# ---- values that the host looks at, and the frameworks' own arithmetic ----


def _values(tensor: Any, operand: str) -> list[Any]:
    if isinstance(tensor, _core.TensorView):
        raise _core.Unsupported(f"operand {operand}: a tensor of its own library required, got a TensorView")
    return list(tensor.tolist() if hasattr(tensor, "tolist") else tensor)


def _permutation(
    g_idx: Tensor, operand: str, k: int, group_size: int, like: Tensor, info: _core.TensorInfo
) -> Tensor | None:
    """Rows in the order of their groups, those of one group as they were; None where they are so already."""
    groups: list[int] = _values(g_idx, operand)
    if len(groups) != k:
        raise _core.ShapeMismatch(f"operand {operand}: shape [{k}] (rows) required, got [{len(groups)}]")
    if all(group == -1 for group in groups):
        return None
    size = group_size if group_size else max(k, 1)
    if k > size and not any(groups):
        raise _core.InvalidProblem(
            f"operand {operand}: the group of each row required, got 0 for all of {-(-k // size)} groups; "
            "the index was never filled in, or is of other weights"
        )
    order = sorted(range(k), key=groups.__getitem__)
    for j, row in enumerate(order):
        if groups[row] != j // size:
            raise _core.InvalidProblem(
                f"operand {operand}: {size} rows of each group required, from group 0 on, got row {row} of "
                f"group {groups[row]} as number {j} in the order of groups; pass the group_size that they "
                "were quantised with"
            )
    if all(j == row for j, row in enumerate(order)):
        return None
    made: Tensor = _frameworks.int32_values(info, like, order)
    return made


def _check_codes(w: Tensor, info: _core.TensorInfo, format: str, operand: str = "w") -> None:
    """Elements of more bits than a code has hold no more than one."""
    kind, four = str(info.dtype), format not in ("int8", "e4m3")
    wide = {"int8": 8, "uint8": 8, "int32": 32, "int64": 64}.get(kind, 0)
    if isinstance(w, _core.TensorView) or wide <= (4 if four else 8) or 0 in info.shape:
        return
    span = 16 if four else 256
    first = -span // 2 if format in ("int4", "int8") and kind != "uint8" else 0
    least, most = int(w.min()), int(w.max())  # type: ignore[union-attr]
    if least < first or most >= first + span:
        wrong = least if least < first else most
        raise _core.InvalidProblem(
            f"operand {operand}: from {first} to {first + span - 1} required in {kind} with {format}, "
            f"got {wrong}"
        )


def _kind(tensor: Any, name: str) -> Any:
    """Elements of another type, in the tensor's own framework."""
    if type(tensor).__module__.split(".")[0] == "torch":
        import torch

        return tensor.to(getattr(torch, name))
    return tensor.astype(name)


def _as_int32(tensor: Any) -> Any:
    """Words without a sign, which no plan reads."""
    if str(getattr(tensor, "dtype", "")) not in ("uint32", "torch.uint32"):
        return tensor
    if type(tensor).__module__.split(".")[0] == "torch":
        import torch

        return tensor.view(torch.int32)
    return tensor.view("int32")


def _own(view: Any) -> Any:
    """A view of two dimensions made here, as a tensor of its library."""
    if not isinstance(view, _core.TensorView):
        return view
    tensor, shape = _frameworks.unwrap(view), _core.inspect(view).shape
    return (
        tensor.T if tuple(tensor.shape) != tuple(shape) and len(tensor.shape) == 2 else tensor.reshape(shape)
    )


def _folded_zero(scale: Any, zero: Any) -> tuple[Any, Any]:
    """value * scale + zero as (value - other) * scale, in float32."""
    scale, zero = _kind(_own(scale), "float32"), _kind(_own(zero), "float32")
    if 0 not in scale.shape:
        none = bool((scale == 0).any())
        with _frameworks.quiet(scale):
            other = zero if none else -(zero / scale)
        if none or not bool((abs(other) < float("inf")).all()):
            raise _core.InvalidProblem(
                "operand scale: other than 0, and finite zero / scale, required of a zero that is added to "
                "the product, got "
                + ("0" if none else "zero / scale beyond float32")
                + "; dequantise the weight and pack the floats"
            )
        zero = other
    return scale, zero


def _of_tiles(
    qdata: Any, info: _core.TensorInfo, scale_and_zero: Any, shape: Sequence[int] | None
) -> PackedWeights:
    """Of the fragments of B that mma.m16n8k16 takes: a lane's word has two tiles of 16 along k."""
    if str(info.dtype) != "int32" or info.shape[2] != 32 or info.shape[3] not in (1, 2, 4):
        raise _core.ShapeMismatch(
            "operand qdata: int32 [n / 8, k / (16 i), 32, i / 2] with i of 2, 4 or 8 required of rank 4, got "
            f"{info.dtype} {[*info.shape]}"
        )
    if scale_and_zero is None:
        raise _core.MissingOperand("operand scale_and_zero: required with qdata of rank 4, not given")
    of_scale = _core.inspect(scale_and_zero, "scale_and_zero")
    tiles, outer, _, inner = info.shape
    n, k = tiles * 8, outer * inner * 32
    rows, columns = (n, k) if shape is None else (int(x) for x in shape)
    if rows > n or columns > k:
        raise _core.ShapeMismatch(
            f"shape: at most {[n, k]}, what qdata holds, required, got {[rows, columns]}"
        )
    if len(of_scale.shape) != 3 or of_scale.shape[1:] != (n, 2):
        raise _core.ShapeMismatch(
            f"operand scale_and_zero: shape [groups, {n}, 2] required, got {[*of_scale.shape]}"
        )
    size = _inferred(None, k, of_scale.shape[0], "scale_and_zero")
    shifts = _frameworks.int32_values(info, qdata, [4 * i for i in range(8)])
    codes = (qdata[..., None] >> shifts) & 15
    # From [n / 8, outer, n, k pair, inner, half, k16, k8]; dimensions of one kind join.
    codes = codes.reshape((tiles, outer, 8, 4, inner, 2, 2, 2))
    axes = (0, 2, 1, 4, 6, 7, 3, 5)
    codes = codes.permute(axes) if hasattr(codes, "permute") else codes.transpose(axes)
    codes = codes.reshape((n, k))[:rows, :columns].T
    groups = 1 if size == 0 else -(-columns // size)
    cut = scale_and_zero[:groups, :rows]
    scale, zero = _folded_zero(cut[..., 0], cut[..., 1])
    return _pack(
        codes, scale, zero, format="int4", group_size=size, names={"w": "qdata", "scale": "scale_and_zero"}
    )


def _unnested(absmax: Any, nested_absmax: Any, nested_code: Any, offset: float, blocksize: int) -> Any:
    absmax = absmax.reshape((-1,))
    repeat = getattr(nested_absmax, "repeat_interleave", None) or nested_absmax.repeat
    scales = repeat(blocksize)[: absmax.shape[0]]
    if scales.shape[0] != absmax.shape[0]:
        raise _core.ShapeMismatch(
            f"operand nested_absmax: one for each {blocksize} of the {absmax.shape[0]} of absmax required, "
            f"got {[*nested_absmax.shape]}"
        )
    return _kind(nested_code, "float32")[_kind(absmax, "int32")] * scales + offset


# ---- what is quantised ----


def _of_quantized(
    q: Quantized, format: str, group_size: int, scale: Any, zero: Any, stream: StreamLike | None
) -> PackedWeights:
    for name, given in (("scale", scale), ("zero", zero)):
        if given is not None:
            raise _core.InvalidProblem(
                f"operand {name}: none required with a Quantized, which has its own, got one"
            )
    kinds = {"int4": "int4" if q.zero is None else "uint4", "int8": "int8", "float8_e4m3fn": "e4m3"}
    kind = str(q.dtype)
    if kinds.get(kind) != format:
        raise _core.Unsupported(
            f"format: {kinds[kind]!r} required of a Quantized of {kind}"
            f"{' with zero' if q.zero is not None else ''}, got {format!r}"
            if kind in kinds
            else f"operand w: a Quantized of int4, int8 or float8_e4m3fn required, got {kind}"
        )
    info = _matrix(q.data, "w")
    n = info.shape[1] * (2 if kind == "int4" else 1)
    granularity = str(q.granularity)
    if granularity == "group" and q.axis == -2:
        size = q.group_size
        views = (q.scale, q.zero)
    elif granularity in ("column", "tensor"):
        size = 0
        step = 1 if granularity == "column" else 0

        def row(tensor: Any, operand: str) -> Any:
            info = _core.inspect(tensor, operand)
            if info.shape != ((n,) if step else (1,)):
                raise _core.ShapeMismatch(
                    f"operand {operand}: shape {[n] if step else [1]} required, got {[*info.shape]}"
                )
            return _core.TensorView(tensor, shape=(1, n), strides=(0, info.strides[0] * step))

        views = (row(q.scale, "scale"), None if q.zero is None else row(q.zero, "zero"))
    else:
        raise _core.Unsupported(
            "operand w: a Quantized in groups along axis -2, by columns or as one tensor required, got "
            f"granularity {granularity!r}{f' along axis {q.axis}' if granularity == 'group' else ''}"
        )
    if group_size not in (128, size):
        raise _core.InvalidProblem(
            f"group_size: that of the Quantized, {size if size else 'a whole column'}, required, "
            f"got {group_size}"
        )
    return _pack(
        q.data, views[0], views[1], format=format, group_size=size, along="n" if kind == "int4" else "none",
        signed=kind == "int8" or format == "int4", stream=stream,
    )  # fmt: skip


def _of_floats(
    w: Tensor, info: _core.TensorInfo, format: str, group_size: int, stream: StreamLike | None
) -> PackedWeights:
    k, n = info.shape
    x, axis = w, -2
    if 0 not in info.shape and n > 1 and info.strides[1] != 1:
        if k > 1 and info.strides[0] != 1:
            raise _core.LayoutMismatch(
                f"operand w: one of its dimensions contiguous required of floats, got strides "
                f"{[*info.strides]} of {[*info.shape]}; pass a contiguous copy"
            )
        x, axis = _transposed(w, info), -1  # its columns are quantised as rows
    # Checked here, because sizes that the layout has not would be found only when all is quantised.
    if group_size and group_size not in _GROUP_SIZES and group_size < k:
        raise _core.Unsupported(
            f"group_size: 32, 64, 128, or -1 or at least k = {k}, for a whole column, required, "
            f"got {group_size}"
        )
    options: dict[str, Any] = {
        "granularity": "group", "group_size": min(group_size, max(k, 1)) or max(k, 1), "axis": axis,
        "stream": stream,
    }  # fmt: skip

    def turned(tensor: Any) -> Any:
        return tensor if axis == -2 or tensor is None else _transposed(tensor, _core.inspect(tensor))

    if options["group_size"] % 2:
        options["group_size"] += 1  # beyond k, where a pair of codes would be of two groups
    even = (n if axis == -2 else k) % 2 == 0
    if format in ("int8", "e4m3") or (format in ("int4", "uint4") and even):
        name = {"int8": "int8", "e4m3": "float8_e4m3fn"}.get(format, "int4")
        q = quantize(x, name, symmetric=format != "uint4", **options)
        along: PackedAlongLike = "none" if name != "int4" else "n" if axis == -2 else "k"
        return _pack(
            turned(q.data), turned(q.scale), turned(q.zero), format=format, group_size=group_size,
            along=along, signed=format in ("int4", "int8"), stream=stream,
        )  # fmt: skip
    if format == "uint4":
        extent = "n" if axis == -2 else "k"
        raise _core.InvalidProblem(
            f"{extent}: an even number required of floats with uint4, got {n if axis == -2 else k}; use "
            f"int4, or pad to {(n if axis == -2 else k) + 1}"
        )
    if format not in ("int4", "nf4", "e2m1"):
        raise ValueError(
            f"format: must be one of 'int4', 'uint4', 'int8', 'e4m3', 'nf4', 'e2m1'; got {format!r}"
        )
    groups = -(-k // options["group_size"])
    amax = _frameworks.empty(info, w, (groups, n) if axis == -2 else (n, groups), _core.DType.float32, stream)
    quantize(x, "int8", amax=amax, **options)
    with _frameworks.on_stream(info, _frameworks.unwrap(w), stream):
        largest: Any = {"int4": 7, "nf4": 1, "e2m1": 6}[format]
        if hasattr(amax, "new_full"):
            largest = amax.new_full((1,), largest)  # by a number torch multiplies, by its inverse
        scale = amax / largest
        scale = scale + (scale == 0)
    if format == "int4":  # of pairs that do not fit: as bytes, which have the bits of int4
        q = quantize(x, "int8", scale=scale, **options)
        return _pack(
            turned(q.data),
            turned(scale),
            None,
            format=format,
            group_size=group_size,
            signed=True,
            stream=stream,
        )
    return _pack(w, turned(scale), None, format=format, group_size=group_size, stream=stream)
