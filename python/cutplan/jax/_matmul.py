"""matmul() with its gradients."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .. import _batches, _core
from .._functional import _QUANTISED, _extents, _result_shape
from .._quantize import Quantized
from ._call import (
    Problem,
    View,
    alike,
    call,
    for_gradients,
    options_of,
    preference_words,
    repeated,
    row_major,
    to_preference,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._typing import ActivationLike, DTypeLike, GateLike, MathLike

_SCALES = ("a_scale", "b_scale", "b2_scale", "a_zero", "b_zero", "out_scale")
_MATRICES = {"a": "mk", "b": "kj", "b2": "kj", "c": "mn", "residual": "mn", "aux": "mn"}


# ---- one call of a plan ----


@dataclasses.dataclass(frozen=True)
class _Gemm(Problem):
    """`axes`: of each matrix, the dimension of its array that each of [*batch, rows, columns] is.

    Batches are of one rank, and of extent 1 where they are broadcast. `d_batch` is the result's, 1 where it
    is summed over; None: nothing is.
    """

    names: tuple[str, ...]
    axes: tuple[tuple[int, ...], ...]
    out: Any
    options: tuple[str, ...] = ()
    gate: str | None = None
    stores: Any = None  # the type of a stored aux
    d_batch: tuple[int, ...] | None = None

    target = "cutplan_gemm"

    def shape(self, name: str, avals: Sequence[Any]) -> tuple[int, ...]:
        i = self.names.index(name)
        return tuple(avals[i].shape[axis] for axis in self.axes[i])

    def batch(self, avals: Sequence[Any]) -> tuple[int, ...]:
        """All that is computed, of the result or of its terms."""
        batch: tuple[int, ...] = ()
        for name in self.names:
            if name in _MATRICES:
                batch = _batches.broadcast(batch, self.shape(name, avals)[:-2])
        return batch

    def extents(self, avals: Sequence[Any]) -> dict[str, int]:
        (m, k), j = self.shape("a", avals)[-2:], self.shape("b", avals)[-1]
        return {"m": m, "n": j // 2 if self.gate == "interleaved" else j, "k": k, "j": j}

    def result(self, avals: Sequence[Any]) -> tuple[int, ...]:
        extents = self.extents(avals)
        batch = self.batch(avals) if self.d_batch is None else self.d_batch
        return (*batch, extents["m"], extents["n"])

    def results(self, avals: Sequence[Any]) -> list[tuple[tuple[int, ...], Any]]:
        shape = self.result(avals)
        return [(shape, self.out), *([(shape, self.stores)] if self.stores is not None else [])]

    def _lay_out(self, avals: Sequence[Any]) -> tuple[Any, list[Any], list[Any]]:
        batch, matrices = self.batch(avals), []
        for name, axes, aval in zip(self.names, self.axes, avals, strict=True):
            if name in _MATRICES:
                steps, shape = row_major(aval.shape), self.shape(name, avals)
                spare = name in ("c", "residual", "aux")
                strides = [
                    0 if size == 1 and (i < len(batch) or spare) else steps[axis]
                    for i, (size, axis) in enumerate(zip(shape, axes, strict=True))
                ]
                matrices.append(
                    _batches.Matrix(
                        name, aval, _MATRICES[name], tuple(strides[:-2]), (strides[-2], strides[-1])
                    )
                )
        shape = self.result(avals)
        steps = row_major(shape)
        outer = tuple(0 if size == 1 else step for size, step in zip(shape[:-2], steps, strict=False))
        for name in ("d", *(["stored"] if self.stores is not None else [])):
            matrices.append(_batches.Matrix(name, avals[0], "mn", outer, (steps[-2], steps[-1])))
        fixed = "row_scale" in self.names or any(
            name == "bias" and len(aval.shape) > 1 for name, aval in zip(self.names, avals, strict=True)
        )
        return _batches.lay_out(
            matrices, self.extents(avals), batch, rows_are_fixed=fixed, sums=self.d_batch is not None
        )

    def sums_in_one(self, avals: Sequence[Any]) -> bool:
        """Whether what is summed over the batch is one longer product."""
        return not self._lay_out(avals)[2]

    def words(self, avals: Sequence[Any]) -> Iterable[View | str]:
        run, loops, _ = self._lay_out(avals)
        places = {matrix.operand: i for i, matrix in enumerate(run.matrices)}
        types = {**{name: aval.dtype for name, aval in zip(self.names, avals, strict=True)}, "d": self.out}
        types["stored"] = self.stores

        def view(name: str) -> View:
            i = places[name]
            own = run.strides[i]
            shape, strides = [run.sizes[extent] for extent in own], list(own.values())
            if run.batch is not None:
                shape, strides = [run.batch.size, *shape], [run.batch.strides[i], *strides]
            shape = [axis.size for axis in loops] + shape
            strides = [axis.strides[i] for axis in loops] + strides
            return View("aux" if name == "stored" else name, types[name], tuple(shape), tuple(strides))

        for name, aval in zip(self.names, avals, strict=True):
            if name in places:
                yield view(name)
            else:
                shape = tuple(axis.size for axis in loops) + tuple(aval.shape)
                yield View(name, aval.dtype, shape, (0,) * len(loops) + row_major(aval.shape))
        yield view("d")
        if self.stores is not None:
            yield view("stored")
        if loops:
            yield f"loops={len(loops)}"
        yield from self.options

    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        given = dict(zip(self.names, zip(arrays, self.axes, dims, strict=True), strict=True))
        problem = self
        vectors = {
            name
            for name, (_, _, dim) in given.items()
            if name in _SCALES or (dim is not None and name not in _MATRICES)
        }
        if vectors - {"bias"} or (vectors and self.gate is not None):
            return repeated(self, size, arrays, dims)
        if vectors:
            problem = _bias_as_c(self, given)
        made, axes = [], []
        for name, (x, own, dim) in given.items():
            if name not in _MATRICES:
                made.append(x)
                axes.append(own)
            elif dim is None:
                made.append(x[None])
                axes.append((0, *(axis + 1 for axis in own)))
            else:
                if dim == x.ndim - 1:  # no kernel reads a matrix without neighbours
                    x, dim = jnp.moveaxis(x, dim, 0), 0
                made.append(x)
                axes.append((dim, *(axis + (axis >= dim) for axis in own)))
        problem = dataclasses.replace(problem, names=tuple(given), axes=tuple(axes))
        if self.d_batch is not None:
            problem = dataclasses.replace(problem, d_batch=(size, *self.d_batch))
        results = _run(problem, made)
        shape = (
            size,
            *self.result(
                [jax.ShapeDtypeStruct(_without(x, dim), x.dtype) for x, dim in zip(arrays, dims, strict=True)]
            ),
        )
        return [jnp.broadcast_to(x, shape) for x in results]


def _without(x: Any, dim: int | None) -> tuple[int, ...]:
    return tuple(size for i, size in enumerate(x.shape) if i != dim)


def _bias_as_c(problem: _Gemm, given: dict[str, Any]) -> _Gemm:
    """A bias for each matrix of a batch is a matrix that repeats one row, or column: part of c."""
    bias, _, dim = given.pop("bias")
    batch_rank = len(given["a"][1]) - 2
    bias = jnp.moveaxis(bias, dim, 0)
    bias = bias[:, None, :] if bias.ndim == 2 else bias
    bias = bias.reshape(bias.shape[0], *(1,) * batch_rank, *bias.shape[1:])
    words = dict(word.split("=", 1) for word in problem.options)
    if "c" in given and float(words.get("beta", 1)) != 0:  # what beta = 0 does not read may be anything
        c, axes, dim = given["c"]
        rest = c.ndim - len(axes)
        order = [dim, *(axis + (axis >= dim) for axis in axes)] if rest else list(axes)
        c = jnp.transpose(c, order) if rest else jnp.transpose(c, order)[None]
        wide = jnp.promote_types(c.dtype, jnp.float32)
        bias = c.astype(wide) * float(words.get("beta", 1)) + bias.astype(wide)
    words["beta"] = "1.0"
    given["c"] = (bias, tuple(range(bias.ndim - 1)), 0)
    return dataclasses.replace(problem, options=tuple(f"{x}={y}" for x, y in words.items()))


def _run(problem: _Gemm, arrays: Sequence[Any]) -> list[Any]:
    """A call, or, where the sum over its batch is no longer product, that of the terms in the accumulator's
    type, and their sum."""
    if problem.d_batch is None or problem.sums_in_one(arrays):
        return call(problem, arrays)
    wide = jnp.promote_types(problem.out, jnp.float32)
    (terms,) = call(dataclasses.replace(problem, d_batch=None, out=wide), arrays)
    return [_fitted(terms, problem.result(arrays)).astype(problem.out)]


def _fitted(x: Any, shape: tuple[int, ...]) -> Any:
    """Summed to a shape that broadcasts to x's, or broadcast to one that x's broadcasts to."""
    extra = x.ndim - len(shape)
    x = x.sum(axis=tuple(range(extra))) if extra > 0 else x
    over = tuple(i for i, (have, want) in enumerate(zip(x.shape, shape, strict=True)) if have != want == 1)
    x = x.sum(axis=over, keepdims=True) if over else x
    return jnp.broadcast_to(x, shape)


# ---- with gradients ----


@dataclasses.dataclass(frozen=True)
class _Product:
    """What a product is told beside its arrays, whose batches are all of one rank."""

    out: Any
    preference: _core.PlanPreference
    activation: str = "none"
    gate: str | None = None
    alpha: float = 1.0
    beta: float | None = None
    transpose_a: bool = False
    transpose_b: bool = False
    d_batch: tuple[int, ...] | None = None

    def run(self, arrays: dict[str, Any], stores: Any = None, aux_mode: str | None = None) -> list[Any]:
        axes = []
        for name, x in arrays.items():
            own = list(range(x.ndim))
            turned = self.transpose_a if name == "a" else self.transpose_b and name in ("b", "b2")
            axes.append((*own[:-2], own[-1], own[-2]) if turned else tuple(own))
        words = options_of(
            activation=self.activation, gate=self.gate, alpha=self.alpha, beta=self.beta, aux_mode=aux_mode
        )
        problem = _Gemm(
            tuple(arrays), tuple(axes), self.out, words + preference_words(self.preference), self.gate,
            stores, self.d_batch,
        )  # fmt: skip
        return _run(problem, list(arrays.values()))


def _product(static: _Product, arrays: dict[str, Any]) -> Any:
    return static.run(arrays)[0]


def _forward(static: _Product, primals: dict[str, Any]) -> tuple[Any, Any]:
    arrays = {name: primal.value for name, primal in primals.items()}
    if _core.DType(arrays["a"].dtype) in _QUANTISED:
        raise _core.Unsupported(
            f"operand a: floats required for gradients, got {arrays['a'].dtype}; products of int8 and float8 "
            "have none"
        )
    wanted = [name for name, primal in primals.items() if primal.perturbed]
    stores = static.activation != "none" and static.gate is None and wanted != ["residual"]
    # What is differentiated again is this pass and the next: both are of products that can be.
    d, *aux = static.run(arrays, static.out, "store") if stores else [differentiable(static, arrays)]
    return d, (arrays, aux, dict.fromkeys(wanted, None))


def _backward(static: _Product, saved: Any, grad: Any) -> tuple[dict[str, Any]]:
    arrays, aux, wanted = saved
    if isinstance(grad, jax.custom_derivatives.SymbolicZero):
        return (dict.fromkeys(arrays),)
    if static.gate is not None:
        return (_gate_gradients(static, arrays, wanted, grad),)
    a, b = arrays["a"], arrays["b"]
    gradients = dict.fromkeys(arrays)
    preference = for_gradients(static.preference)
    # What sums over rows cannot be alike in any company of rows.
    of_rows = for_gradients(preference, batch_invariant=False)
    dz = grad
    if aux:
        dz = _activation_gradient(static, preference, aux[0], grad, a.dtype)

    def gradient(name: str, scale: float | None = None) -> None:
        if name in wanted:
            x = arrays[name]
            of_x = grad if name == "residual" else dz
            of_x = of_x if scale is None else of_x.astype(jnp.promote_types(of_x.dtype, jnp.float32)) * scale
            gradients[name] = _summed(of_x, x)

    gradient("residual")
    gradient("c", 1.0 if static.beta is None else static.beta)
    gradient("bias")
    gradients.update(_scale_gradients(static, of_rows, arrays, wanted, dz))
    dz = dz.astype(a.dtype)
    scales = [arrays[name] for name in ("row_scale", "column_scale") if name in arrays]
    if scales:
        factor = arrays.get("row_scale", jnp.ones((), jnp.float32))[..., None] * arrays.get("column_scale", 1)
        dz = (dz.astype(jnp.float32) * factor).astype(a.dtype)
    ta, tb = static.transpose_a, static.transpose_b
    # The gradient of a transposed factor is made transposed: (x y)^T = y^T x^T.
    for name, x, turn_x, y, turn_y, chosen in (
        ("a", *((b, tb, dz, True) if ta else (dz, False, b, not tb)), preference),
        ("b", *((dz, True, a, ta) if tb else (a, not ta, dz, False)), of_rows),
    ):
        if name in wanted:
            like = arrays[name]
            product = _Product(
                like.dtype, chosen, alpha=static.alpha, transpose_a=turn_x, transpose_b=turn_y,
                d_batch=_sum_of(like.shape[:-2], x.shape[:-2], y.shape[:-2]),
            )  # fmt: skip
            gradients[name] = _fitted(differentiable(product, {"a": x, "b": y}), like.shape)
    return (gradients,)


def _scale_gradients(
    static: _Product, preference: _core.PlanPreference, arrays: dict[str, Any], wanted: Any, dz: Any
) -> dict[str, Any]:
    """Of factors per row and per column: sums of the product, which is computed again, times dz."""
    of_scales = [name for name in ("row_scale", "column_scale") if name in wanted]
    if not of_scales:
        return {}
    product = _Product(
        jnp.dtype("float32"), preference, alpha=static.alpha, transpose_a=static.transpose_a,
        transpose_b=static.transpose_b,
    )  # fmt: skip
    terms = dz.astype(jnp.float32) * differentiable(product, {"a": arrays["a"], "b": arrays["b"]})
    rows: Any = arrays.get("row_scale")
    columns: Any = arrays.get("column_scale")
    made = {}
    if "row_scale" in of_scales:
        made["row_scale"] = _summed(terms if columns is None else terms * columns, rows[:, None])[:, 0]
    if "column_scale" in of_scales:
        made["column_scale"] = _summed(terms if rows is None else terms * rows[:, None], columns)
    return made


def _sum_of(target: tuple[int, ...], x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, ...] | None:
    """The batch of a gradient: 1 where the operand's is. None where nothing is summed over."""
    batch = _batches.broadcast(x, y)
    summed = tuple(1 if size == 1 else have for size, have in zip(target, batch, strict=True))
    return None if summed == batch else summed


def _summed(grad: Any, x: Any) -> Any:
    """Of what is added to every element: the sum to its shape, in the accumulator's type."""
    wide = grad.astype(jnp.promote_types(grad.dtype, jnp.float32))
    shape = (*(1,) * (grad.ndim - x.ndim), *x.shape)
    return _fitted(wide, shape).astype(x.dtype).reshape(x.shape)


def _activation_gradient(
    static: _Product, preference: _core.PlanPreference, aux: Any, grad: Any, dtype: Any
) -> Any:
    """grad activation'(aux): the epilogue alone, of a product with k = 0."""
    batch = (1,) * (grad.ndim - 2)
    nothing = {
        "a": jnp.zeros((*batch, grad.shape[-2], 0), dtype),
        "b": jnp.zeros((*batch, 0, grad.shape[-1]), dtype),
    }
    product = _Product(dtype, preference, activation=static.activation)
    return product.run({**nothing, "c": grad, "aux": aux}, aux_mode="gradient")[0]


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "silu": jax.nn.silu,
}


def _gate_gradients(static: _Product, arrays: dict[str, Any], wanted: Any, grad: Any) -> dict[str, Any]:
    """Of two products and their gate, the products computed again."""
    preference = for_gradients(static.preference)
    wide = jnp.promote_types(static.out, jnp.float32)
    one = dataclasses.replace(static, out=wide, preference=preference, activation="none", gate=None)

    def gated(operands: dict[str, Any]) -> Any:
        if static.gate == "separate":
            factors = [(operands["b"], operands.get("bias")), (operands["b2"], operands.get("bias2"))]
        else:
            b, bias = operands["b"], operands.get("bias")
            halves = [b[..., i::2, :] if static.transpose_b else b[..., i::2] for i in (0, 1)]
            factors = [(half, None if bias is None else bias[i::2]) for i, half in enumerate(halves)]
        rows = {name: operands[name] for name in ("row_scale",) if name in operands}
        x, x2 = (
            differentiable(
                one, {"a": operands["a"], "b": b, **({} if bias is None else {"bias": bias}), **rows}
            )
            for b, bias in factors
        )
        h = ACTIVATIONS[static.activation](x) * x2
        return h + operands["residual"] if "residual" in operands else h

    varied = {name: arrays[name] for name in wanted}
    _, pull = jax.vjp(lambda varied: gated({**arrays, **varied}), varied)
    (gradients,) = pull(grad.astype(wide))
    return {**dict.fromkeys(arrays), **gradients}


differentiable = jax.custom_vjp(_product, nondiff_argnums=(0,))
differentiable.defvjp(_forward, _backward, symbolic_zeros=True)


# ---- the function ----


def matmul(
    a: Any | Quantized,
    b: Any | Quantized,
    *,
    bias: Any = None,
    activation: ActivationLike = "none",
    c: Any = None,
    alpha: float | None = 1.0,
    beta: float | None = None,
    b2: Any | Quantized = None,
    bias2: Any = None,
    gate: GateLike | None = None,
    residual: Any = None,
    row_scale: Any = None,
    column_scale: Any = None,
    a_scale: Any = None,
    b_scale: Any = None,
    b2_scale: Any = None,
    a_zero: Any = None,
    b_zero: Any = None,
    out_scale: Any = None,
    math: MathLike | None = "tf32x3",
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    out_dtype: DTypeLike | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> Any:
    """``activation(alpha * a @ b + beta * c + bias) + residual``, as cutplan.matmul() has it.

    Shapes are numpy.matmul's: `a` [..., m, k] and `b` [..., k, n], whose leading dimensions broadcast; `c`
    and `residual` broadcast to the result. With `transpose_a` `a` is [..., k, m], and with `transpose_b` `b`
    (and `b2`) [..., n, k], read as they lie: XLA would copy ``b.mT`` before a kernel sees it.

    What vmap adds is the kernel's batch, or more rows where b has none; with scales for each, or with biases
    for each beside a gate, the kernel runs once for each, in one call.

    Gradients are those of every operand, by products of this package. `preference` holds for both passes, but
    for its kernel, and, in sums over rows, for batch_invariant. With a gate the two products are computed
    again for them.

    Products of int8 and of float8 take scales and zeros, or a Quantized each for `a` and `b`, as
    cutplan.matmul() does, with two dimensions; a `b` that `transpose_b` turns is a Quantized of [n, k]. They
    have no gradients, and vmap runs the kernel once for each.

    All else, and the errors, which come when the function is traced, are cutplan.matmul()'s.
    """
    epilogue = _core.Epilogue(
        activation=activation, gate="separate" if b2 is not None and gate is None else gate
    )
    if gate is None and b2 is not None:
        gate = "separate"
    scales = {
        "a_scale": a_scale, "b_scale": b_scale, "b2_scale": b2_scale, "a_zero": a_zero, "b_zero": b_zero,
        "out_scale": out_scale,
    }  # fmt: skip
    a, b, b2 = (
        _codes(name, x, turned, scales)
        for name, x, turned in (("a", a, transpose_a), ("b", b, transpose_b), ("b2", b2, transpose_b))
    )
    given = {
        "a": a, "b": b, "c": c, "bias": bias, "b2": b2, "bias2": bias2, "residual": residual,
        "row_scale": row_scale, "column_scale": column_scale, **scales,
    }  # fmt: skip
    arrays = {name: jnp.asarray(x) for name, x in given.items() if x is not None}
    arrays = dict(zip(arrays, alike(list(arrays.values())), strict=True))

    shapes = {name: arrays[name].shape for name in ("a", "b")}
    for name, turned in (("a", transpose_a), ("b", transpose_b)):
        if turned and len(shapes[name]) > 1:
            *batch, rows, columns = shapes[name]
            shapes[name] = (*batch, columns, rows)
    interleaved = str(epilogue.gate) == "interleaved"
    if interleaved and (len(shapes["b"]) < 2 or shapes["b"][-1] % 2):
        raise _core.ShapeMismatch(
            f"operand b: shape [..., k, 2 n] required with gate='interleaved', got {[*shapes['b']]}"
        )
    columns = shapes["b"][-1] // 2 if interleaved else None
    shape = _result_shape(shapes["a"], shapes["b"], columns)
    if "b2" in arrays and arrays["b2"].shape != arrays["b"].shape:
        raise _core.ShapeMismatch(
            f"operand b2: b's shape {[*arrays['b'].shape]} required, got {[*arrays['b2'].shape]}"
        )
    extents = _extents(shapes["a"], shapes["b"], columns)
    batch = _batches.broadcast(shapes["a"][:-2], shapes["b"][:-2])
    is_row, is_column = len(shapes["a"]) == 1, len(shapes["b"]) == 1
    for name, x in arrays.items():
        if name in ("c", "residual"):
            x = _beside(name, x, shape)
            x = jnp.expand_dims(x, len(batch)) if is_row else x
            x = x[..., None] if is_column else x
        elif name in ("a", "b", "b2"):
            if x.ndim == 1:
                x = (
                    x[None, :]
                    if (name == "a") != (transpose_a if name == "a" else transpose_b)
                    else x[:, None]
                )
            x = x.reshape(*(1,) * (len(batch) + 2 - x.ndim), *x.shape)
        arrays[name] = x

    for name in _SCALES:
        if name in arrays and (len(shapes["a"]), len(shapes["b"])) != (2, 2):
            raise _core.Unsupported(
                f"operand {name}: a and b of two dimensions required beside it, got {[*shapes['a']]} and "
                f"{[*shapes['b']]}; make rows of all but the last dimension of a"
            )
    chosen = to_preference(math, deterministic, preference)
    out = _type_of(arrays, epilogue) if out_dtype is None else _numpy(out_dtype)
    static = _Product(
        out, chosen, str(epilogue.activation), None if epilogue.gate is None else str(epilogue.gate),
        1.0 if alpha is None else float(alpha), None if beta is None else float(beta), bool(transpose_a),
        bool(transpose_b),
    )  # fmt: skip
    if static.beta not in (None, 0.0) and c is None:
        raise _core.InvalidProblem(f"beta: must be 0 without operand c, got {static.beta}; pass c")
    d = differentiable(static, arrays)
    assert d.shape[-2:] == (extents["m"], extents["n"])
    return d.reshape(shape)


def _codes(name: str, x: Any, turned: bool, scales: dict[str, Any]) -> Any:
    """The data of a Quantized, whose scale and zero join those that are given."""
    if not isinstance(x, Quantized):
        return x
    for part, value in (x.T if turned else x).operands(name).items():
        if part != name:
            if scales[part] is not None:
                raise _core.InvalidProblem(
                    f"operand {part}: none required beside a Quantized {name}, which has its own, got one"
                )
            scales[part] = value
    return x.data


def _type_of(arrays: dict[str, Any], epilogue: _core.Epilogue) -> Any:
    """a's, and of codes what their plans make: int32 of sums alone, else bfloat16."""
    kind = _core.DType(arrays["a"].dtype)
    if kind not in _QUANTISED:
        return arrays["a"].dtype
    names = ("bias", "c", "residual", "row_scale", "column_scale")
    given: Any = {name: name in arrays for name in names}
    beside = _core.Epilogue(**given, activation=epilogue.activation, gate=epilogue.gate)
    scale: Any = "tensor" if {"a_scale", "b_scale"} & arrays.keys() else None
    return _numpy(_core.GemmDescriptor(m=0, n=0, k=0, a=kind, a_scale=scale, epilogue=beside).d)


def _beside(name: str, x: Any, shape: tuple[int, ...]) -> Any:
    """What broadcasts to the result, with all of its dimensions."""
    missing = len(shape) - x.ndim
    if missing < 0 or any(have not in (1, want) for have, want in zip(x.shape, shape[missing:], strict=True)):
        raise _core.ShapeMismatch(
            f"operand {name}: a shape that broadcasts to {[*shape]} required, got {[*x.shape]}"
        )
    return x.reshape(*(1,) * missing, *x.shape)


def _numpy(dtype: DTypeLike) -> Any:
    return jnp.dtype(str(_core.DType(dtype)))
