"""grouped_matmul() with its gradients."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import _core
from .._grouped import _unequal_k
from ._call import Plain, alike, call, constants, for_gradients, options_of, preference_words, to_preference
from ._matmul import ACTIVATIONS

if TYPE_CHECKING:
    from .._typing import ActivationLike, DTypeLike, GateLike, MathLike


@dataclasses.dataclass(frozen=True)
class _Grouped:
    """What a product is told beside its arrays. `turned`: those of a, b and b2 that are transposes."""

    out: Any
    preference: _core.PlanPreference
    turned: tuple[str, ...]
    activation: str = "none"
    gate: str | None = None
    alpha: float = 1.0

    def shape(self, name: str, arrays: dict[str, Any]) -> tuple[int, ...]:
        *outer, rows, columns = arrays[name].shape
        return (*outer, columns, rows) if name in self.turned else (*outer, rows, columns)

    def run(self, arrays: dict[str, Any]) -> Any:
        (m, _), (*groups, _, n) = self.shape("a", arrays), self.shape("b", arrays)
        n = n // 2 if self.gate == "interleaved" else n
        arrays = dict(arrays)
        shape: tuple[int, ...] = (arrays["offsets"].shape[0] - 1, m, n)
        updates: tuple[tuple[str, str], ...] = ()
        if groups:  # rows outside of the groups are not written, and are 0 here
            arrays["d"] = jnp.zeros((m, n), self.out)
            shape, updates = (m, n), (("d", "d"),)
        options = options_of(activation=self.activation, gate=self.gate, alpha=self.alpha)
        problem = Plain(
            "cutplan_grouped_gemm", tuple(arrays), (("d", shape, self.out),),
            options + preference_words(self.preference), updates=updates, turned=self.turned,
        )  # fmt: skip
        return call(problem, list(arrays.values()))[0]


def _grouped(static: _Grouped, arrays: dict[str, Any]) -> Any:
    return static.run(arrays)


def _forward(static: _Grouped, primals: dict[str, Any]) -> tuple[Any, Any]:
    arrays = {name: primal.value for name, primal in primals.items()}
    wanted = [name for name, primal in primals.items() if primal.perturbed]
    return differentiable(static, arrays), (arrays, dict.fromkeys(wanted))


def _backward(static: _Grouped, saved: Any, grad: Any) -> tuple[dict[str, Any]]:
    arrays, wanted = saved
    gradients = dict.fromkeys(arrays)
    if isinstance(grad, jax.custom_derivatives.SymbolicZero):
        return (gradients,)
    if len(arrays) > 3 or static.activation != "none" or static.gate is not None:
        return ({**gradients, **_of_epilogue(static, arrays, wanted, grad)},)
    a, b, offsets = arrays["a"], arrays["b"], arrays["offsets"]
    grad = grad.astype(a.dtype)
    preference = for_gradients(static.preference)
    over_rows = for_gradients(preference, batch_invariant=False)

    def product(chosen: Any, x: Any, turn_x: bool, y: Any, turn_y: bool) -> Any:
        turned = (*(("a",) if turn_x else ()), *(("b",) if turn_y else ()))
        given = _Grouped(a.dtype, chosen, turned, alpha=static.alpha)
        return differentiable(given, {"a": x, "b": y, "offsets": offsets})

    ta, tb = "a" in static.turned, "b" in static.turned
    if b.ndim == 3:  # over rows: a's gradient has their groups, and b's is a product over k
        if "a" in wanted:
            gradients["a"] = product(preference, grad, False, b, not tb)
        if "b" in wanted:
            x, y = (grad, a) if tb else (a, grad)  # column-major as a and transposes of rows
            gradients["b"] = product(over_rows, x, True, y, False)
    else:  # over k: both have groups of rows, of a's transpose
        if "a" in wanted:
            of_a = product(preference, b, False, grad, True)
            gradients["a"] = of_a if ta else of_a.T
        if "b" in wanted:
            gradients["b"] = product(preference, a if ta else a.T, False, grad, False)
    return (gradients,)


def _of_epilogue(static: _Grouped, arrays: dict[str, Any], wanted: Any, grad: Any) -> dict[str, Any]:
    """Of products computed again, and what is done to them."""
    wide = jnp.promote_types(static.out, jnp.float32)
    pure = dataclasses.replace(
        static, out=wide, preference=for_gradients(static.preference), activation="none", gate=None
    )
    offsets = arrays["offsets"]
    rows = jnp.arange(arrays["a"].shape[0], dtype=jnp.int32)
    group = jnp.searchsorted(offsets, rows, side="right") - 1
    there = (rows >= offsets[0]) & (rows < offsets[-1])
    group = jnp.where(there, group, 0)

    def one(operands: dict[str, Any], b: Any, bias: Any) -> Any:
        given = dataclasses.replace(pure, turned=tuple(name for name in static.turned if name != "b2"))
        x = differentiable(given, {"a": operands["a"], "b": b, "offsets": offsets})
        if "row_scale" in operands:
            x = x * operands["row_scale"][:, None]
        if "column_scale" in operands:
            x = x * operands["column_scale"][group]
        return x if bias is None else x + bias.astype(wide)[group]

    def computed(operands: dict[str, Any]) -> Any:
        act = ACTIVATIONS[static.activation]
        b, bias = operands["b"], operands.get("bias")
        if static.gate is None:
            y = act(one(operands, b, bias))
        elif static.gate == "separate":
            y = act(one(operands, b, bias)) * one(operands, operands["b2"], operands.get("bias2"))
        else:
            halves = [b[..., i::2, :] if "b" in static.turned else b[..., i::2] for i in (0, 1)]
            biases = [None if bias is None else bias[:, i::2] for i in (0, 1)]
            y = act(one(operands, halves[0], biases[0])) * one(operands, halves[1], biases[1])
        return jnp.where(there[:, None], y, 0)

    _, pull = jax.vjp(lambda varied: computed({**arrays, **varied}), {name: arrays[name] for name in wanted})
    gradients: dict[str, Any] = pull(grad.astype(wide))[0]
    return gradients


differentiable = jax.custom_vjp(_grouped, nondiff_argnums=(0,))
differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


def grouped_matmul(
    a: Any,
    b: Any,
    offsets: Any,
    *,
    bias: Any = None,
    activation: ActivationLike = "none",
    b2: Any = None,
    bias2: Any = None,
    gate: GateLike | None = None,
    row_scale: Any = None,
    column_scale: Any = None,
    alpha: float | None = 1.0,
    math: MathLike | None = "tf32x3",
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    out_dtype: DTypeLike | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> Any:
    """One product per group of rows, or of the summed dimension, as cutplan.grouped_matmul() has it.

    With a 3-D `b` rows outside the groups are 0 in the result, and in gradients. With a 2-D `b` the groups
    are over k, and ``transpose_a=True`` takes `a` [k, m] as it lies; ``grouped_matmul(x.T, ...)`` does too
    under jit, where XLA takes away the two transposes. ``transpose_b=True`` takes `b` (and `b2`) [groups, n,
    k].

    Gradients are those of a, b, bias, b2 and bias2; row_scale and column_scale have none. With an epilogue
    the products are computed again for them. Under vmap the kernel runs once for each, in one call.
    """
    given = {
        "a": a, "b": b, "offsets": offsets, "bias": bias, "b2": b2, "bias2": bias2, "row_scale": row_scale,
        "column_scale": column_scale,
    }  # fmt: skip
    arrays = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
    for name, ranks in (("a", (2,)), ("b", (2, 3)), ("offsets", (1,))):
        if arrays[name].ndim not in ranks:
            raise _core.ShapeMismatch(
                f"operand {name}: rank {' or '.join(map(str, ranks))} required, "
                f"got shape {[*arrays[name].shape]}"
            )
    epilogue = _core.Epilogue(activation=activation, gate=gate)
    over_k = arrays["b"].ndim == 2
    if over_k and not transpose_a:
        arrays["a"], transpose_a = arrays["a"].T, True
    turned = (*(("a",) if transpose_a else ()), *(("b", "b2") if transpose_b else ()))
    out = arrays["a"].dtype if out_dtype is None else jnp.dtype(str(_core.DType(out_dtype)))
    static = _Grouped(
        out, to_preference(math, deterministic, preference), turned, str(epilogue.activation),
        "separate" if b2 is not None and gate is None else None if gate is None else str(gate),
        1.0 if alpha is None else float(alpha),
    )  # fmt: skip
    shapes = static.shape("a", arrays), static.shape("b", arrays)
    if shapes[0][1] != shapes[1][-2]:
        raise _core.ShapeMismatch(_unequal_k(*shapes))
    arrays = dict(zip(arrays, alike(list(arrays.values())), strict=True))
    return differentiable(static, constants(arrays, ("row_scale", "column_scale")))
