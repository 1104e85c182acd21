"""Attention as one call: describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, TypeVar, overload

from . import _core, _frameworks, _plans

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
    _check(causal, dropout_p, rng_state)
    plan, o, *lse = _core.call_fmha(
        q, k, v, out, return_lse, bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k,
        rng_state, scale, dropout_p, layout, causal, align, window, softcap, out_dtype, False, preference,
        stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    return (o, *lse) if return_lse else o


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
    deterministic: bool | None = False,
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
    _check(causal, dropout_p, rng_state)
    for name, operand, wanted in (
        ("bias", bias, dbias),
        ("alibi_slopes", alibi_slopes, dalibi_slopes),
        ("sink", sink, dsink),
    ):
        # What is no bool is refused with the other options.
        if operand is None and type(wanted).__name__.startswith("bool") and wanted:
            raise _core.MissingOperand(f"operand {name}: required by d{name}=True, not given")
    _, grad = _frameworks.apart(_core.inspect(grad, "grad"), grad, 1, stream)
    plan, dq, dk, dv, *further = _core.call_fmha_backward(
        grad, q, k, v, o, lse, None, None, None, bias, mask, alibi_slopes, sink, seqused_k,
        cu_seqlens_q, cu_seqlens_k, rng_state, dbias, dalibi_slopes, dsink, scale, dropout_p,
        layout, causal, align, window, softcap, grad_dtype, deterministic, preference, stream,
    )  # fmt: skip
    _plans.of_thread.plans = (plan,)
    rest = iter(further)
    return AttentionGradients(
        dq, dk, dv, *(next(rest) if wanted else None for wanted in (dbias, dalibi_slopes, dsink))
    )


def _check(causal: CausalLike | None, dropout_p: float | None, rng_state: Tensor | None) -> None:
    if isinstance(causal, bool):
        raise ValueError(
            f"causal: must be one of None, 'top_left', 'bottom_right'; got {causal}; True of torch's "
            "is_causal is 'top_left', of FlashAttention's causal 'bottom_right'; False is None"
        )
    if dropout_p and rng_state is None:
        raise _core.MissingOperand(
            f"dropout_p: 0 required without rng_state, got {dropout_p}; pass rng_state, int64 [2], "
            "a seed and an offset"
        )
