"""What crosses the border of the library is not lost in silence: derivatives, masks, writes, interrupts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.autograd.forward_ad as forward_ad
from torch._subclasses.fake_tensor import FakeTensorMode

import cutplan
from tests.bindings.producers import Producer


class ByCapsule(torch.Tensor):
    """Lends its memory by __dlpack__ alone."""

    __dlpack_c_exchange_api__ = None


class Wrapper(torch.Tensor):
    """Stands for another tensor, and shows its shape without its memory."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[attr-defined]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was called")


def negative(device: str) -> torch.Tensor:
    return torch.complex(torch.ones(4, 4), torch.full((4, 4), 3.0)).to(device).conj().imag


ways = pytest.mark.parametrize("way", [torch.Tensor, ByCapsule], ids=["exchange", "capsule"])


@ways
def test_forward_mode_tangents(way: type[torch.Tensor], device: str) -> None:
    x = torch.ones(4, 4, device=device)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x).as_subclass(way)
        for call in (lambda: cutplan.matmul(dual, x), lambda: cutplan.matmul(x, x, out=dual)):
            with pytest.raises(
                cutplan.ExportRefused, match=r"forward-mode tangent.*unpack_dual\(\w+\)\.primal"
            ):
                call()
        assert (cutplan.matmul(forward_ad.unpack_dual(dual).primal, x) == 4).all()
        assert (cutplan.matmul(x, x) == 4).all(), "no other tensor is refused"
    assert (cutplan.matmul(dual, x) == 4).all(), "outside of its level it has none"


@ways
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x[1:, ::2],
        lambda x: x[0, 0],
        lambda x: x[:1],
        lambda x: x[:1, :1].expand(3, 5),
        lambda x: x.as_strided((2, 3), (3, 1)),
        lambda x: x.as_strided((4, 4), (8, 1), 0),
        lambda x: x.set_(torch.ones(4, 4, device=x.device)),
        lambda x: torch._neg_view(x.resolve_neg()),  # type: ignore[attr-defined]
    ],
    ids=["whole", "slice", "scalar", "one row", "expanded", "odd strides", "even address", "set", "of reals"],
)
def test_negative_bits(
    view: Callable[[torch.Tensor], torch.Tensor], way: type[torch.Tensor], device: str
) -> None:
    x = view(negative(device)).as_subclass(way)
    assert x.is_neg()
    with pytest.raises(cutplan.ExportRefused, match=r"operand x: .*negative bit.*x\.resolve_neg\(\)"):
        cutplan.inspect(x, "x")
    assert cutplan.inspect(x.resolve_neg()).shape == tuple(x.shape)


@pytest.mark.parametrize("make", ["fake", "fake and empty", "wrapper", "zeros"])
def test_tensors_without_memory(make: str) -> None:
    with FakeTensorMode():
        fake, empty = torch.ones(2, 2), torch.ones(0, 2)
    bad, text = {
        "fake": (fake, "a fake tensor, which has a shape and no memory"),
        "fake and empty": (empty, "a fake tensor, which has a shape and no memory"),
        "wrapper": (Wrapper(torch.ones(2, 2)), "a tensor that stands for others"),
        "zeros": (torch._efficientzerotensor(2, 2), r"has no memory to read.*b\.clone\(\)"),
    }[make]
    with pytest.raises(cutplan.ExportRefused, match=f"operand b: .*{text}"):
        cutplan.matmul(torch.ones(2, 2), bad)


@pytest.mark.parametrize("grad_mode", [True, False])
@pytest.mark.parametrize(
    "transform",
    [
        lambda f, x: torch.func.vmap(f)(x),
        lambda f, x: torch.func.grad(lambda x: f(x).sum())(x),
        lambda f, x: torch.func.jvp(f, (x,), (x,)),
        lambda f, x: torch.func.functionalize(f)(x),
    ],
    ids=["vmap", "grad", "jvp", "functionalize"],
)
def test_transformed_tensors(transform: Callable[[Any, torch.Tensor], Any], grad_mode: bool) -> None:
    plain, caught = torch.ones(3, 3), []

    def call(x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(grad_mode), pytest.raises(cutplan.ExportRefused) as error:
            cutplan.matmul(x, plain)
        caught.append(str(error.value))
        assert cutplan.inspect(plain).data == plain.data_ptr(), "what is not transformed is read"
        return x * 1.0

    transform(call, torch.ones(2, 3, 3))
    assert caught
    for text in caught:
        assert "operand a: " in text and ("torch.func transforms" in text or "forward-mode tangent" in text)
        assert ".detach()" not in text, "which is a transformed tensor again"


def test_masked_arrays() -> None:
    masked = np.ma.array(np.ones((2, 3), "float32"), mask=[[1, 0, 0], [0, 0, 0]])
    with pytest.raises(cutplan.ExportRefused, match=r"operand a: got a masked array.*x\.filled"):
        cutplan.matmul(masked, np.ones((3, 2), "float32"))
    assert (cutplan.matmul(masked.filled(0), np.ones((3, 2), "float32")) == [[2, 2], [3, 3]]).all()


# ---- what is written is known to be


def writes(device: str) -> dict[str, Callable[[torch.Tensor], object]]:
    """Calls that write into a [1, 1, 4, 4] tensor, or into a part of it."""
    x = torch.ones(4, 4, device=device)
    q = torch.ones(1, 1, 4, 4, device=device)
    lse = torch.zeros(1, 1, 4, device=device)
    offsets = torch.tensor([0, 4], dtype=torch.int32, device=device)

    def run(plan: Any, *operands: torch.Tensor, **more: torch.Tensor) -> None:
        scratch = torch.empty(plan.workspace_size, dtype=torch.uint8, device=device)
        plan.run(*operands, **more, workspace=scratch)

    def product(d: torch.Tensor) -> None:
        run(cutplan.GemmPlan.select(cutplan.describe(x, x, d), device), x, x, d)

    def backward(name: str) -> Callable[[torch.Tensor], object]:
        def call(d: torch.Tensor) -> None:
            forward = cutplan.describe_attention(q, q, q, q, lse=lse)
            plan = cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward), device)
            outputs = {n: d if n == name else torch.empty_like(q) for n in ("dq", "dk", "dv")}
            run(plan, q, q, q, q, q, lse, **outputs)

        return call

    return {
        "matmul, out": lambda d: cutplan.matmul(x, x, out=d[0, 0]),
        "matmul, aux": lambda d: cutplan.matmul(x, x, activation="relu", aux=d[0, 0]),
        "matmul, batched": lambda d: cutplan.matmul(q, q, out=d),
        "grouped_matmul": lambda d: cutplan.grouped_matmul(x, x[None], offsets, out=d[0, 0]),
        "GemmPlan": lambda d: product(d[0, 0]),
        "attention, out": lambda d: cutplan.attention(q, q, q, out=d),
        **{f"FmhaBackwardPlan, {name}": backward(name) for name in ("dq", "dk", "dv")},
    }


@pytest.mark.parametrize("name", writes("cpu"))
@ways
def test_a_tensor_saved_for_backward_and_written(name: str, way: type[torch.Tensor], device: str) -> None:
    write = writes(device)[name]
    weight = torch.ones(1, 1, 4, 4, device=device, requires_grad=True)
    written = torch.full((1, 1, 4, 4), 2.0, device=device)
    saved = (weight * written).sum()
    before = written._version
    write(written.as_subclass(way))
    assert written._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()
    untouched = torch.full((1, 1, 4, 4), 2.0, device=device)
    saved = (weight * untouched).sum()
    write(torch.empty_like(written))
    saved.backward()
    assert (weight.grad == 2).all()  # type: ignore[union-attr]


def test_operands_that_are_read_keep_their_version(device: str) -> None:
    x = torch.ones(4, 4, device=device)
    c = torch.ones(4, 4, device=device)
    cutplan.matmul(x, x, c=c)
    assert (x._version, c._version) == (0, 0)


def test_refused_calls_write_nothing() -> None:
    x, out = torch.ones(4, 4), torch.ones(4, 4)
    with pytest.raises(cutplan.InvalidProblem):
        cutplan.matmul(x, x, alpha=float("nan"), out=out)
    assert out._version == 0


def test_tensors_of_inference_mode_have_no_version() -> None:
    with torch.inference_mode():
        x = torch.ones(4, 4)
        out = torch.empty(4, 4)
        assert cutplan.matmul(x, x, out=out) is out and (out == 4).all()


# ---- what is no refusal


class Interrupting:
    """Raises when it is asked for one of its parts, or when that is called."""

    def __init__(self, error: BaseException, part: str, when: str) -> None:
        self.error, self.part, self.when = error, part, when

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if not name.startswith("__dlpack") or name != own(self, "part"):
            return own(self, name)
        if own(self, "when") == "looked up":
            raise own(self, "error")

        def call(*_: Any, **__: Any) -> None:
            raise own(self, "error")

        return call

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("not reached: the device is asked before")


@pytest.mark.parametrize("when", ["looked up", "called"])
@pytest.mark.parametrize("part", ["__dlpack__", "__dlpack_device__"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
def test_interrupts_pass_through(error: type[BaseException], part: str, when: str) -> None:
    raised = error()
    tensor: Any = Interrupting(raised, part, when)
    calls: list[Callable[[], object]] = [
        lambda: cutplan.inspect(tensor),
        lambda: cutplan.matmul(tensor, tensor),
    ]
    if part == "__dlpack_device__":
        calls.append(lambda: cutplan.device_properties(tensor))
    for call in calls:
        with pytest.raises(error) as caught:
            call()
        assert caught.value is raised


def test_interrupts_of_the_second_operand_give_the_first_back() -> None:
    class Raising(Producer):
        def __dlpack__(self, **_: Any) -> Any:
            raise KeyboardInterrupt

    x = np.ones((2, 2), "float32")
    plan = cutplan.GemmPlan.select(cutplan.describe(x, x, x), "cpu")
    first = Producer((2, 2))
    with pytest.raises(KeyboardInterrupt):
        plan.run(first, Raising((2, 2)), x)
    assert first.deleted == 1


def test_other_errors_of_a_producer_are_refusals() -> None:
    raised = RuntimeError("not today")
    for part in ("__dlpack__", "__dlpack_device__"):
        with pytest.raises(cutplan.ExportRefused, match=r"operand tensor: .*not today") as caught:
            cutplan.inspect(Interrupting(raised, part, "called"))  # type: ignore[arg-type]
        assert caught.value.__cause__ is raised


# ---- what was found once


def test_what_inspect_found_describes(seed: int) -> None:
    """TensorInfo stands for its tensor where nothing is computed, and for no memory."""
    rng = np.random.default_rng(seed)
    m, n, k = (int(x) for x in rng.integers(1, 9, 3))
    a, b, d = torch.ones(m, k), torch.ones(n, k).T, torch.ones(m, n)
    infos = [cutplan.inspect(x) for x in (a, b, d)]
    assert cutplan.describe(*infos) == cutplan.describe(a, b, d)
    q = torch.ones(1, 2, m, 8)
    assert cutplan.describe_attention(*[cutplan.inspect(q)] * 3) == cutplan.describe_attention(q, q, q)
    plan = cutplan.GemmPlan.select(cutplan.describe(*infos), "cpu")
    plan.can_implement(*infos)
    for operands in ((infos[0], b, d), (a, infos[1], d), (a, b, infos[2])):
        with pytest.raises(cutplan.ExportRefused, match="TensorInfo does not speak DLPack"):
            plan.run(*operands)


def test_what_inspect_found_has_no_lengths() -> None:
    """Its tensor may be gone: can_implement() reads no lengths or offsets then, but checks all else."""
    q, lengths = torch.ones(2, 8, 16), np.array([0, 3, 8], "int32")
    used = np.array([3, 4], "int32")
    options = {"cu_seqlens_q": lengths, "cu_seqlens_k": lengths, "seqused_k": used}
    g = cutplan.describe_attention(q, q, q, **options, causal="top_left")
    plan = cutplan.FmhaPlan.select(g, "cpu")
    a, b, d = torch.ones(8, 4), torch.ones(2, 4, 4), torch.ones(8, 4)
    grouped = cutplan.GroupedGemmPlan.select(cutplan.describe_grouped(a, b, d, lengths), "cpu")
    wrong = lengths + 1
    with pytest.raises(cutplan.InvalidProblem, match="operand cu_seqlens_q: must start with 0"):
        plan.can_implement(q, q, q, q.clone(), **{**options, "cu_seqlens_q": wrong})
    with pytest.raises(cutplan.InvalidProblem, match="operand offsets: entry 2"):
        grouped.can_implement(a, b, d, offsets=wrong)
    for name in options:
        # Contents that no run takes are not looked at, as one that is there no longer could not be.
        stand_in = cutplan.inspect(np.full(2 if name == "seqused_k" else 3, 99, "int32"))
        plan.can_implement(q, q, q, q.clone(), **{**options, name: stand_in})
        plan.can_implement(q, q, q, q.clone(), **{**options, name: cutplan.TensorView(stand_in)})
    stand_in = cutplan.inspect(np.full(3, 99, "int32"))
    grouped.can_implement(a, b, d, offsets=stand_in)
    with pytest.raises(cutplan.InvalidProblem, match="alpha: "):
        grouped.can_implement(a, b, d, offsets=stand_in, alpha=float("nan"))
    with pytest.raises(cutplan.ShapeMismatch, match="operand offsets: "):
        grouped.can_implement(a, b, d, offsets=cutplan.inspect(np.zeros(4, "int32")))


# ---- Python code that runs while operands are read


class Freeing(Producer):
    """Has no memory left of `tensor` once it is asked for anything."""

    def __init__(self, tensor: torch.Tensor, *shape: int) -> None:
        super().__init__(shape)
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:  # type: ignore[override]
        self.free()
        return super().__dlpack__(**options)

    def free(self) -> float:
        self.tensor.untyped_storage().resize_(0)
        return 1.0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, at: int) -> int:
        return int(self.free())


class Number:
    def __init__(self, of: Freeing) -> None:
        self.of = of

    def __float__(self) -> float:
        return self.of.free()


@pytest.mark.parametrize("where", ["alpha", "b", "workspace", "function", "function, alpha", "window"])
def test_memory_that_is_freed_while_operands_are_read(where: str) -> None:
    n = 1024
    a, b, d = torch.ones(n, n), torch.ones(n, 4), torch.full((n, 4), torch.nan)
    plan = cutplan.GemmPlan.select(cutplan.describe(a, b, d), "cpu")
    of_a = Freeing(a, 4, 4)
    calls: dict[str, Callable[[], object]] = {
        "alpha": lambda: plan.run(a, b, d, alpha=Number(of_a)),  # type: ignore[arg-type]
        "b": lambda: plan.run(a, Freeing(a, n, 1), d[:, :1]),
        "workspace": lambda: plan.run(a, b, d, workspace=of_a),
        "function": lambda: cutplan.matmul(a, Freeing(a, n, 1)),
        "function, alpha": lambda: cutplan.matmul(a, b, alpha=Number(of_a)),  # type: ignore[call-overload]
        "window": lambda: cutplan.attention(
            *[a.view(1, 1, n, n)] * 3,
            window=of_a,  # type: ignore[arg-type]
        ),
    }
    if where == "b":
        plan = cutplan.GemmPlan.select(cutplan.describe(a, b[:, :1], d[:, :1]), "cpu")
    with pytest.raises(cutplan.ExportRefused, match="operand [aq]: torch.Tensor has no memory to read"):
        calls[where]()
    assert d.isnan().all()


@pytest.mark.parametrize(
    "thing", [torch.nn.Linear(4, 4), torch.float32, torch.Generator(), torch.Size([4])], ids=type
)
def test_what_is_of_torch_and_no_tensor(thing: Any) -> None:
    a = torch.ones(4, 4)
    with pytest.raises(
        cutplan.ExportRefused, match=r"operand b: .* does not speak DLPack \(it has no __dlpack__\)"
    ):
        cutplan.matmul(a, thing)
    with pytest.raises(cutplan.ExportRefused, match="operand out: .* does not speak DLPack"):
        cutplan.matmul(a, a, out=thing)
