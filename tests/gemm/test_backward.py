"""matmul and its gradients: finite differences, torch's autograd, and every operand that matmul takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import cutplan
from tests.gemm.problems import (
    ACTIVATIONS,
    GATES,
    SERVED,
    TORCH,
    Options,
    Problem,
    Shape,
    generator,
    poisoned_workspace,
    random_values,
)
from tests.oracle import OutputBound, Product, Reference, activate, complaint, derivative, reference

# a's shape and b's: plain, thin, batched on both sides, on one, with broadcasting in between.
SHAPES = [
    ((24, 40), (40, 16)),
    ((1, 40), (40, 16)),
    ((24, 1), (1, 16)),
    ((5, 7), (7, 3)),
    ((3, 24, 40), (3, 40, 16)),
    ((3, 24, 40), (40, 16)),
    ((24, 40), (3, 40, 16)),
    ((2, 3, 8, 16), (3, 16, 24)),
    ((2, 1, 8, 16), (1, 3, 16, 24)),
]
shapes = pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES, ids=lambda shape: "x".join(map(str, shape)))


@dataclass(frozen=True)
class Layer:
    """y = activation(a b + bias) and a gradient of y."""

    a: torch.Tensor
    b: torch.Tensor
    bias: torch.Tensor
    grad: torch.Tensor

    @staticmethod
    def of(
        a_shape: Sequence[int], b_shape: Sequence[int], operand: str, device: str, source: torch.Generator
    ) -> Layer:
        def random(shape: Sequence[int]) -> torch.Tensor:
            return random_values(shape, False, source).to(TORCH[operand])

        batch = torch.broadcast_shapes(a_shape[:-2], b_shape[:-2])
        y_shape = (*batch, a_shape[-2], b_shape[-1])
        return Layer(random(a_shape), random(b_shape), random(b_shape[-1:]), random(y_shape))


def summed_to(x: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """What broadcasting from `shape` gives back."""
    return x.sum_to_size(shape)


def exact_gradients(
    x: Layer, activation: str, aux: torch.Tensor | None, rounding: float
) -> dict[str, Reference]:
    """In float64. The gradient before the activation is rounded once, by `rounding`, where there is one."""
    g = x.grad.double()
    if aux is not None:
        g = g * derivative(activation, aux.double())
    a, b = x.a.double(), x.b.double()
    columns = tuple(range(g.dim() - 1))
    found = {
        "da": (summed_to(g @ b.mT, a.shape), summed_to(g.abs() @ b.abs().mT, a.shape)),
        "db": (summed_to(a.mT @ g, b.shape), summed_to(a.abs().mT @ g.abs(), b.shape)),
        "dbias": (g.sum(columns), g.abs().sum(columns)),
    }
    roundings = g.numel() + a.shape[-1] + 64
    slack = rounding + roundings * 2.0**-53
    return {name: Reference(value, size, slack * size) for name, (value, size) in found.items()}


def guarantee_of(operand: str, device: str, terms: int, d: str) -> Any:
    """For sums of as many products."""
    descriptor = cutplan.GemmDescriptor(m=64, n=64, k=max(terms, 1), a=operand, d=d)
    return cutplan.GemmPlan.select(descriptor, device).precision_guarantee


def check_gradients(
    x: Layer, device: str, activation: str = "none", aux: torch.Tensor | None = None, **options: Any
) -> None:
    operand = str(cutplan.inspect(x.a).dtype)
    grads = cutplan.matmul_backward(x.grad, x.a, x.b, bias=True, activation=activation, aux=aux, **options)
    stored = str(options.get("grad_dtype") or operand)
    rounding = torch.finfo(TORCH[operand]).eps if aux is not None else 0.0
    exact = exact_gradients(x, activation, aux, rounding)
    guarantee = guarantee_of(operand, device, x.grad.numel() + x.b.numel(), stored)
    for name, result in (("da", grads.da), ("db", grads.db), ("dbias", grads.dbias)):
        assert result.dtype == TORCH[stored], name
        what = complaint(result, exact[name], guarantee, name)
        assert what is None, what


@shapes
@pytest.mark.parametrize("device, operand", SERVED)
def test_gradients(
    device: str, operand: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int
) -> None:
    """In the operands' type and in float32, through contiguous and transposed operands."""
    x = Layer.of(a_shape, b_shape, operand, device, generator(device, seed))
    for grad_dtype in (None, "float32") if operand != "float64" else (None,):
        check_gradients(x, device, grad_dtype=grad_dtype)
    column_major = Layer(*(t.mT.contiguous().mT for t in (x.a, x.b)), x.bias, x.grad.mT.contiguous().mT)
    check_gradients(column_major, device)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
@pytest.mark.parametrize("device, operand", SERVED)
def test_gradients_through_an_activation(device: str, operand: str, activation: str, seed: int) -> None:
    """aux as matmul stored it, or any other."""
    x = Layer.of((3, 24, 40), (40, 16), operand, device, generator(device, seed))
    aux = torch.empty_like(x.grad)
    cutplan.matmul(x.a, x.b, bias=x.bias, activation=activation, aux=aux)
    check_gradients(x, device, activation, aux)
    check_gradients(x, device, activation, aux, grad_dtype="float32" if operand != "float64" else None)


@pytest.mark.parametrize("device, operand", SERVED)
def test_gradients_are_repeatable(device: str, operand: str, seed: int) -> None:
    x = Layer.of((3, 129, 264), (264, 72), operand, device, generator(device, seed))
    aux = random_values(x.grad.shape, False, generator(device, seed + 1)).to(x.grad.dtype)
    options: dict[str, Any] = {"bias": True, "activation": "silu", "aux": aux, "deterministic": True}
    first = cutplan.matmul_backward(x.grad, x.a, x.b, **options)
    for _ in range(5):
        again = cutplan.matmul_backward(x.grad, x.a, x.b, **options)
        assert all(torch.equal(p, q) for p, q in zip(first, again, strict=True))


@shapes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_autograd(
    activation: str, a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int
) -> None:
    """torch's own derivation of the same layer, in float64: the last few bits apart."""
    x = Layer.of(a_shape, b_shape, "float64", "cpu", generator("cpu", seed))
    leaves = [t.clone().requires_grad_() for t in (x.a, x.b, x.bias)]
    activate(activation, leaves[0] @ leaves[1] + leaves[2]).backward(x.grad)
    aux = torch.empty_like(x.grad) if activation != "none" else None
    y = cutplan.matmul(x.a, x.b, bias=x.bias, activation=activation, aux=aux)
    what = complaint(
        y,
        reference(Product.of(x.a, x.b), bias=x.bias, activation=activation),
        cutplan.GemmPlan.select(
            cutplan.GemmDescriptor(
                m=8,
                n=8,
                k=x.a.shape[-1],
                a="float64",
                epilogue=cutplan.Epilogue(bias=True, activation=activation),
            ),
            "cpu",
        ).precision_guarantee,
    )
    assert what is None, what
    grads = cutplan.matmul_backward(x.grad, x.a, x.b, bias=True, activation=activation, aux=aux)
    # aux carries the forward's error into the derivative, whose own slope is below 2 for every activation
    size = float((x.a.abs() @ x.b.abs() + x.bias.abs()).max()) if x.grad.numel() else 0.0
    error = 4 * (x.grad.numel() + x.a.shape[-1] + 64) * 2.0**-53 * (1 + size)
    exact = exact_gradients(x, "none", None, 0.0)
    for name, result, leaf in zip(("da", "db", "dbias"), grads, leaves, strict=True):
        assert leaf.grad is not None and result.shape == leaf.shape
        excess = (result - leaf.grad).abs() - error * exact[name].magnitude
        assert not bool((excess > 0).any()), f"{name} off by {float(excess.max()):.3g} more than allowed"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("operand", ["a", "b", "bias"])
def test_against_finite_differences(operand: str, activation: str, seed: int) -> None:
    """Differences of the forward pass alone, along a random direction. Halving the step leaves a quarter of
    the error of a central difference, so that the change bounds what is left."""
    source = generator("cpu", seed)
    x = Layer.of((3, 6, 10), (10, 8), "float64", "cpu", source)
    direction = torch.randn(getattr(x, operand).shape, dtype=torch.float64, generator=source)

    def loss(step: float) -> tuple[float, float]:
        parts = {name: getattr(x, name) for name in ("a", "b", "bias")}
        parts[operand] = parts[operand] + step * direction
        y = cutplan.matmul(parts["a"], parts["b"], bias=parts["bias"], activation=activation)
        return float((y * x.grad).sum()), float((y * x.grad).abs().sum())

    def slope(step: float) -> tuple[float, float]:
        (ahead, size), (behind, _) = loss(step), loss(-step)
        return (ahead - behind) / (2 * step), 1000 * 2.0**-53 * size / step

    # relu has no derivative at 0: x moves by less than its distance from there
    step = 2.0**-12
    if activation == "relu":
        moved = {
            "a": lambda: direction @ x.b,
            "b": lambda: x.a @ direction,
            "bias": lambda: direction.expand_as(x.grad),
        }[operand]()
        before = x.a @ x.b + x.bias
        step = min(step, 0.5 * float((before / moved).abs().min()))
    coarse, _ = slope(step)
    fine, rounding = slope(step / 2)
    aux = torch.empty_like(x.grad) if activation != "none" else None
    cutplan.matmul(x.a, x.b, bias=x.bias, activation=activation, aux=aux)
    grads = cutplan.matmul_backward(x.grad, x.a, x.b, bias=True, activation=activation, aux=aux)
    gradient = dict(zip(("a", "b", "bias"), grads, strict=True))[operand]
    ours = float((gradient * direction).sum())
    assert abs(ours - fine) <= abs(coarse - fine) + 4 * rounding, (ours, fine, coarse, rounding)
    assert abs(fine) > abs(coarse - fine) + 4 * rounding, "the check cannot fail"


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((40,), (40, 16)), ((24, 40), (40,)), ((40,), (40,)), ((40,), (3, 40, 16)), ((3, 24, 40), (40,))],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_vectors(a_shape: tuple[int, ...], b_shape: tuple[int, ...], seed: int) -> None:
    """One dimension on either side, against autograd in float64."""
    source = generator("cpu", seed)
    a, b = (random_values(shape, False, source).requires_grad_() for shape in (a_shape, b_shape))
    y = a @ b
    grad = random_values(y.shape, False, source) if y.dim() else torch.tensor(0.75, dtype=torch.float64)
    y.backward(grad)
    grads = cutplan.matmul_backward(grad, a.detach(), b.detach())
    for name, result, leaf, other in (("da", grads.da, a, b), ("db", grads.db, b, a)):
        assert leaf.grad is not None and result.shape == leaf.shape, name
        size = float(grad.abs().sum() * other.detach().abs().max())
        assert float((result - leaf.grad).detach().abs().max()) <= 200 * 2.0**-53 * size, name


@pytest.mark.parametrize("device, operand", SERVED)
def test_a_bias_over_m(device: str, operand: str, seed: int) -> None:
    """Its gradient is [m, 1]: sums over columns, and over the batch."""
    x = Layer.of((3, 24, 40), (40, 16), operand, device, generator(device, seed))
    grads = cutplan.matmul_backward(x.grad, x.a, x.b, bias="m")
    g = x.grad.double()
    exact, size = g.sum((0, 2)).unsqueeze(-1), g.abs().sum((0, 2)).unsqueeze(-1)
    guarantee = guarantee_of(operand, device, x.grad.numel(), operand)
    assert grads.dbias is not None
    what = complaint(grads.dbias, Reference(exact, size, 100 * 2.0**-53 * size), guarantee, "dbias")
    assert what is None, what


def test_without_a_bias(seed: int) -> None:
    x = Layer.of((8, 9), (9, 7), "float32", "cpu", generator("cpu", seed))
    grads = cutplan.matmul_backward(x.grad, x.a, x.b)
    assert grads.dbias is None
    da, db, dbias = grads
    assert da is grads.da and db is grads.db and dbias is None


@pytest.mark.parametrize(
    "error, says, change",
    [
        ("ShapeMismatch", "operand grad.*got", {"grad": lambda x: x.grad[1:]}),
        ("ShapeMismatch", "operand (a|b)", {"a": lambda x: x.a[:, 1:]}),
        ("DTypeMismatch|Unsupported", "operand", {"grad": lambda x: x.grad.double()}),
        ("MissingOperand", "aux", {"activation": lambda x: "silu"}),
        (
            "ShapeMismatch",
            "operand aux",
            {"activation": lambda x: "silu", "aux": lambda x: x.grad[1:].clone()},
        ),
        ("InvalidProblem|MissingOperand", "aux", {"aux": lambda x: x.grad.clone()}),
    ],
    ids=lambda x: str(x)[:30],
)
def test_bad_calls(
    error: str, says: str, change: dict[str, Callable[[Layer], Any]], device: str, seed: int
) -> None:
    x = Layer.of((24, 40), (40, 16), "float16", device, generator(device, seed))
    call: dict[str, Any] = {"grad": x.grad, "a": x.a, "b": x.b}
    call |= {name: make(x) for name, make in change.items()}
    kinds = tuple(getattr(cutplan, name) for name in error.split("|"))
    with pytest.raises(kinds, match=says):
        cutplan.matmul_backward(call.pop("grad"), call.pop("a"), call.pop("b"), **call)
    check_gradients(x, device)


# ---- what else matmul takes


@pytest.mark.parametrize("device, operand", SERVED)
def test_matmul_takes_every_term(device: str, operand: str, seed: int) -> None:
    wide = operand == "float64"
    problem = Problem(Shape(40, 24, 56), operand, "rrr", device, generator(device, seed), 16)
    plain = Options(operand)
    options = [
        Options(operand, bias=operand, bias_over="m", residual=operand),
        Options(operand, c=operand, beta=0.5, alpha=2.0, activation="gelu_erf", store=operand),
        plain if wide else Options(operand, row_scale=True, column_scale=True, activation="relu"),
    ]
    if device == "cpu" or operand in ("float16", "bfloat16"):
        gates = GATES if device == "cpu" else ("separate",)
        options += [
            Options(operand, bias=operand, gate=gate, activation="silu", alpha=0.125, residual=operand)
            for gate in gates
        ]
    for o in options:
        named = {name: x for name, x in problem.operands(o).items() if x is not None}
        if o.c is None:
            named.pop("beta")
        if o.gate == "interleaved":
            named["gate"] = "interleaved"
        aux = torch.full((40, 24), torch.nan, dtype=TORCH[operand], device=device)
        if o.store is not None:
            named["aux"] = aux
        result = cutplan.matmul(problem.a, problem.factor(o), activation=o.activation, **named)
        guarantee = problem.select(o).precision_guarantee
        what = complaint(result, problem.expected(o), guarantee)
        assert what is None, f"{o}: {what}"
        if o.store is not None:
            what = complaint(
                aux, problem.expected_aux(o), OutputBound.of(guarantee, aux.dtype).before_activation, "aux"
            )
            assert what is None, f"{o}: {what}"


@pytest.mark.parametrize("operand", ["float16", "float32"])
def test_matmul_broadcasts_every_matrix(device: str, operand: str, seed: int) -> None:
    """residual and aux over two batch dimensions, one of which A or B lacks."""
    source = generator(device, seed)

    def random(*shape: int) -> torch.Tensor:
        return random_values(shape, False, source).to(TORCH[operand])

    for a, b in ((random(2, 3, 8, 16), random(3, 16, 24)), (random(3, 8, 16), random(2, 1, 16, 24))):
        for residual in (random(2, 3, 8, 24), random(3, 8, 24), random(8, 24), random(2, 1, 8, 24)):
            aux = torch.full((2, 3, 8, 24), torch.nan, dtype=TORCH[operand], device=device)
            d = cutplan.matmul(a, b, residual=residual, activation="silu", aux=aux)
            product = Product.of(a, b)
            descriptor = cutplan.GemmDescriptor(
                m=8,
                n=24,
                k=16,
                a=operand,
                epilogue=cutplan.Epilogue(residual=True, aux="store", activation="silu"),
            )
            guarantee = cutplan.GemmPlan.select(descriptor, device).precision_guarantee
            what = complaint(d, reference(product, residual=residual, activation="silu"), guarantee)
            what = what or complaint(
                aux, reference(product), OutputBound.of(guarantee, aux.dtype).before_activation, "aux"
            )
            assert what is None, what


@pytest.mark.parametrize("math", ["tf32", "tf32x3", "strict"])
def test_matmul_honours_math(device: str, math: str, seed: int) -> None:
    source = generator(device, seed)
    a, b = (random_values(shape, False, source).float() for shape in ((64, 128), (128, 96)))
    d = cutplan.matmul(a, b, math=math)
    descriptor = cutplan.GemmDescriptor(m=64, n=96, k=128, a="float32", layout="rrr")
    plan = cutplan.GemmPlan.select(descriptor, device, cutplan.PlanPreference(math=math))
    what = complaint(d, reference(Product.of(a, b)), plan.precision_guarantee)
    assert what is None, what


@pytest.mark.parametrize("activation", ACTIVATIONS[1:])
@pytest.mark.parametrize("device, operand", SERVED)
def test_derivatives_far_from_zero(device: str, operand: str, activation: str) -> None:
    """One or nothing, up to the largest finite value, with no overflow on the way."""
    far = [50.0, 1e3, 6e4] + ([] if operand == "float16" else [1e10, 1e20, 1e30])
    aux = torch.tensor([[*far, *(-x for x in far)]], dtype=TORCH[operand], device=device)
    one = torch.ones(1, 1, dtype=TORCH[operand], device=device)
    options = cutplan.Epilogue(activation=activation, aux="gradient")
    descriptor = cutplan.GemmDescriptor(m=1, n=aux.shape[1], k=1, a=operand, layout="rrr", epilogue=options)
    plan = cutplan.GemmPlan.select(descriptor, device)
    d = torch.full_like(aux, torch.nan)
    workspace = poisoned_workspace(plan, device) if plan.workspace_size else None
    plan.run(one, one.expand(1, aux.shape[1]).contiguous(), d, aux=aux, workspace=workspace)
    assert (d[0, : len(far)] == 1).all() and (d[0, len(far) :].double().abs() < 1e-11).all(), d
