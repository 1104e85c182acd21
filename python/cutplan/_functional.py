"""The functional face: one call that describes the problem, picks a plan, keeps it, and runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, overload

from . import _batches, _core, _frameworks, _plans
from ._quantize import Quantized
from ._weights import PackedWeights, packings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from ._typing import (
        ActivationLike,
        Array,
        AuxLike,
        BiasLike,
        DTypeLike,
        GateLike,
        MathLike,
        StreamLike,
        SupportsDLPack,
        Tensor,
    )

_TensorT = TypeVar("_TensorT", bound="SupportsDLPack | Array")


_QUANTISED = (_core.DType.int8, _core.DType.float8_e4m3fn, _core.DType.float8_e5m2)


class _Options(TypedDict, total=False):
    """What matmul() takes beside its operands and output, for type checkers."""

    bias: Tensor | None
    activation: ActivationLike
    c: Tensor | None
    alpha: float | None
    beta: float | None
    b2: Tensor | None
    bias2: Tensor | None
    gate: GateLike | None
    residual: Tensor | None
    aux: Tensor | None
    row_scale: Tensor | None
    column_scale: Tensor | None
    a_scale: Tensor | None
    b_scale: Tensor | None
    b2_scale: Tensor | None
    a_zero: Tensor | None
    b_zero: Tensor | None
    out_scale: Tensor | None
    amax: Tensor | None
    math: MathLike | None
    deterministic: bool | None
    preference: _core.PlanPreference | None
    out_dtype: DTypeLike | None
    stream: StreamLike | None


class MatmulGradients(NamedTuple):
    """What matmul_backward() returns; None is what was not asked for."""

    da: Any
    db: Any
    dbias: Any


@overload
def matmul(
    a: _core.TensorView, b: Tensor, *, out: Tensor | None = None, **options: Unpack[_Options]
) -> Any: ...


@overload
def matmul(a: _TensorT, b: Tensor, *, out: None = None, **options: Unpack[_Options]) -> _TensorT: ...


@overload
def matmul(a: Tensor, b: Tensor, *, out: _TensorT, **options: Unpack[_Options]) -> _TensorT: ...


@overload
def matmul(
    a: Tensor, b: Tensor, *, out: Sequence[Tensor], **options: Unpack[_Options]
) -> tuple[Any, ...]: ...


@overload
def matmul(
    a: _TensorT, b: Tensor, *, out_columns: Sequence[int], **options: Unpack[_Options]
) -> tuple[_TensorT, ...]: ...


def matmul(
    a: Tensor | Quantized,
    b: Tensor | Quantized | PackedWeights,
    *,
    bias: Tensor | None = None,
    activation: ActivationLike = "none",
    c: Tensor | None = None,
    alpha: float | None = 1.0,
    beta: float | None = None,
    b2: Tensor | None = None,
    bias2: Tensor | None = None,
    gate: GateLike | None = None,
    residual: Tensor | None = None,
    aux: Tensor | None = None,
    row_scale: Tensor | None = None,
    column_scale: Tensor | None = None,
    a_scale: Tensor | None = None,
    b_scale: Tensor | None = None,
    b2_scale: Tensor | None = None,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
    out_scale: Tensor | None = None,
    amax: Tensor | None = None,
    math: MathLike | None = "tf32x3",
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    out: Tensor | Sequence[Tensor] | None = None,
    out_columns: Sequence[int] | None = None,
    out_dtype: DTypeLike | None = None,
    stream: StreamLike | None = None,
) -> Any:
    """``activation(x) + residual``, where ``x = alpha * a @ b + beta * c + bias``.

    Shapes are numpy.matmul's: `a` [..., m, k] and `b` [..., k, n], whose leading dimensions broadcast; a 1-D
    `a` is a row and a 1-D `b` a column, and that dimension is left out of the result; `c` and `residual`
    broadcast to the result's shape; `bias` is [n], or [m, 1] for one value per row. `row_scale` [m] and
    `column_scale` [n], float32, multiply ``a @ b``. Vectors are shared by the batch. `aux`, of the result's
    shape, is written with x, the value before the activation, for training.

    Gated: with `b2` (and `bias2`) the result is ``activation(x) * x2 + residual``, where x2 is x of b2 and
    bias2; ``gate="interleaved"`` takes both from one `b` [..., k, 2 n], its columns in turn: x, x2, x, x2.

    Quantised: `a` and `b`, int8, or float8_e4m3fn with either float8, stand for ``(a - a_zero) * a_scale``
    and ``(b - b_zero) * b_scale``. Scales are float32: one for all ([1]), of a's rows ([..., m]) and b's
    columns ([..., n]), of groups of 128 along k ([..., m, ceil(k / 128)], [..., ceil(k / 128), n]), and of
    b's blocks of 128 x 128.
    Zeros are int32, of int8 alone, with scales by rows and columns or one for all. A Quantized,
    as quantize() returns it, brings its own. int8 is summed exactly: without scales or further terms the
    result is int32, else bfloat16, as it is of float8, unless `out_dtype` says float32, float16, or int8 and
    float8, which are rounded to nearest even, saturated, and first divided by `out_scale` ([1]). `amax`,
    float32 [1], is written with the greatest ``abs(result)`` before that.

    Types: `a` and `b` share one floating-point type; the result has `out_dtype`, or `a`'s type. `beta` is 1
    if `c` is given. `activation` is "none", "relu", "gelu_erf", "gelu_tanh" or "silu". `math` is the least
    accuracy of float32 products: "tf32", "tf32x3" or "strict". `deterministic` gives the same bits for the
    same inputs. `preference`, a PlanPreference, insists on more, and has these two. An option that is None is
    its default.

    Several outputs: with ``out_columns=(nq, nk, nv)`` the result is a tuple of up to four tensors whose
    columns follow each other, n in all, as if it had been split there; ``out=[q, k, v]`` writes them to
    tensors of these columns, each with its own memory, strides and type (of one number of bits). All but the
    last have a multiple of 8 columns, and all are row-major. What else there is, `c`, `bias`, `aux` and
    others, has the n columns of all.

    Operands are read through their strides: transposed and sliced tensors are neither copied nor cast. The
    result is a new tensor of `a`'s library (NumPy, torch, CuPy, or JAX on the host), column-major where `c`,
    `residual` or `aux` is, or `out`. `stream` is None (the current stream of the output's library), an
    integer, or an object with ``__cuda_stream__``; the call does not wait for the GPU.

    The plan is chosen once per kind of problem, and again when something was tuned or imported;
    last_kernels() names it. Errors are those of GemmPlan.select and GemmPlan.run, in terms of these
    arguments.
    """
    aux_mode: AuxLike | None = None if aux is None else "store"
    outs: Sequence[Any] = (out, None, None, None)
    several = out_columns is not None or _is_list(out)
    if several and out is not None:
        outs, out_columns = _outputs(out, out_columns, out_dtype)
    weights = None
    if isinstance(b, PackedWeights):
        weights, b, b2 = packings(b, b2)
    if isinstance(a, Quantized) or isinstance(b, Quantized) or isinstance(b2, Quantized):
        rest: dict[str, Any] = {
            "bias": bias, "activation": activation, "c": c, "alpha": alpha, "beta": beta, "bias2": bias2,
            "gate": gate, "residual": residual, "aux": aux, "row_scale": row_scale,
            "column_scale": column_scale, "out_scale": out_scale, "amax": amax, "math": math,
            "deterministic": deterministic, "preference": preference, "out": out, "out_columns": out_columns,
            "out_dtype": out_dtype, "stream": stream,
        }  # fmt: skip
        taken_apart = {
            "a": a, "b": b, "b2": b2, "a_scale": a_scale, "b_scale": b_scale, "b2_scale": b2_scale,
            "a_zero": a_zero, "b_zero": b_zero,
        }  # fmt: skip
        return matmul(**_quantized(taken_apart), **rest)
    called = _core.call_gemm(
        a, b, outs[0], c, bias, b2, bias2, residual, aux, row_scale, column_scale,
        a_scale, b_scale, b2_scale, a_zero, b_zero, out_scale, amax, *outs[1:],
        alpha, beta, activation, aux_mode, gate, weights, out_columns, out_dtype, deterministic, preference,
        stream, math,
    )  # fmt: skip
    if called is not None:
        _plans.of_thread.plans = (called[0],)
        if out_columns is None:
            return called[1]
        return (called[1], *called[len(called) - len(out_columns) + 1 :])  # the further ones are the last
    if weights is not None:
        shape = _core.inspect(a, "a").shape
        raise _core.LayoutMismatch(
            "operand a: [..., m, k] whose leading dimensions one stride steps through, with c, residual and "
            f"out of such shapes, required with packed weights, got {[*shape]}; pass contiguous tensors"
        )

    # What broadcasts, or has other than two or three dimensions.
    a_info = _core.inspect(a, "a")
    b_info = _core.inspect(b, "b")
    a_shape, b_shape = a_info.shape, b_info.shape
    columns = None
    if gate == "interleaved":
        if len(b_shape) < 2 or b_shape[-1] % 2 != 0:
            raise _core.ShapeMismatch(
                f"operand b: shape [..., k, 2 n] required with gate='interleaved', got {[*b_shape]}"
            )
        columns = b_shape[-1] // 2
    shape = _result_shape(a_shape, b_shape, columns)
    batch = _batches.broadcast(a_shape[:-2], b_shape[:-2])
    beside_d = []
    column_major = False  # as a plan reads the last of them whose order shows
    for name, tensor in (("aux", aux), ("residual", residual), ("c", c)):
        if tensor is not None:
            info = _core.inspect(tensor, name)
            beside_d.append((name, tensor, info))
            column_major = _frameworks.is_column_major(info, column_major)
    column_major = column_major and len(shape) == len(batch) + 2
    if out is None and out_dtype is None and a_info.dtype in _QUANTISED:
        given = {
            "bias": bias,
            "c": c,
            "residual": residual,
            "row_scale": row_scale,
            "column_scale": column_scale,
        }
        epilogue = _core.Epilogue(
            **{name: x is not None for name, x in given.items()},
            activation=activation, aux=aux_mode, gate=gate if b2 is None else "separate",
            amax=amax is not None,
        )  # fmt: skip
        has_scale = a_scale is not None or b_scale is not None
        out_dtype = _core.GemmDescriptor(
            m=0, n=0, k=0, a=a_info.dtype, a_scale="tensor" if has_scale else None, epilogue=epilogue
        ).d
    extents = _extents(a_shape, b_shape, columns)
    names = {"d": "out"}
    if out_columns is not None:
        if len(b_shape) < 2:
            raise _core.ShapeMismatch(
                f"operand b: two dimensions or more required of several outputs, got {[*b_shape]}"
            )
        names = {name: f"out[{i}]" for i, name in enumerate(("d", "d2", "d3", "d4")[: len(out_columns)])}
        column_major = False
    results = []
    for i, (name, shown) in enumerate(names.items()):
        width = shape if out_columns is None else (*shape[:-1], int(out_columns[i]))
        target, info = _frameworks.target(
            a_info, a, width, column_major, outs[i], out_dtype, stream, called=shown
        )
        results.append((name, target, info, width))
    matrices = [
        _batches.factor("a", a, a_info, "mk", batch),
        _batches.factor("b", b, b_info, "kj", batch),
    ]
    if b2 is not None:
        b2_info = _core.inspect(b2, "b2")
        if b2_info.shape != b_shape:
            raise _core.ShapeMismatch(f"operand b2: b's shape {[*b_shape]} required, got {[*b2_info.shape]}")
        matrices.append(_batches.factor("b2", b2, b2_info, "kj", batch))
    for extent, (name, target, info, width) in zip("opqr", results, strict=False):
        matrix = _batches.result(name, target, info, width, batch, len(a_shape) == 1)
        if several:
            extents[extent] = width[-1]
            matrix = matrix._replace(extents="m" + extent)
        matrices.append(matrix)
    for name, tensor, info in beside_d:
        if name == "aux" and info.shape != shape:
            raise _core.ShapeMismatch(f"operand aux: shape {[*shape]} required, got {[*info.shape]}")
        matrices.append(_batches.result(name, tensor, info, shape, batch, len(a_shape) == 1))
    vectors = {
        "bias": bias, "bias2": bias2, "row_scale": row_scale, "column_scale": column_scale,
        "out_scale": out_scale, "amax": amax,
    }  # fmt: skip
    codings = {
        "a_scale": a_scale, "b_scale": b_scale, "b2_scale": b2_scale, "a_zero": a_zero, "b_zero": b_zero,
    }  # fmt: skip
    for name, tensor in codings.items():
        own = None if tensor is None else _core.inspect(tensor, name)
        if own is None or own.shape in ((), (1,)):
            vectors[name] = tensor
        else:
            assert tensor is not None
            owner = a_shape if name.startswith("a") else b_shape
            matrices.append(_batches.coding(name, tensor, own, owner, extents, batch))
    further = {name: tensor for name, tensor in vectors.items() if tensor is not None}
    rows_are_fixed = row_scale is not None or (
        bias is not None and len(_core.inspect(bias, "bias").shape) > 1
    )
    scalars = {
        "alpha": alpha, "beta": beta, "activation": activation, "aux_mode": aux_mode, "gate": gate,
        "out_columns": out_columns,
    }  # fmt: skip
    context = _Context(math, deterministic, preference, stream, [])
    pieces = _batches.pieces(matrices, extents, batch, rows_are_fixed=rows_are_fixed)
    if amax is not None and len(every := list(pieces)) != 1:
        raise _core.Unsupported(
            f"amax: batch dimensions that one run serves required, got a shape {[*shape]} of {len(every)} "
            "runs, each of which would write its own; pass contiguous operands, or take it of the result"
        )
    if amax is not None:
        pieces = iter(every)
    for piece in pieces:
        whole = None if piece.whole is None else {**further, **piece.whole}
        _run(context, {**further, **piece.views, **scalars}, names, whole)
    _plans.of_thread.plans = context.plans
    made = tuple(
        _frameworks.finish(a_info, a, target) if out is None else target for _, target, _, _ in results
    )
    return made if several else made[0]


def qkv_project(
    x: Tensor | Quantized,
    weights: Tensor | Quantized | PackedWeights,
    *,
    out_columns: Sequence[int] | None = None,
    bias: Tensor | None = None,
    out: Sequence[Tensor] | None = None,
    out_dtype: DTypeLike | None = None,
    alpha: float | None = 1.0,
    a_scale: Tensor | None = None,
    b_scale: Tensor | None = None,
    math: MathLike | None = "tf32x3",
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> tuple[Any, Any, Any]:
    """Q, K and V of one projection, ``x @ weights + bias``, each a tensor of its own, in one product.

    `x` is [..., tokens, k]; `weights`, [k, nq + nk + nv], holds the columns of Q, of K and of V: those of a
    checkpoint's q_proj, k_proj and v_proj, [n, k] each, are ``torch.cat([q, k, v]).T``. It is a tensor, a
    Quantized (then x is one too), or PackedWeights, such as int4, of all three. `out_columns`, (nq, nk, nv),
    are heads * head dimension each, and differ where K and V have fewer heads than Q; else `out` is three
    tensors [..., tokens, nq] and so on, such as slices of caches. `bias` [nq + nk + nv].

    All is as in matmul(), whose call with three outputs this is.
    """
    if isinstance(weights, list) or type(weights) is tuple:
        raise TypeError(
            f"weights: one tensor [k, nq + nk + nv] required, got a {type(weights).__name__}; concatenate "
            "those of Q, K and V once, where they are loaded: torch.cat([q, k, v]).T of weights [n, k]"
        )
    given = out if out_columns is None else out_columns
    if given is None:
        raise _core.MissingOperand(
            "out_columns: (nq, nk, nv), the columns of Q, K and V, or out=[q, k, v], required; without them "
            "weights do not tell where one ends"
        )
    if len(given) != 3:
        which = "out" if out_columns is None else "out_columns"
        raise _core.InvalidProblem(f"{which}: three, of Q, K and V, required, got {len(given)}")
    options: dict[str, Any] = {
        "a": x, "b": weights, "bias": bias, "alpha": alpha, "a_scale": a_scale, "b_scale": b_scale,
        "math": math, "deterministic": deterministic, "preference": preference, "out": out,
        "out_columns": out_columns, "out_dtype": out_dtype, "stream": stream,
    }  # fmt: skip
    q, k, v = matmul(**options)
    return q, k, v


def matmul_backward(
    grad: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    bias: BiasLike | None = False,
    activation: ActivationLike = "none",
    aux: Tensor | None = None,
    da: bool = True,
    db: bool = True,
    math: MathLike | None = "tf32x3",
    grad_dtype: DTypeLike | None = None,
    deterministic: bool | None = False,
    preference: _core.PlanPreference | None = None,
    stream: StreamLike | None = None,
) -> MatmulGradients:
    """Gradients of ``activation(a @ b + bias)``, given `grad`, the gradient of that result.

    ``da = grad @ b.T`` and ``db = a.T @ grad`` are read through transposed views: nothing is copied. Batch
    dimensions that `a` or `b` broadcasts along are summed over: in one product where the strides allow, as
    they do for contiguous tensors and a b without batch dimensions; else product by product, in float32
    (float64 for float64), and rounded once. ``da=False`` or ``db=False`` leaves that one out. ``bias=True``
    (or "n") asks for dbias [n], the sum of grad's rows, and "m" for [m, 1], that of its columns: products
    with ones, summed as all products are.

    An `activation` needs `aux`, what matmul(..., aux=) wrote: grad is multiplied by the activation's
    derivative there in one pass, into a new tensor of a's type, from which the gradients are made.

    `grad` has the type of `a` and `b`, with an activation any type that C can have. Where its last two
    dimensions have zero or overlapping strides, as those of ``y.sum().backward()`` have, its library makes a
    contiguous copy first: no kernel multiplies with such an operand. The gradients have `grad_dtype`, or a's
    type; they are new tensors of a's library, column-major where their operands are: the gradient of
    ``weight.T`` is laid out as the weight. `math`, `deterministic`, `preference` and `stream` are as in
    matmul(); batch invariance is da's, for db and a dbias [n] sum over rows. Errors are those of
    GemmPlan.select and GemmPlan.run, in terms of these arguments.
    """
    if hasattr(bias, "__dlpack__"):
        raise TypeError(
            f"bias: must be one of False, True, 'n', 'm'; got {type(bias).__name__}; dbias does not depend "
            "on the bias: pass bias=True"
        )
    wanted = _core.Epilogue(bias=bias, activation=activation)
    g_info, a_info, b_info = _core.inspect(grad, "grad"), _core.inspect(a, "a"), _core.inspect(b, "b")
    shape = _result_shape(a_info.shape, b_info.shape)
    batch = _batches.broadcast(a_info.shape[:-2], b_info.shape[:-2])
    extents = _extents(a_info.shape, b_info.shape)
    m, n, k = extents["m"], extents["n"], extents["k"]
    g_info, grad = _frameworks.apart(g_info, grad, 2, stream)
    context = _Context(math, deterministic, preference, stream, [])
    dtype = a_info.dtype if grad_dtype is None else _frameworks.as_member(grad_dtype, "grad_dtype")

    def like_result(name: str, tensor: Tensor, info: _core.TensorInfo) -> _batches.Matrix:
        if info.shape != shape:
            raise _core.ShapeMismatch(f"operand {name}: shape {[*shape]} required, got {[*info.shape]}")
        return _batches.result(name, tensor, info, shape, batch, len(a_info.shape) == 1)

    for name, info in (("b", b_info), ("grad", g_info)):
        if info.dtype != a_info.dtype and not (name == "grad" and aux is not None):
            raise _core.DTypeMismatch(f"operand {name}: a's dtype {a_info.dtype} required, got {info.dtype}")
    g = like_result("grad", grad, g_info)
    if wanted.activation is not _core.Activation.none:
        if aux is None:
            raise _core.MissingOperand(
                f"operand aux: required by activation={str(activation)!r}; pass what matmul(..., aux=) wrote"
            )
        stored = like_result("aux", aux, _core.inspect(aux, "aux"))
        dz = _frameworks.empty(a_info, a, shape, a_info.dtype, stream)
        z = like_result("d", dz, _core.inspect(dz))
        # The epilogue alone, of a product with k = 0: dz = (0 + grad) activation'(aux).
        nothing = [
            _batches.Matrix("a", a, "mk", z.outer, (z.inner[0], 1)),
            _batches.Matrix("b", a, "kj", (0,) * len(batch), (n, 1)),
        ]
        matrices = [*nothing, z, g._replace(operand="c"), stored]
        _contract(context, matrices, {**extents, "k": 0}, batch, {"c": "grad"}, wanted.activation)
        g = z._replace(operand="grad")
    elif aux is not None:
        raise _core.InvalidProblem("aux: an activation required, got activation='none'")

    def gradient(operand: _core.TensorInfo) -> tuple[Any, _core.TensorInfo]:
        tensor = _frameworks.ordered_like(a_info, a, operand, dtype, stream)
        return tensor, _core.inspect(tensor)

    # What sums over rows cannot be alike in any company of rows.
    of_rows = context
    if isinstance(preference, _core.PlanPreference) and preference.batch_invariant:
        free = _core.PlanPreference(**{**preference.__getstate__(), "batch_invariant": False})  # type: ignore[arg-type]
        of_rows = context._replace(preference=free)

    def contract(
        x: _batches.Matrix,
        y: _batches.Matrix,
        z: _batches.Matrix,
        i: int,
        j: int,
        r: int,
        context: _Context = context,
    ) -> None:
        """z [i, j] = x [i, r] y [r, j], summed over the batch dimensions that z has not."""
        matrices = [
            x._replace(operand="a", extents="mk"),
            y._replace(operand="b", extents="kj"),
            z._replace(operand="d", extents="mn"),
        ]
        names = {"a": x.operand, "b": y.operand, "d": z.operand}
        _contract(context, matrices, {"m": i, "n": j, "j": j, "k": r}, batch, names)

    of_a = of_b = dbias = None
    if da:
        of_a, da_info = gradient(a_info)
        b_transposed = _batches.factor("b", b, b_info, "kj", batch).transposed()
        contract(g, b_transposed, _batches.factor("da", of_a, da_info, "mk", batch), m, k, n)
    if db:
        of_b, db_info = gradient(b_info)
        a_transposed = _batches.factor("a", a, a_info, "mk", batch).transposed()
        contract(a_transposed, g, _batches.factor("db", of_b, db_info, "kj", batch), k, n, m, of_rows)
    shared = (0,) * len(batch)
    if wanted.bias == "n":
        rows = m  # as many ones as there are rows in all, so that the batch can make m longer
        outer: list[int] = []
        for size in reversed(batch):
            outer.insert(0, rows)
            rows *= size
        ones = _frameworks.ones(a_info, a, rows, a_info.dtype, stream)
        dbias = _frameworks.empty(a_info, a, (n,), dtype, stream)
        row = _batches.Matrix("ones", ones, "mk", tuple(outer), (0, 1))
        contract(row, g, _batches.Matrix("dbias", dbias, "mn", shared, (0, 1)), 1, n, m, of_rows)
    elif wanted.bias == "m":
        ones = _frameworks.ones(a_info, a, n, a_info.dtype, stream)
        dbias = _frameworks.empty(a_info, a, (m, 1), dtype, stream)
        column = _batches.Matrix("ones", ones, "kj", shared, (1, 0))
        contract(g, column, _batches.Matrix("dbias", dbias, "mn", shared, (1, 0)), m, 1, n)
    _plans.of_thread.plans = context.plans
    return MatmulGradients(
        *(x if x is None else _frameworks.finish(a_info, a, x) for x in (of_a, of_b, dbias))
    )


def _is_list(out: Any) -> bool:
    return isinstance(out, list) or type(out) is tuple  # a library's own tuples are no tensors: torch.Size


def _outputs(
    out: Any, columns: Sequence[int] | None, out_dtype: DTypeLike | None
) -> tuple[list[Any], Sequence[int]]:
    """Four, of which those after the last are None; and the columns of each."""
    wanted: Any = None if out_dtype is None else _frameworks.as_member(out_dtype, "out_dtype")
    if not _is_list(out) or (columns is not None and len(out) != len(columns)):
        got = len(out) if _is_list(out) else "one tensor"
        raise _core.InvalidProblem(
            f"out: a list of {len(columns or ())} tensors required by out_columns, got {got}"
        )
    if not 1 <= len(out) <= 4:
        raise _core.InvalidProblem(f"out: a tensor, or one to four in a list, required, got {len(out)}")
    own = []
    for i, x in enumerate(out):
        if x is None:
            raise _core.MissingOperand(
                f"operand out[{i}]: a tensor required, got None; without out= all are allocated"
            )
        info = _core.inspect(x, f"out[{i}]")
        if wanted is not None and info.dtype != wanted:
            raise _core.DTypeMismatch(f"operand out[{i}]: out_dtype {wanted} required, got {info.dtype}")
        if not info.shape or info.shape[-1] == 0:
            raise _core.ShapeMismatch(
                f"operand out[{i}]: at least one column required of each output, got shape {[*info.shape]}"
            )
        own.append(info.shape[-1])
    return [*out, *(None,) * (4 - len(out))], own if columns is None else columns


def _quantized(given: dict[str, Any]) -> dict[str, Any]:
    """Operands with those that are Quantized taken apart."""
    operands = {name: x for name, x in given.items() if not isinstance(x, Quantized)}
    for name, x in given.items():
        if not isinstance(x, Quantized):
            continue
        for part, tensor in x.operands(name).items():
            if operands.get(part) is not None:
                raise _core.InvalidProblem(
                    f"{part}: none required beside a Quantized, which brings its own, got one"
                )
            operands[part] = tensor
    return operands


def _result_shape(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], columns: int | None = None
) -> tuple[int, ...]:
    """`columns`: n, where it is not the last dimension of b."""
    if not a_shape or not b_shape:
        raise _core.ShapeMismatch(
            f"operand {'b' if a_shape else 'a'}: at least one dimension required, got a scalar"
        )
    k = b_shape[-2] if len(b_shape) > 1 else b_shape[0]
    if a_shape[-1] != k:
        raise _core.ShapeMismatch(
            f"operand b: {a_shape[-1]} rows required to match the last dimension of a, got {k} (a has shape "
            f"{[*a_shape]}, b {[*b_shape]})"
        )
    own = a_shape[-2:-1] if len(a_shape) > 1 else ()
    if len(b_shape) > 1:
        own += b_shape[-1:] if columns is None else (columns,)
    return _batches.broadcast(a_shape[:-2], b_shape[:-2]) + own


def _extents(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], columns: int | None = None
) -> dict[str, int]:
    j = b_shape[-1] if len(b_shape) > 1 else 1
    return {
        "m": a_shape[-2] if len(a_shape) > 1 else 1,
        "n": j if columns is None else columns,
        "k": a_shape[-1],
        "j": j,
    }


class _Context(NamedTuple):
    """What the runs of one call share."""

    math: MathLike | None
    deterministic: bool | None
    preference: _core.PlanPreference | None
    stream: StreamLike | None
    plans: list[_core.GemmPlan]  # that have run


def _run(
    context: _Context,
    arguments: dict[str, Any],
    names: dict[str, str],
    whole: dict[str, Any] | None = None,
) -> None:
    """One run of one plan, into the operand d. `names`: what errors call its operands.

    `whole`: of the first of several runs, the operands of all.
    """
    math, deterministic, preference, stream, plans = context
    called = _core.call_gemm(
        **arguments,
        math=math,
        deterministic=deterministic,
        preference=preference,
        stream=stream,
        names=names,
        whole=whole,
    )
    plans.append(called[0])


def _contract(
    context: _Context,
    matrices: Sequence[_batches.Matrix],
    extents: dict[str, int],
    batch: tuple[int, ...],
    names: dict[str, str],
    activation: _core.Activation = _core.Activation.none,
) -> None:
    """One product of a backward pass. `names`: what errors call its operands."""
    aux_mode: AuxLike | None = None if activation is _core.Activation.none else "gradient"
    options = {"activation": activation, "aux_mode": aux_mode}
    total: Any = None  # of what is summed run by run, in the accumulator's type
    for piece in _batches.pieces(matrices, extents, batch, sums=True):
        operands: dict[str, Any] = dict(piece.views)
        if not (piece.first and piece.last):
            d = operands["d"]
            info = _core.inspect(d)
            wide = _core.DType.float64 if info.dtype == _core.DType.float64 else _core.DType.float32
            if info.dtype == wide:
                total = d
            elif total is None:
                # In d's order, for the last run reads it as c.
                total = _frameworks.ordered_like(info, d, info, wide, context.stream)
            if not piece.first:
                operands["c"] = total
            if not piece.last:
                operands["d"] = total
        _run(context, {**operands, **options}, names)
