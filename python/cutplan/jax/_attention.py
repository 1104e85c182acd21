"""attention() with its gradients, and jax.nn's function of that kind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import _core
from .._attention import _check
from ._call import Plain, alike, call, for_gradients, options_of, preference_words, repeated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import AlignLike, CausalLike, DTypeLike, FmhaLayoutLike

_OPERANDS = (
    "q",
    "k",
    "v",
    "bias",
    "mask",
    "alibi_slopes",
    "sink",
    "seqused_k",
    "cu_seqlens_q",
    "cu_seqlens_k",
)
# Gradients that the kernels make where they are asked to.
_ASKED_FOR = ("bias", "alibi_slopes", "sink")


@dataclasses.dataclass(frozen=True)
class _Attention:
    """What both passes are told beside their arrays."""

    out: Any
    lse: bool
    layout: str
    options: tuple[str, ...]
    preference: _core.PlanPreference

    def batch_at(self, arrays: dict[str, Any], *results: str) -> tuple[tuple[str, int], ...]:
        """Packed sequences have no batch, and dropout draws by the place in it."""
        if "cu_seqlens_q" in arrays or "rng_state" in arrays:
            return ()
        names = {
            "q",
            "k",
            "v",
            "bias",
            "mask",
            "alibi_slopes",
            "seqused_k",
            "o",
            "lse",
            "grad",
        } & arrays.keys()
        if "alibi_slopes" in names and arrays["alibi_slopes"].ndim == 1:
            names.remove("alibi_slopes")
            results = tuple(name for name in results if name != "dalibi_slopes")
        return tuple((name, 0) for name in (*sorted(names), *results))

    def run(self, arrays: dict[str, Any], lse: bool) -> list[Any]:
        q, v = arrays["q"], arrays["v"]
        *rows, heads = q.shape[:-1]
        of_lse = q.shape[:-1] if self.layout == "bhsd" or not rows else (*rows[:-1], heads, rows[-1])
        outs = [("o", (*q.shape[:-1], *v.shape[-1:]), self.out)]
        if lse:
            outs.append(("lse", of_lse, jnp.dtype("float32")))
        problem = _Fmha(
            "cutplan_fmha", tuple(arrays), tuple(outs), self.options + preference_words(self.preference),
            self.batch_at(arrays, *(name for name, _, _ in outs)),
        )  # fmt: skip
        return call(problem, list(arrays.values()))


def _attend(static: _Attention, arrays: dict[str, Any]) -> Any:
    results = static.run(arrays, static.lse)
    return tuple(results)


def _forward(static: _Attention, primals: dict[str, Any]) -> tuple[Any, Any]:
    arrays = {name: primal.value for name, primal in primals.items()}
    wanted = [name for name, primal in primals.items() if primal.perturbed]
    o, lse = static.run(arrays, True)
    return (o, lse) if static.lse else (o,), (arrays, o, lse, dict.fromkeys(wanted))


def _backward(static: _Attention, saved: Any, grads: Any) -> tuple[dict[str, Any]]:
    arrays, o, lse, wanted = saved
    gradients = dict.fromkeys(arrays)
    if static.lse and not isinstance(grads[1], jax.custom_derivatives.SymbolicZero):
        raise _core.Unsupported(
            "lse: it has no gradient, and is differentiated; pass jax.lax.stop_gradient(lse)"
        )
    if isinstance(grads[0], jax.custom_derivatives.SymbolicZero):
        return (gradients,)
    q = arrays["q"]
    named = {"grad": grads[0].astype(q.dtype), "q": q, "k": arrays["k"], "v": arrays["v"], "o": o, "lse": lse}
    named |= {name: x for name, x in arrays.items() if name not in named}
    further = [name for name in _ASKED_FOR if name in wanted]
    outs = [(f"d{name}", tuple(arrays[name].shape), arrays[name].dtype) for name in ("q", "k", "v", *further)]
    problem = _Fmha(
        "cutplan_fmha_backward", tuple(named), tuple(outs),
        static.options + preference_words(for_gradients(static.preference)),
        static.batch_at(named, "dq", "dk", "dv", *(f"d{x}" for x in further if x != "sink")),
    )  # fmt: skip
    results = call(problem, list(named.values()))
    for (name, _, _), x in zip(outs, results, strict=True):
        gradients[name[1:]] = x
    return (gradients,)


class _Fmha(Plain):
    """Bias and slopes may be one for the whole batch, and their gradients are then summed over it; but not
    over what vmap adds, along which each has one of its own."""

    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        if not self.batch_at:
            return repeated(self, size, arrays, dims)
        made, new_dims, at = list(arrays), list(dims), dict(self.batch_at)
        outs = {name: (shape, dtype) for name, shape, dtype in self.outs}
        batch = self.outs[0][1][0]
        for name in ("bias", "alibi_slopes"):
            i = self.names.index(name) if name in self.names else -1
            if i < 0 or (f"d{name}" not in outs and (name == "bias" or dims[i] is None)):
                continue
            dim = dims[i]
            x = made[i] if dim is None else jnp.moveaxis(made[i], dim, 0)
            lead, own = ((), x.shape) if dim is None else ((size,), x.shape[1:])
            rest = own if (name == "alibi_slopes" and len(own) == 1) else own[1:]
            x = x.reshape(*lead, *((1,) if len(own) == len(rest) else own[:1]), *rest)
            made[i] = jnp.broadcast_to(x, (*lead, batch, *rest))
            new_dims[i] = None if dim is None else 0
            at[name] = 0
            if f"d{name}" in outs:
                at[f"d{name}"] = 0
                outs[f"d{name}"] = ((batch, *rest), outs[f"d{name}"][1])
        of_each = dataclasses.replace(
            self, outs=tuple((name, *out) for name, out in outs.items()), batch_at=tuple(sorted(at.items()))
        )
        results = Plain.batched(of_each, size, made, new_dims)
        return [_summed(x, (size, *shape)) for (_, shape, _), x in zip(self.outs, results, strict=True)]


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """[size, batch, ...] summed over the batch where `shape` has none, or 1."""
    if x.shape == shape:
        return x
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).sum(axis=1).astype(x.dtype).reshape(shape)


_differentiable = jax.custom_vjp(_attend, nondiff_argnums=(0,))
_differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    causal: CausalLike | None = None,
    scale: float | None = None,
    window: tuple[int, int] | None = (-1, -1),
    softcap: float | None = 0.0,
    align: AlignLike | None = None,
    alibi_slopes: Any = None,
    bias: Any = None,
    mask: Any = None,
    sink: Any = None,
    seqused_k: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    dropout_p: float | None = 0.0,
    rng_state: Any = None,
    return_lse: bool = False,
    out_dtype: DTypeLike | None = None,
    layout: FmhaLayoutLike | None = "bhsd",
    preference: _core.PlanPreference | None = None,
) -> Any:
    """``softmax(scores) v`` for every head, as cutplan.attention() has it: o, or (o, lse) with `return_lse`.

    Shapes, options and errors are that function's. `rng_state`, int64 [2], may be uint32 [2, 2], the same
    bits, low half first, where jax_enable_x64 is off.

    Gradients are those of q, k, v, bias, alibi_slopes and sink; lse has none. They repeat to the bit with
    ``PlanPreference(deterministic=True)``; `preference` holds for both passes, but for its kernel. What vmap
    adds becomes part of the kernel's batch; where that cannot be (packed sequences, dropout, one sink for
    each) the kernel runs once for each, in one call.
    """
    _check(causal, dropout_p, rng_state)
    given = dict(
        zip(
            _OPERANDS,
            (q, k, v, bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k),
            strict=True,
        )
    )
    given["rng_state"] = rng_state
    arrays = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
    for name in {"bias", "mask"} & arrays.keys():
        x = arrays[name]
        arrays[name] = x.reshape(*(1,) * (4 - x.ndim), *x.shape)
    if rng_state is not None and arrays["rng_state"].dtype == jnp.uint32:
        _check_words(arrays["rng_state"].shape)
    # The options as a descriptor has them, which refuses what they have no value for.
    d = _core.FmhaDescriptor(
        heads=1, seq_q=1, seq_k=1, dim=1, dtype="float32", layout=layout, causal=causal, align=align,
        window=window, softcap=softcap,
    )  # fmt: skip
    options = options_of(
        layout=d.layout, causal=d.causal, align=d.align, window=tuple(d.window), softcap=d.softcap,
        scale=None if scale is None else float(scale), dropout_p=float(dropout_p or 0),
    )  # fmt: skip
    out = arrays["q"].dtype if out_dtype is None else jnp.dtype(str(_core.DType(out_dtype)))
    static = _Attention(out, bool(return_lse), str(d.layout), options, preference or _core.PlanPreference())
    arrays = dict(zip(arrays, alike(list(arrays.values())), strict=True))
    results = _differentiable(static, arrays)
    return tuple(results) if return_lse else results[0]


def _check_words(shape: tuple[int, ...]) -> None:
    if shape != (2, 2):
        raise _core.ShapeMismatch(
            f"operand rng_state: [2, 2] required of uint32, seed and offset, low half first, got {[*shape]}"
        )


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """jax.nn.dot_product_attention() by cutplan's kernels: query [B, T, N, H] or [T, N, H], key and value
    [B, S, K, H] or [S, K, H], N a multiple of K; the result is shaped as query is.

    Arguments and their meaning are that function's, with two differences. `implementation` has to be None:
    there is one. A query that sees no key at all has a result of 0, and not the mean of all values.
    """
    if implementation is not None:
        raise ValueError(
            f"implementation: None required, got {implementation!r}; jax.nn.dot_product_attention has others"
        )
    shape = jnp.shape(query)
    q, k, v = (jnp.asarray(x) for x in (query, key, value))
    q, k, v = (x[None] if x.ndim == 3 else x for x in (q, k, v))
    if k.shape != v.shape:
        raise ValueError(f"value shape should be {[*k.shape]}, that of key, got {[*v.shape]}")
    batch, keys = k.shape[0], k.shape[1]

    def of_scores(name: str, x: Any, dtype: Any) -> Any:
        if x is None:
            return None
        x = jnp.asarray(x)
        x = x.reshape(*(1,) * (4 - x.ndim), *x.shape)
        if dtype is not None and x.dtype != dtype:
            raise ValueError(f"{name} dtype should be {dtype}, got {x.dtype}")
        return x

    bias = of_scores("bias", bias, None)
    if bias is not None and bias.dtype not in (q.dtype, jnp.float32):
        bias = bias.astype(jnp.float32)
    mask = of_scores("mask", mask, jnp.dtype(bool))

    def lengths(name: str, x: Any, most: int) -> Any:
        if x is None:
            return None
        x = jnp.asarray(x)
        if x.shape != (batch,) or x.dtype != jnp.int32:
            raise ValueError(f"{name} should be int32 [{batch}], got {x.dtype} {[*x.shape]}")
        return jnp.clip(x, 0, most)

    of_queries = lengths("query_seq_lengths", query_seq_lengths, q.shape[1])
    of_keys = lengths("key_value_seq_lengths", key_value_seq_lengths, keys)
    if isinstance(local_window_size, int):
        local_window_size = (local_window_size, local_window_size)
    results = attention(
        q, k, v, causal="top_left" if is_causal else None, scale=scale, window=local_window_size,
        align=None if is_causal else "top_left", bias=bias, mask=mask, seqused_k=of_keys, layout="bshd",
        return_lse=return_residual,
    )  # fmt: skip
    o = results[0] if return_residual else results
    if of_queries is not None:
        there = jnp.arange(q.shape[1]) < of_queries[:, None]
        o = jnp.where(there[:, :, None, None], o, 0)
    o = o.reshape(shape)
    if not return_residual:
        return o
    lse = jnp.swapaxes(jax.lax.stop_gradient(results[1]), 1, 2).astype(k.dtype)
    return o, lse.reshape(shape[:-1])
