"""The two doors to torch: registered operators, where torch traces, transforms or intercepts calls, and
direct calls, which cost a third as much, everywhere else."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import library

import cutplan

from .. import _core

# Operands are torch's here, and options go on as they came.
plain: Any = cutplan

LIBRARY = library.Library("cutplan", "DEF")
DEVICES = ("CPU", "CUDA")

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter})
_is_compiling = torch.compiler.is_compiling
_dispatch_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._are_functorch_transforms_active
_any_autocast = torch._C._is_any_autocast_enabled
_is_grad_enabled = torch.is_grad_enabled


def is_traced(*tensors: torch.Tensor) -> bool:
    """Whether a call has to be one of the registered operator: under torch.compile and export, torch.func's
    transforms, modes that see every operator (fake tensors, counting of FLOPs), and of subclasses of Tensor.
    """
    if _is_compiling() or _dispatch_modes() or _transforms():
        return True
    for x in tensors:  # noqa: SIM110 (a generator takes longer than all the rest)
        if type(x) not in _PLAIN or x.is_meta:
            return True
    return False


def is_direct(*tensors: torch.Tensor) -> bool:
    """Whether nothing stands between a call and the plan but, perhaps, gradients."""
    return not (_any_autocast() or is_traced(*tensors))


def records(*tensors: torch.Tensor | None) -> bool:
    """Whether autograd has to hear of the call."""
    if _is_grad_enabled():
        for x in tensors:  # noqa: SIM110
            if x is not None and x.requires_grad:
                return True
    return False


def applied(function: Any) -> Callable[..., Any]:
    """function.apply without the part of it that is Python, which looks for torch.func's wrappers as
    is_traced() has done, and takes as long as the rest."""
    return super(torch.autograd.Function, function).apply


def cast(x: Any, dtype: torch.dtype) -> Any:
    """As autocast casts: tensors of floating types, but for float64."""
    if isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype not in (dtype, torch.float64):
        return x.to(dtype)
    return x


def autocast_dtype(x: torch.Tensor) -> torch.dtype | None:
    """What autocast casts operands to now; None outside of it."""
    if not _any_autocast() or not torch.is_autocast_enabled(x.device.type):
        return None
    return torch.get_autocast_dtype(x.device.type)


_SCHEMA_TYPES = {
    "torch.Tensor": "Tensor",
    "torch.dtype": "ScalarType",
    "int": "SymInt",
    "float": "float",
    "bool": "bool",
    "str": "str",
    "list[float]": "float[]",
}


def schema(*tuples: Any, writes: Sequence[str] = ()) -> str:
    """The arguments of an operator, which are the fields of NamedTuples, with their defaults; it `writes` to
    some. (A dtype's default is None: torch hands any other to setup_context as a number.)"""
    arguments = []
    for name, annotation in (item for fields in tuples for item in fields.__annotations__.items()):
        text = annotation.__forward_arg__ if hasattr(annotation, "__forward_arg__") else annotation
        kind, _, none = text.partition(" | ")
        alias = f"({chr(ord('a') + writes.index(name))}!)" if name in writes else ""
        default = next((_default(t._field_defaults[name]) for t in tuples if name in t._field_defaults), "")
        arguments.append(f"{_SCHEMA_TYPES[kind]}{alias}{'?' if none else ''} {name}{default}")
    return ", ".join(arguments)


def _default(value: Any) -> str:
    return f"='{value}'" if isinstance(value, str) else f"={value}"


def split(arguments: Sequence[Any], *tuples: Any) -> list[Any]:
    """The arguments of an operator as the NamedTuples of its schema. torch leaves the last out where they
    are the defaults."""
    made = []
    for fields in tuples:
        made.append(fields(*arguments[: len(fields._fields)]))
        arguments = arguments[len(fields._fields) :]
    return made


def define(
    name: str,
    arguments: str,
    results: str,
    run: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    vmap: Callable[..., Any] | None = None,
    casts: Sequence[str] = (),
    flops: Callable[..., int] | None = None,
) -> Any:
    """Registers cutplan::`name`. `casts`: the arguments that autocast casts; without `backward` a derivative
    is refused."""
    LIBRARY.define(f"{name}({arguments}) -> {results}", tags=(torch.Tag.pt2_compliant_tag,))
    for device in DEVICES:
        LIBRARY.impl(name, run, device)
    full_name = f"cutplan::{name}"
    operator = getattr(torch.ops.cutplan, name).default
    library.register_fake(full_name, _of_one_device(operator, fake), lib=LIBRARY)
    call = operator
    if not operator._schema.is_mutable:
        call = _with_transforms(
            operator, setup_context, backward or _refuse_derivative(full_name), vmap or one_by_one
        )
    for device in DEVICES if casts else ():
        LIBRARY.impl(name, _under_autocast(operator, device, frozenset(casts)), f"Autocast{device}")
    if flops is not None:
        from torch.utils.flop_counter import register_flop_formula

        register_flop_formula(getattr(torch.ops.cutplan, name))(flops)
    return call


def _of_one_device(operator: Any, fake: Callable[..., Any]) -> Callable[..., Any]:
    """Nothing is computed where memory is missing, so that nothing is said of other operands' devices but
    here."""
    names = [argument.name for argument in operator._schema.arguments]

    def checked(*arguments: Any) -> Any:
        first = None
        for name, x in zip(names, arguments, strict=False):
            if not isinstance(x, torch.Tensor):
                continue
            if first is None:
                first, device = name, x.device
            elif x.device != device:
                where = name if x.device.type == "meta" else first
                hint = (
                    f"; {where} has no memory yet: load it" if "meta" in (x.device.type, device.type) else ""
                )
                raise _core.DeviceMismatch(
                    f"operand {name}: {first}'s device {device} required, got {x.device}{hint}"
                )
        return fake(*arguments)

    return checked


def _with_transforms(operator: Any, setup: Any, gradients: Any, vmap: Any) -> Callable[..., Any]:
    """The operator with its rules, and as torch.func's transforms want it, which differentiate through no
    operator that is registered."""

    def set_up(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.given = len(inputs)  # torch leaves the last ones out where they are the schema's defaults
        if setup is not None:
            setup(ctx, inputs, output)

    def backward(ctx: Any, *grads: Any) -> Any:
        return gradients(ctx, *grads)[: ctx.given]

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            made = operator(*arguments)
            return tuple(made) if isinstance(made, list) else made

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            set_up(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

        @staticmethod
        def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
            made, dims = rule(info, in_dims, *arguments)
            return (tuple(made), tuple(dims)) if isinstance(made, list) else (made, dims)

    def call(*arguments: Any) -> Any:
        if _transforms() and not _is_compiling():
            return Transformed.apply(*arguments)
        return operator(*arguments)

    rule = vmap(call)  # under further transforms it calls what these want
    name = operator._schema.name
    library.register_autograd(name, backward, setup_context=set_up, lib=LIBRARY)
    library.register_vmap(name, rule, lib=LIBRARY)
    return call


def _refuse_derivative(name: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any) -> NoReturn:
        refuse_derivative(name)

    return refuse


def refuse_derivative(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name} has no derivative"
        + ("; gradients cannot be differentiated again" if "backward" in name else "")
    )


def needed(ctx: Any, fields: Sequence[str]) -> list[bool]:
    """Which of an operator's first arguments need gradients."""
    of_given = ctx.needs_input_grad[: len(fields)]
    return [*of_given, *[False] * (len(fields) - len(of_given))]


class _NoSecondDerivative(torch.autograd.Function):
    """Of `count` gradients and what they were made from: the gradients."""

    @staticmethod
    def forward(ctx: Any, name: str, count: int, *tensors: torch.Tensor) -> Any:
        ctx.name = name
        return tuple(x.view_as(x) for x in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        refuse_derivative(ctx.name)


def first_derivative(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Of a backward pass, which is called with the saved tensors: its results have no derivative, which is
    said by name when one is asked for. (Operators that are traced say it themselves.)"""

    def of(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def run(ctx: Any, *grads: torch.Tensor) -> Any:
            saved = ctx.saved_tensors  # once: checkpoints hand them out no second time
            if not torch.is_grad_enabled() or is_traced(*grads):
                return backward(ctx, saved, *grads)
            with torch.no_grad():
                made = backward(ctx, saved, *grads)
            there = [x for x in made if x is not None]
            given = [x for x in (*grads, *saved) if x is not None]
            wrapped = iter(_NoSecondDerivative.apply(name, len(there), *there, *given))
            return tuple(None if x is None else next(wrapped) for x in made)

        return run

    return of


def _under_autocast(operator: Any, device: str, casts: frozenset[str]) -> Callable[..., Any]:
    key = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device}"))
    names = [argument.name for argument in operator._schema.arguments]

    def kernel(*arguments: Any, **named: Any) -> Any:
        dtype = torch.get_autocast_dtype(device.lower())
        with torch._C._ExcludeDispatchKeyGuard(key):
            return operator(
                *(cast(x, dtype) if name in casts else x for name, x in zip(names, arguments, strict=False)),
                **{name: cast(x, dtype) if name in casts else x for name, x in named.items()},
            )

    return kernel


def one_by_one(operator: Any) -> Callable[..., Any]:
    """The rule for vmap of what kernels have no batch for."""

    def rule(info: Any, in_dims: Sequence[Any], *arguments: Any) -> Any:
        each = [
            operator(
                *(x if dim is None else x.select(dim, i) for x, dim in zip(arguments, in_dims, strict=True))
            )
            for i in range(info.batch_size)
        ]
        if isinstance(each[0], torch.Tensor):
            return torch.stack(each), 0
        stacked = [torch.stack(parts) for parts in zip(*each, strict=True)]
        return type(each[0])(stacked), type(each[0])([0] * len(stacked))

    return rule


# ---- What can be said of a call before there is memory, in cutplan's own words ----


def check_type(name: str, x: torch.Tensor | None, like_name: str, like: torch.Tensor) -> None:
    if x is not None and x.dtype != like.dtype:
        required, got = (str(t.dtype).removeprefix("torch.") for t in (like, x))
        raise _core.DTypeMismatch(f"operand {name}: {like_name}'s dtype {required} required, got {got}")


def check_shape(name: str, x: torch.Tensor, required: Sequence[Any]) -> None:
    if x.dim() != len(required) or any(a != b for a, b in zip(x.shape, required, strict=True)):
        raise _core.ShapeMismatch(f"operand {name}: shape {[*required]} required, got {[*x.shape]}")


# ---- What kernels do not read ----

REFUSED = (_core.LayoutMismatch, _core.Misaligned, _core.Unsupported, _core.ExportRefused)


def in_order(x: torch.Tensor, turned: bool) -> torch.Tensor:
    """`x`, or a copy of it: with contiguous rows, or columns."""
    if turned and x.dim() > 1:
        return x if x.mT.is_contiguous() else x.mT.contiguous().mT
    return x.contiguous()


def is_turned(x: torch.Tensor) -> bool:
    """Column-major, as a transposed weight is."""
    return x.dim() > 1 and x.shape[-1] > 1 and x.stride(-2) == 1 and x.stride(-1) > 1


def readable(call: Callable[..., Any], *tensors: Any) -> Any:
    """call(*tensors); where cutplan refuses them, with contiguous copies of those whose strides may be why.
    torch's own functions take any strides, and so do those that stand in for them, and only they."""
    try:
        return call(*tensors)
    except REFUSED:
        copies = [x.contiguous() if isinstance(x, torch.Tensor) else x for x in tensors]
        if all(x is y for x, y in zip(copies, tensors, strict=True)):
            raise
        return call(*copies)
