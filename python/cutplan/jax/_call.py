"""The one primitive behind every function: a call of a plan, whose problem a text describes."""

from __future__ import annotations

import abc
import ctypes
import dataclasses
import functools
import itertools
import math
import operator
import pathlib
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from jax.extend import core
from jax.interpreters import ad, batching, mlir, xla
from jax.sharding import PartitionSpec

from .. import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

if jax.__version_info__ < (0, 10, 2):
    raise ImportError(f"cutplan.jax: jax 0.10.2 or newer required, got {jax.__version__}")


class View(NamedTuple):
    """How an operand lies in its buffer. Strides count elements."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Problem(abc.ABC):
    """What a call computes, without its arrays. Frozen dataclasses: programs are kept by their values."""

    target: str
    aliases: tuple[tuple[int, int], ...] = ()  # inputs whose memory a result has

    @abc.abstractmethod
    def results(self, avals: Sequence[Any]) -> list[tuple[tuple[int, ...], Any]]:
        """Shapes and types."""

    @abc.abstractmethod
    def words(self, avals: Sequence[Any]) -> Iterable[View | str]:
        """A view of each argument and result, or "-=" for what no operand is; then options, name=value."""

    @abc.abstractmethod
    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        """The results for `size` problems at once, along a new first dimension of each. `dims`: where each
        array has the dimension."""


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    steps = itertools.accumulate((max(size, 1) for size in shape[:0:-1]), operator.mul, initial=1)
    return tuple(steps)[::-1] if shape else ()


def whole(name: str, aval: Any) -> View:
    """An operand that is its buffer."""
    return View(name, aval.dtype, tuple(aval.shape), row_major(aval.shape))


def options_of(**options: Any) -> tuple[str, ...]:
    """Words for those that are not None."""
    return tuple(f"{name}={_spelled(value)}" for name, value in options.items() if value is not None)


def preference_words(preference: _core.PlanPreference) -> tuple[str, ...]:
    return options_of(**{name: value for name, value in preference.__getstate__().items() if value != ""})


def _spelled(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    if ";" in text or "=" in text:
        raise _core.InvalidProblem(f"kernel: the name of a kernel required, got {text!r}")
    return text


def to_preference(
    math: Any, deterministic: Any, preference: _core.PlanPreference | None
) -> _core.PlanPreference:
    """The caller's preference, or the one that `math` and `deterministic` make."""
    if preference is None:
        return _core.PlanPreference(math=math, deterministic=deterministic)
    for name, given, default in (("math", math, "tf32x3"), ("deterministic", deterministic, False)):
        if given is not None and str(given) != str(default):
            raise _core.InvalidProblem(
                f"{name}: not beside preference, which has its own; pass PlanPreference({name}=...)"
            )
    return preference


def for_gradients(preference: _core.PlanPreference, **changes: Any) -> _core.PlanPreference:
    """The forward's, without its kernel."""
    return _core.PlanPreference(**{**preference.__getstate__(), "kernel": None, **changes})


# ---- the library ----

# In the order of the library's ErrorCode.
_ERRORS = (
    _core.InvalidProblem, _core.Unsupported, _core.MissingOperand, _core.DTypeMismatch, _core.ShapeMismatch,
    _core.LayoutMismatch, _core.DeviceMismatch, _core.Misaligned, _core.ReadOnly, _core.Overlap,
    _core.WorkspaceTooSmall, _core.DeviceError,
)  # fmt: skip
_HOST = -1


def _load() -> tuple[ctypes.CDLL, dict[str, int]]:
    """Registers the targets; the number of each."""
    path = pathlib.Path(__file__).parent.parent / "lib" / "libcutplan_jax.so"
    if not path.exists():
        raise ImportError(f"cutplan.jax: this build of cutplan is without it (CUTPLAN_JAX=OFF): no {path}")
    library = ctypes.CDLL(str(path))
    library.cutplan_jax_target.restype = ctypes.c_char_p
    library.cutplan_jax_workspace.restype = ctypes.c_longlong
    targets: dict[str, int] = {}
    cpu, cuda = ctypes.c_void_p(), ctypes.c_void_p()
    while name := library.cutplan_jax_target(len(targets), ctypes.byref(cpu), ctypes.byref(cuda)):
        for platform, handler in (("cpu", cpu), ("CUDA", cuda)):
            jax.ffi.register_ffi_target(name.decode(), jax.ffi.pycapsule(handler.value), platform=platform)
        targets[name.decode()] = len(targets)
    return library, targets


_library, _targets = _load()


def _workspace(problem: Problem, text: str, device: int) -> int:
    """Scratch that the problem needs there, in bytes. Raises what selecting its plan does."""
    said, code = ctypes.create_string_buffer(4096), ctypes.c_int()
    size: int = _library.cutplan_jax_workspace(
        _targets[problem.target], text.encode(), device, ctypes.byref(code), said, len(said)
    )
    if size < 0:
        message = said.value.decode()
        raise _ERRORS[code.value](message) if code.value >= 0 else ValueError(message)
    return size


def _text(problem: Problem, avals: Sequence[Any]) -> str:
    words = []
    for word in problem.words(avals):
        if isinstance(word, View):
            shape, strides = (",".join(map(str, x)) for x in (word.shape, word.strides))
            word = f"{word.name}={_core.DType(word.dtype)}:{shape}:{strides}"
        words.append(word)
    return ";".join(words)


def export_checks() -> list[Any]:
    """For ``jax.export.export(..., disabled_checks=...)``, which asks of every target that is not JAX's own
    whether its programs may be kept. These run where this version of cutplan is: another one may refuse
    them, but does not take them for something else."""
    return [jax.export.DisabledSafetyCheck.custom_call(target) for target in _targets]


# ---- the primitive ----

_call_p = core.Primitive("cutplan")
_call_p.multiple_results = True
_call_p.def_impl(functools.partial(xla.apply_primitive, _call_p))


def call(problem: Problem, arrays: Sequence[Any]) -> list[Any]:
    results: list[Any] = _call_p.bind(*alike(arrays), problem=problem)
    return results


def alike(arrays: Sequence[Any]) -> list[Any]:
    """Arrays that vary along the same axes of a mesh, where shard_map tells them apart: before a function
    that has gradients, so that those of what is the same everywhere are summed."""
    manual: list[frozenset[Any]] = [
        getattr(getattr(jax.typeof(x), "mat", None), "varying", frozenset()) for x in arrays
    ]
    varying = frozenset[Any]().union(*manual)
    made = []
    for x, own in zip(arrays, manual, strict=True):
        missing = tuple(sorted(varying - own, key=str))
        made.append(jax.lax.pcast(x, missing, to="varying") if missing else x)
    return made


def _devices() -> tuple[int, ...]:
    """What a program may be lowered for, the likeliest first: where that can serve a problem, no other is
    asked, which might measure."""
    if _core.cuda_device_count() == 0:
        return (_HOST,)
    return (0, _HOST) if jax.default_backend() == "gpu" else (_HOST, 0)


def _results(*avals: Any, problem: Problem) -> list[Any]:
    if not all(isinstance(size, int) for aval in avals for size in aval.shape):
        raise _core.InvalidProblem(
            f"extents: integers required, got {[tuple(map(str, aval.shape)) for aval in avals]}; "
            "a program is traced for one shape at a time"
        )
    text = _text(problem, avals)
    refusal: _core.Error | None = None
    for device in _devices():
        try:
            _workspace(problem, text, device)
            break
        except _core.Error as error:
            refusal = refusal or error
    else:
        assert refusal is not None
        raise refusal
    like = avals[0]
    return [
        like.update(
            shape=shape,
            dtype=jax.numpy.dtype(dtype),
            weak_type=False,
            sharding=like.sharding.update(spec=PartitionSpec(*(None,) * len(shape))),
        )
        for shape, dtype in problem.results(avals)
    ]


_call_p.def_abstract_eval(_results)


def _lower(ctx: Any, *operands: Any, problem: Problem, is_cuda: bool) -> Any:
    text = _text(problem, ctx.avals_in)
    size = 0
    # Programs for GPUs can be exported where there are none: these choose kernels that need no scratch.
    if not is_cuda or _core.cuda_device_count() > 0:
        size = _workspace(problem, text, 0 if is_cuda else _HOST)
    results = list(ctx.avals_out)
    words, scratch = text, []
    if size > 0:
        words += ";workspace="
        scratch = [jax.core.ShapedArray((size + 256,), jax.numpy.uint8)]  # more, to align it
    words += f";max_workspace_bytes={size}"
    lower = jax.ffi.ffi_lowering(problem.target, operand_output_aliases=dict(problem.aliases))
    made = lower(ctx.replace(avals_out=[*results, *scratch]), *operands, problem=words)
    return made[: len(results)]


for _platform, _is_cuda in (("cpu", False), ("cuda", True)):
    mlir.register_lowering(_call_p, functools.partial(_lower, is_cuda=_is_cuda), platform=_platform)


def _batch(arrays: Sequence[Any], dims: Sequence[Any], *, problem: Problem) -> tuple[list[Any], list[int]]:
    (size,) = {x.shape[dim] for x, dim in zip(arrays, dims, strict=True) if dim is not None}
    results = list(problem.batched(size, arrays, dims))
    return results, [0] * len(results)


batching.primitive_batchers[_call_p] = _batch


def _refuse_gradient(primals: Any, tangents: Any, *, problem: Problem) -> Any:
    name = problem.target.removeprefix("cutplan_")
    what = "a cache that is written" if "append" in name else "a gradient of cutplan.jax"
    raise _core.Unsupported(
        f"{name}: {what} is differentiated, and has no derivative; jax.lax.stop_gradient makes a constant of "
        "what need not be differentiated"
    )


ad.primitive_jvps[_call_p] = _refuse_gradient


def _constant(name: str, x: Any) -> Any:
    def refuse(primals: Any, tangents: Any) -> Any:
        raise _core.Unsupported(
            f"operand {name}: it has no gradient, and is differentiated; pass jax.lax.stop_gradient({name})"
        )

    same: Callable[[Any], Any] = jax.custom_jvp(lambda x: x)
    same.defjvp(refuse)  # type: ignore[attr-defined]
    return same(x)


def constants(arrays: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """`arrays`, of which these raise by name where they are differentiated."""
    found = {name: _constant(name, arrays[name]) for name in names if name in arrays}
    return {**arrays, **found}


# ---- vmap ----


@dataclasses.dataclass(frozen=True)
class _Repeated(Problem):
    """A problem for each of `size` lanes, one run after the other in one call: of what no kernel has a batch
    for. `lanes`: which arrays have a leading dimension of their own for it; the others are shared."""

    problem: Problem
    size: int
    lanes: tuple[bool, ...]

    @property
    def target(self) -> str:  # type: ignore[override]
        return self.problem.target

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        return self.problem.aliases

    def _one(self, avals: Sequence[Any]) -> list[Any]:
        return [
            jax.ShapeDtypeStruct(x.shape[has:], x.dtype) for x, has in zip(avals, self.lanes, strict=True)
        ]

    def results(self, avals: Sequence[Any]) -> list[tuple[tuple[int, ...], Any]]:
        return [((self.size, *shape), dtype) for shape, dtype in self.problem.results(self._one(avals))]

    def words(self, avals: Sequence[Any]) -> Iterable[View | str]:
        one = self._one(avals)
        buffers = [(x.shape, x.dtype) for x in one] + self.problem.results(one)
        has = [*self.lanes, *(True for _ in buffers[len(one) :])]
        place, loops = 0, 1
        for word in self.problem.words(one):
            if isinstance(word, View):
                shape, dtype = buffers[place]
                bytes_apart = math.prod(shape) * jax.numpy.dtype(dtype).itemsize if has[place] else 0
                apart = bytes_apart // jax.numpy.dtype(word.dtype).itemsize
                yield word._replace(shape=(self.size, *word.shape), strides=(apart, *word.strides))
            elif word.startswith("loops="):
                loops += int(word.removeprefix("loops="))
                continue
            else:
                yield word
            place += 1
        yield f"loops={loops}"

    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        return repeated(self, size, arrays, dims)


def repeated(problem: Problem, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    updated = {argument for argument, _ in problem.aliases}
    made, lanes = [], []
    for i, (x, dim) in enumerate(zip(arrays, dims, strict=True)):
        lanes.append(dim is not None or i in updated)
        made.append(front(x, dim, size) if lanes[-1] else x)
    return call(_Repeated(problem, size, tuple(lanes)), made)


@dataclasses.dataclass(frozen=True)
class Plain(Problem):
    """Operands that are whole arrays. `outs`: name, shape and type of each result.

    `batch_at`: where operands and results have the kernel's batch, if it has one. What vmap adds becomes part
    of it, where every array that it is in has one.
    """

    target: str
    names: tuple[str, ...]
    outs: tuple[tuple[str, tuple[int, ...], Any], ...]
    options: tuple[str, ...]
    batch_at: tuple[tuple[str, int], ...] = ()
    updates: tuple[tuple[str, str], ...] = ()  # inputs whose memory a result has, and that result
    shared: tuple[tuple[str, int], ...] = ()  # operands that are one for the whole batch, and its extent
    turned: tuple[str, ...] = ()  # arrays that are an operand's transpose

    @property
    def aliases(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        places = [name for name, _, _ in self.outs]
        return tuple((self.names.index(x), places.index(y)) for x, y in self.updates)

    def results(self, avals: Sequence[Any]) -> list[tuple[tuple[int, ...], Any]]:
        return [(shape, dtype) for _, shape, dtype in self.outs]

    def words(self, avals: Sequence[Any]) -> Iterable[View | str]:
        updated, shared, at = dict(self.updates), dict(self.shared), dict(self.batch_at)
        for name, aval in zip(self.names, avals, strict=True):
            view = whole(name, aval)
            shape, strides = list(view.shape), list(view.strides)
            if name in shared:
                shape[at[name]], strides[at[name]] = shared[name], 0
            if name in self.turned:
                shape[-2:], strides[-2:] = shape[:-3:-1], strides[:-3:-1]
            view = view._replace(shape=tuple(shape), strides=tuple(strides))
            if name == "rng_state" and view.dtype == jax.numpy.uint32:
                view = View(name, jax.numpy.dtype("int64"), (math.prod(view.shape) // 2,), (1,))
            yield "-=" if updated.get(name) == name else view
        for name, extents, dtype in self.outs:
            yield View(name, dtype, extents, row_major(extents))
        yield from self.options

    def batched(self, size: int, arrays: Sequence[Any], dims: Sequence[int | None]) -> Sequence[Any]:
        at = dict(self.batch_at)
        merges = all(name in at for name, _, _ in self.outs) and all(
            dim is None or name in at for name, dim in zip(self.names, dims, strict=True)
        )
        if not merges:
            return repeated(self, size, arrays, dims)
        name, shape, _ = self.outs[0]
        batch = shape[at[name]]
        made, shared = [], dict(self.shared)
        for name, x, dim in zip(self.names, arrays, dims, strict=True):
            if name not in at:
                made.append(x)
                continue
            place = at[name]
            # A stride of 0: but vectors have to be contiguous, and what is written has to be there.
            if dim is None and x.shape[place] == 1 and x.ndim > 1 and name not in dict(self.updates):
                shared[name] = size * batch
                made.append(x)
                continue
            shared.pop(name, None)
            x = front(x, dim, size)
            own = x.shape[1:]
            x = jax.numpy.broadcast_to(x, (size, *own[:place], batch, *own[place + 1 :]))
            x = jax.numpy.moveaxis(x, 0, place)
            made.append(x.reshape(*own[:place], size * batch, *own[place + 1 :]))

        def grown(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(x * size if i == at[name] else x for i, x in enumerate(shape))

        outs = tuple((name, grown(name, shape), dtype) for name, shape, dtype in self.outs)
        results = call(dataclasses.replace(self, outs=outs, shared=tuple(shared.items())), made)
        apart = []
        for (name, shape, _), x in zip(self.outs, results, strict=True):
            place = at[name]
            x = x.reshape(*shape[:place], size, *shape[place:])
            apart.append(jax.numpy.moveaxis(x, place, 0))
        return apart


def front(x: Any, dim: int | None, size: int) -> Any:
    """`x` with the dimension of a vmap first."""
    if dim is not None:
        return jax.numpy.moveaxis(x, dim, 0)
    return jax.numpy.broadcast_to(x, (size, *x.shape))
