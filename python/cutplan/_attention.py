"""Attention as one call: describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, TypeVar, overload

from . import _core, _errors, _frameworks, _plans

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import (
        AlignLike,
        Array,
        CausalLike,
        DTypeLike,
        FmhaLayoutLike,
        StreamLike,
        SupportsDLPack,
        Tensor,
    )

_TensorT = TypeVar("_TensorT", bound="SupportsDLPack | Array")


class _Options(TypedDict, total=False):
    """What both passes take, for type checkers."""

    causal: CausalLike | None
    scale: float | None
    window: tuple[int, int] | None
    softcap: float | None
    align: AlignLike | None
    alibi_slopes: Tensor | None
    bias: Tensor | None
    mask: Tensor | None
    sink: Tensor | None
    seqused_k: Tensor | None
    cu_seqlens_q: Tensor | None
    cu_seqlens_k: Tensor | None
    dropout_p: float | None
    rng_state: Tensor | None
    out_dtype: DTypeLike | None
    layout: FmhaLayoutLike | None
    preference: _core.PlanPreference | None
    stream: StreamLike | None


class AttentionGradients(NamedTuple):
    """What attention_backward() returns; None is what was not asked for."""

    dq: Any
    dk: Any
    dv: Any
    dbias: Any
    dalibi_slopes: Any
    dsink: Any


@overload
def attention(
    q: _core.TensorView,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: bool = False,
    out: Tensor | None = None,
    **options: Unpack[_Options],
) -> Any: ...


@overload
def attention(
    q: _TensorT,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: Literal[False] = False,
    out: None = None,
    **options: Unpack[_Options],
) -> _TensorT: ...


@overload
def attention(
    q: _TensorT,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: Literal[True],
    out: None = None,
    **options: Unpack[_Options],
) -> tuple[_TensorT, _TensorT]: ...


@overload
def attention(
    q: _TensorT,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: bool,
    out: None = None,
    **options: Unpack[_Options],
) -> _TensorT | tuple[_TensorT, _TensorT]: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: Literal[False] = False,
    out: _TensorT,
    **options: Unpack[_Options],
) -> _TensorT: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: Literal[True],
    out: _TensorT,
    **options: Unpack[_Options],
) -> tuple[_TensorT, Any]: ...


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    return_lse: bool,
    out: _TensorT,
    **options: Unpack[_Options],
) -> _TensorT | tuple[_TensorT, Any]: ...


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: CausalLike | None = None,
    scale: float | None = None,
    window: tuple[int, int] | None = (-1, -1),
    softcap: float | None = 0.0,
    align: AlignLike | None = None,
    alibi_slopes: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    sink: Tensor | None = None,
    seqused_k: Tensor | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    dropout_p: float | None = 0.0,
    rng_state: Tensor | None = None,
    return_lse: bool = False,
    out: Tensor | None = None,
    out_dtype: DTypeLike | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """``softmax(scores) v`` for every head, in memory that is linear in the sequence length.

    Shapes: `q` [B, H, Sq, D], `k` [B, Hk, Sk, D], `v` [B, Hk, Sk, Dv], the result [B, H, Sq, Dv]; H is a
    multiple of Hk. ``layout="bshd"`` swaps heads and sequence. With `cu_seqlens_q` and `cu_seqlens_k` (int32
    [B + 1], the first row of each sequence and the end of the last) the sequences lie one after the other,
    and the dimension B is left out.

    Score of query i and key j: ``scale q_i . k_j`` (`scale` is 1 / sqrt(D) unless given), then
    ``softcap tanh(score / softcap)``, then minus ``slope |i + off - j|`` (`alibi_slopes` [H] or
    [B, H]), then plus `bias` (of q's type or float32; broadcasts to [B, H, Sq, Sk]). Key j takes part where
    all of these hold: `causal`, j <= i + off; `window` (left, right), i + off - left <= j <= i + off + right,
    -1 being no limit; `mask` (bool; broadcasts as the bias does) is true; j < `seqused_k` (int32 [B]). `off`
    is 0 for "top_left" and Sk - Sq for "bottom_right" alignment, which `causal` sets, or without it `align`
    ("bottom_right" unless given). `sink` ([H]) is one more logit, which has no value; slopes and sink are
    float32 or of the operands' type. `dropout_p` is the probability of dropping a weight, by random numbers
    from `rng_state` (int64 [2]: seed and offset).

    Returns o, or (o, lse) with `return_lse`: lse float32 [B, H, Sq] is the natural logarithm of the sum of
    exponentials. A row that sees no key has 0 in o and -inf in lse. o has `out_dtype`, or q's type; it is
    `out`, or a new tensor of q's library (NumPy, torch, CuPy, or JAX on the host). `stream` is None (the
    current stream of the output's library), an integer, or an object with ``__cuda_stream__``; the call does
    not wait for the GPU. `preference`, a PlanPreference, insists on how it is computed. An option that is
    None is its default.

    The plan is chosen once per kind of problem and kept; last_kernels() names it. Errors are those of
    FmhaPlan.select and FmhaPlan.run, in terms of these arguments.
    """
    window, softcap = (-1, -1) if window is None else window, 0.0 if softcap is None else softcap
    layout, dropout_p = "bhsd" if layout is None else layout, 0.0 if dropout_p is None else dropout_p
    _check(causal, dropout_p, rng_state, preference)
    q_info, v_info = _core.inspect(q, "q"), _core.inspect(v, "v")
    shape = q_info.shape[:-1] + v_info.shape[-1:]
    o, o_info, lender, lender_info, allocates = _frameworks.target(q_info, q, shape, out, out_dtype, stream)
    lse = None
    if return_lse:
        rows = _rows(q_info.shape, _core.FmhaLayout(layout))
        lse = _frameworks.empty(lender_info, lender, rows, _core.DType.float32, stream)
    try:
        descriptor = _core.describe_attention(
            q_info,
            k,
            v_info,
            o_info,
            lse=lse,
            bias=bias,
            mask=mask,
            alibi_slopes=alibi_slopes,
            sink=sink,
            seqused_k=seqused_k,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k,
            rng_state=rng_state,
            layout=layout,
            causal=causal,
            align=align,
            window=window,
            softcap=softcap,
        )
        generation = _core.tuning_generation()
        plan = _select(descriptor, q_info.device, allocates, preference, generation)
        # Scratch may go as soon as run() returns: on a GPU its library reuses it in the order of the stream.
        plan.run(
            q,
            k,
            v,
            o,
            lse=lse,
            bias=bias,
            mask=mask,
            alibi_slopes=alibi_slopes,
            sink=sink,
            seqused_k=seqused_k,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k,
            rng_state=rng_state,
            scale=scale,
            dropout_p=dropout_p,
            stream=stream,
            workspace=_frameworks.scratch(lender_info, lender, plan.workspace_size, stream),
        )
    except _core.Error as error:
        _errors.reword(error, {"o": "out"})
        _hint_layout(error, cu_seqlens_q, layout)
        raise
    _plans.of_thread.plans = (plan,)
    if out is None:
        o = _frameworks.finish(q_info, q, o)
    return (o, _frameworks.finish(lender_info, lender, lse)) if return_lse else o


def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    o: Tensor,
    lse: Tensor,
    *,
    causal: CausalLike | None = None,
    scale: float | None = None,
    window: tuple[int, int] | None = (-1, -1),
    softcap: float | None = 0.0,
    align: AlignLike | None = None,
    alibi_slopes: Tensor | None = None,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    sink: Tensor | None = None,
    seqused_k: Tensor | None = None,
    cu_seqlens_q: Tensor | None = None,
    cu_seqlens_k: Tensor | None = None,
    dropout_p: float | None = 0.0,
    rng_state: Tensor | None = None,
    dbias: bool = False,
    dalibi_slopes: bool = False,
    dsink: bool = False,
    grad_dtype: DTypeLike | None = None,
    deterministic: bool = False,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> AttentionGradients:
    """Gradients of attention() with respect to `q`, `k` and `v`, given `grad`, the gradient of its result.

    `o` and `lse` are what attention(..., return_lse=True) returned for the same operands and options. `grad`
    has o's shape and q's type; where its last dimension has stride 0, as that of ``o.sum().backward()`` has,
    its library makes a contiguous copy first, for kernels read whole rows. dq, dk and dv have the shapes of
    q, k and v, and `grad_dtype` or q's type; they are new tensors of q's library.

    `dbias`, `dalibi_slopes` and `dsink` ask for the gradients of those operands: of their shapes and
    types. Where the bias is broadcast, its gradient is summed.

    `deterministic` gives the same bits for the same inputs, which the default does not promise on a GPU;
    `preference`, a PlanPreference, has it too. Errors are those of FmhaBackwardPlan.select and
    FmhaBackwardPlan.run, in terms of these arguments.
    """
    window, softcap = (-1, -1) if window is None else window, 0.0 if softcap is None else softcap
    layout, dropout_p = "bhsd" if layout is None else layout, 0.0 if dropout_p is None else dropout_p
    _check(causal, dropout_p, rng_state, preference)
    q_info = _core.inspect(q, "q")
    _, grad = _frameworks.apart(_core.inspect(grad, "grad"), grad, 1, stream)

    def gradient(name: str, operand: Tensor, dtype: _core.DType | None) -> Any:
        info = _core.inspect(operand, name)
        return _frameworks.empty(q_info, q, info.shape, info.dtype if dtype is None else dtype, stream)

    def further(name: str, operand: Tensor | None, wanted: bool) -> Any:
        if not wanted:
            return None
        if operand is None:
            raise _core.MissingOperand(f"operand {name}: required by d{name}=True, not given")
        return gradient(name, operand, None)

    dtype = None if grad_dtype is None else _frameworks.as_member(grad_dtype, "grad_dtype")
    gradients = AttentionGradients(
        gradient("q", q, dtype),
        gradient("k", k, dtype),
        gradient("v", v, dtype),
        further("bias", bias, dbias),
        further("alibi_slopes", alibi_slopes, dalibi_slopes),
        further("sink", sink, dsink),
    )
    try:
        forward = _core.describe_attention(
            q_info,
            k,
            v,
            o,
            lse=lse,
            bias=bias,
            mask=mask,
            alibi_slopes=alibi_slopes,
            sink=sink,
            seqused_k=seqused_k,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k,
            rng_state=rng_state,
            layout=layout,
            causal=causal,
            align=align,
            window=window,
            softcap=softcap,
        )
        descriptor = _core.FmhaBackwardDescriptor(
            forward, grad=dtype, dbias=dbias, dalibi_slopes=dalibi_slopes, dsink=dsink
        )
        allocates, generation = _frameworks.allocates(q_info), _core.tuning_generation()
        plan = _select_backward(descriptor, q_info.device, allocates, deterministic, preference, generation)
        plan.run(
            grad,
            q,
            k,
            v,
            o,
            lse,
            gradients.dq,
            gradients.dk,
            gradients.dv,
            bias=bias,
            mask=mask,
            alibi_slopes=alibi_slopes,
            sink=sink,
            seqused_k=seqused_k,
            cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k,
            rng_state=rng_state,
            dbias=gradients.dbias,
            dalibi_slopes=gradients.dalibi_slopes,
            dsink=gradients.dsink,
            scale=scale,
            dropout_p=dropout_p,
            stream=stream,
            workspace=_frameworks.scratch(q_info, q, plan.workspace_size, stream),
        )
    except _core.Error as error:
        _errors.reword(error, {})
        _hint_layout(error, cu_seqlens_q, layout)
        raise
    _plans.of_thread.plans = (plan,)
    return AttentionGradients(*(x if x is None else _frameworks.finish(q_info, q, x) for x in gradients))


@functools.lru_cache(maxsize=256)
def _select(
    descriptor: _core.FmhaDescriptor,
    device: str,
    scratch_allowed: bool,
    preference: _core.PlanPreference | None,
    generation: int,  # of what is known of kernels: part of the key
) -> _core.FmhaPlan:
    wanted = _plans.preference(preference, scratch_allowed)
    return _plans.chosen(_core.FmhaPlan.select(descriptor, device, wanted))


@functools.lru_cache(maxsize=256)
def _select_backward(
    descriptor: _core.FmhaBackwardDescriptor,
    device: str,
    scratch_allowed: bool,
    deterministic: bool,
    preference: _core.PlanPreference | None,
    generation: int,
) -> _core.FmhaBackwardPlan:
    wanted = _plans.preference(preference, scratch_allowed, deterministic=deterministic)
    return _plans.chosen(_core.FmhaBackwardPlan.select(descriptor, device, wanted))


def _check(
    causal: CausalLike | None,
    dropout_p: float,
    rng_state: Tensor | None,
    preference: _core.PlanPreference | None,
) -> None:
    if preference is not None:
        _plans.check_preference(preference)
    if isinstance(causal, bool):
        raise ValueError(
            f"causal: must be one of None, 'top_left', 'bottom_right'; got {causal}; True of torch's "
            "is_causal is 'top_left', of FlashAttention's causal 'bottom_right'; False is None"
        )
    if dropout_p != 0 and rng_state is None:
        raise _core.MissingOperand(
            f"dropout_p: 0 required without rng_state, got {dropout_p}; pass rng_state, int64 [2], "
            "a seed and an offset"
        )


def _hint_layout(error: _core.Error, cu_seqlens_q: Tensor | None, layout: FmhaLayoutLike) -> None:
    """Packed operands are [T, H, D] elsewhere: read as [H, T, D], their rows do not fit the lengths."""
    text = str(error)
    misread = text.startswith(("operand cu_seqlens_q: must end with", "operand k: a number of heads"))
    if misread and cu_seqlens_q is not None and _core.FmhaLayout(layout) is _core.FmhaLayout.bhsd:
        error.args = (f"{text}; of operands [T, H, D], with rows before heads, pass layout='bshd'",)


def _rows(q_shape: tuple[int, ...], layout: _core.FmhaLayout) -> tuple[int, ...]:
    """lse's shape: q's without the head dimension, heads before the sequence in either layout."""
    if layout is _core.FmhaLayout.bshd and len(q_shape) > 2:
        return (*q_shape[:-3], q_shape[-2], q_shape[-3])
    return q_shape[:-1]
