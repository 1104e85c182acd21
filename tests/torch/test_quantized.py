"""Quantised products and layers: against float64 products of what codes stand for, and while torch traces."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import library
from torch.nn.functional import linear, silu
from torch.utils.flop_counter import FlopCounterMode

import cutplan
import cutplan.torch as ct

from .cases import Make, Recorder

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
PACKED = ("int4", "uint4", "int8", "e4m3", "nf4", "e2m1")


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Any:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def make(seed: int) -> Make:
    return Make(seed, "cpu", torch.float32)


def _near(got: torch.Tensor, exact: torch.Tensor, magnitude: torch.Tensor) -> None:
    """Within a few roundings of float32 and that of the result."""
    unit = 2.0**-18 + (torch.finfo(got.dtype).eps if got.dtype != torch.float64 else 0)
    assert got.shape == exact.shape
    assert ((got.double() - exact).abs() <= unit * magnitude + 1e-30).all()


def _opcheck(operator: Any, arguments: Any) -> None:
    """Of float8 without the check of the schema, which multiplies what it is given."""
    named = [str(x.dtype if isinstance(x, torch.Tensor) else x) for x in arguments]
    tests = ["test_schema"] if not any("float8" in x for x in named) else []
    tests += ["test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]
    library.opcheck(operator, tuple(arguments), test_utils=tests)


def _wide(q: cutplan.Quantized) -> torch.Tensor:
    return cutplan.dequantize(q, "float32").double()


def _same(x: Any, y: Any) -> bool:
    """Of what quantize() returns: bits and all that is said of them."""
    return x[3:] == y[3:] and all(
        (a is None) == (b is None) and (a is None or torch.equal(a.view(torch.uint8), b.view(torch.uint8)))
        for a, b in zip(x[:3], y[:3], strict=True)
    )


# ---- quantize and dequantize ----

SHARED = [
    {"granularity": "tensor"},
    {"granularity": "row"},
    {"granularity": "column"},
    {"granularity": "group", "group_size": 4},
    {"granularity": "group", "group_size": 4, "axis": -2},
    {"granularity": "block", "group_size": 4},
    {"granularity": "block"},
]


@pytest.mark.parametrize("options", SHARED)
@pytest.mark.parametrize("dtype", [torch.int8, "int4", E4M3, E5M2])
def test_quantize_is_the_plain_one(dtype: Any, options: dict[str, Any], make: Make) -> None:
    """Called, compiled, and as an operator; of one matrix and of a batch; with a scale of one's own."""
    name = str(dtype).removeprefix("torch.")
    for symmetric in (True, False) if "int" in name else (True,):
        for shape in ((6, 12), (2, 6, 12)):
            x = make.normal(*shape, dtype=torch.bfloat16, grad=False)
            expected = cutplan.quantize(x, name, symmetric=symmetric, **options)
            again = {"scale": expected.scale, "zero": expected.zero}

            def f(x: torch.Tensor, symmetric: bool = symmetric, **given: Any) -> tuple[Any, ...]:
                q = ct.quantize(x, name if given else dtype, symmetric=symmetric, **options, **given)
                return q, ct.dequantize(q, torch.float16)

            for given in ({}, again):
                q, wide = f(x, **given)
                assert _same(q, expected)
                assert torch.equal(wide, cutplan.dequantize(expected, "float16"))
            if len(shape) == 2 and not symmetric:
                continue
            q, wide = torch.compile(f, backend="aot_eager", fullgraph=True)(x)
            assert _same(q, expected) and torch.equal(wide, f(x)[1])
            with Recorder() as recorder:
                f(x)
                f(x, **again)
            assert len(recorder.calls) == 4
            for operator, arguments in recorder.calls:
                _opcheck(operator, arguments)


def test_quantize_takes_any_strides_and_breaks_the_gradient(make: Make) -> None:
    x = make.normal(12, 6)
    q = ct.quantize(x.t(), "int8", granularity="row")
    assert _same(q, cutplan.quantize(x.detach().t().contiguous(), "int8", granularity="row"))
    assert not q.scale.requires_grad and not ct.dequantize(q).requires_grad
    assert ct.dequantize(q).dtype == torch.float32
    with pytest.raises(RuntimeError, match="cutplan::quantize has no derivative"):
        torch.ops.cutplan.quantize(x, dtype="float8_e4m3fn")[1].sum().backward()


# ---- products of codes ----


def _codes(make: Make, dtype: str, of_x: str, of_w: str, **options: Any) -> tuple[Any, Any]:
    def narrow(x: torch.Tensor, granularity: str) -> cutplan.Quantized:
        size = {"group_size": 128} if granularity == "group" else {}
        return cutplan.quantize(x, dtype, granularity=granularity, **size, **options)

    x, w = make.normal(2, 5, 300, grad=False), make.normal(7, 300, grad=False)
    return narrow(x, of_x), narrow(w, of_w)


@pytest.mark.parametrize("dtype", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("of_x, of_w", [("row", "row"), ("tensor", "tensor"), ("group", "block")])
def test_products_of_codes(dtype: str, of_x: str, of_w: str, make: Make) -> None:
    q, p = _codes(make, dtype, of_x, of_w)
    bias = make.normal(7, grad=False)

    def f(q: Any, p: Any, **options: Any) -> torch.Tensor:
        return ct.matmul(q, p.T, bias=bias, **options)

    exact, magnitude = _wide(q) @ _wide(p).T + bias, _wide(q).abs() @ _wide(p).abs().T + bias.abs()
    for call in (f, torch.compile(f, backend="aot_eager", fullgraph=True)):
        for out_dtype in (None, torch.float32, torch.float16):
            y = call(q, p, out_dtype=out_dtype)
            assert y.dtype == (out_dtype or torch.bfloat16)
            _near(y, exact, magnitude)
    assert torch.equal(ct.linear(q, p, bias), ct.matmul(q, p.T, bias=bias))
    with Recorder() as recorder:
        f(q, p)
    ((operator, arguments),) = recorder.calls
    _opcheck(operator, arguments)


def test_options_of_products_of_codes(make: Make) -> None:
    """Zeros, a gate, a result of codes, sums of integers, and the types that all these have while traced."""
    q, p = _codes(make, "int8", "row", "row", symmetric=False)
    a, b = q.data[0], p.data.t()
    one, r = torch.ones(1), make.normal(5, 7, grad=False)
    scales = {"a_scale": q.scale[0], "b_scale": p.scale}
    for options in (
        {},
        {"a_scale": one},
        {"activation": "relu"},
        {"residual": r},
        {"b2": b, "gate": "separate", "activation": "silu", **scales, "b2_scale": p.scale},
        {**scales, "a_zero": q.zero[0], "b_zero": p.zero},
        {**scales, "out_dtype": torch.int8, "out_scale": one},
        {"out_dtype": torch.float16},
        {"residual": make.normal(7, 5, grad=False).t()},
    ):
        torch._dynamo.reset()
        names = {name: str(x).removeprefix("torch.") for name, x in options.items() if name == "out_dtype"}
        expected = cutplan.matmul(a, b, **{**options, **names})
        compiled = torch.compile(
            lambda a, b, options=options: ct.matmul(a, b, **options), backend="aot_eager", fullgraph=True
        )
        for y in (ct.matmul(a, b, **options), compiled(a, b)):
            assert y.dtype == expected.dtype and torch.equal(y, expected)
        with Recorder() as recorder:
            ct.matmul(a, b, **options)
        for operator, arguments in recorder.calls:
            _opcheck(operator, arguments)
    mixed = ct.matmul(a.to(E5M2), b.to(E4M3), out_dtype=torch.float32)
    assert torch.equal(mixed, cutplan.matmul(a.to(E5M2), b.to(E4M3), out_dtype="float32"))
    row = torch.compile(ct.matmul, backend="aot_eager", fullgraph=True)(a[0], b)
    assert torch.equal(row, cutplan.matmul(a[0], b)) and row.shape == (7,)
    with FlopCounterMode(display=False) as counter:
        ct.matmul(a, b)
    assert counter.get_total_flops() == 2 * 5 * 7 * 300


def test_codes_of_any_strides(make: Make) -> None:
    q, p = _codes(make, "int8", "row", "row")
    spread = q.data.new_zeros(2, 5, 600)[..., ::2].copy_(q.data)
    y = ct.matmul(spread, p.data.t(), a_scale=q.scale, b_scale=p.scale)
    assert torch.equal(y, ct.matmul(q, p.T))
    pairs = q.data[0], p.data[:6].t()
    sums = torch.compile(ct.matmul, backend="aot_eager", fullgraph=True)(*pairs, gate="interleaved")
    assert sums.dtype == torch.bfloat16 and torch.equal(sums, cutplan.matmul(*pairs, gate="interleaved"))


def test_codes_have_no_gradient(make: Make) -> None:
    q, p = _codes(make, "float8_e4m3fn", "row", "row")
    bias = make.normal(7)
    y = ct.matmul(q, p.T, bias=bias)
    with pytest.raises(RuntimeError, match="cutplan::matmul_quantized has no derivative"):
        y.sum().backward()


# ---- packed weights ----


def _packed(make: Make, k: int, n: int, format: str = "int4", group_size: int = 32) -> cutplan.PackedWeights:
    return cutplan.pack_weights(make.normal(k, n, grad=False), format, group_size=group_size)


def _cases(make: Make, dtype: torch.dtype) -> dict[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    def n(*shape: int) -> torch.Tensor:
        return make.normal(*shape, dtype=dtype)

    return {
        "two dimensions": ({"a": n(5, 64)}, {}),
        "a row": ({"a": n(64)}, {}),
        "a batch": ({"a": n(2, 3, 64), "bias": n(48), "residual": n(2, 3, 48)}, {}),
        "activation": ({"a": n(5, 64), "bias": n(48)}, {"activation": "silu", "alpha": 0.5}),
        "c": ({"a": n(5, 64), "c": n(5, 48)}, {"beta": 2.0}),
        "gate": ({"a": n(5, 64), "bias": n(48), "bias2": n(48)}, {"activation": "silu", "b2": True}),
        "columns in turn": ({"a": n(5, 64)}, {"activation": "gelu_tanh", "gate": "interleaved"}),
        "nothing": ({"a": n(0, 64)}, {}),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(_cases(Make(0, "cpu"), torch.float32)))
def test_products_of_packed_weights(name: str, dtype: torch.dtype, make: Make) -> None:
    """Those of the weights unpacked, with their gradients; called and compiled; float32 has no kernel of its
    own."""
    tensors, options = _cases(make, dtype)[name]
    b = _packed(make, 64, 48)
    gate = options.pop("b2", None)
    b2 = _packed(make, 64, 48) if gate else None
    w, w2 = (None if x is None else cutplan.unpack_weights(x).to(dtype) for x in (b, b2))

    def f(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        return ct.matmul(**tensors, b=b, **({"b2": b2} if gate else {}), **options)

    expected = ct.matmul(**tensors, b=w, b2=w2, **options)
    grad, leaves = torch.randn_like(expected), list(tensors.values())
    wanted = torch.autograd.grad(expected, leaves, grad)
    eps = torch.finfo(dtype).eps if dtype != torch.float64 else 1e-7  # weights are unpacked to float32
    tolerance = {"atol": 64 * eps, "rtol": 4 * eps}
    for call in (f, torch.compile(f, backend="aot_eager", fullgraph=True)):
        y = call(tensors)
        torch.testing.assert_close(y, expected, **tolerance)
        for x, z in zip(torch.autograd.grad(y, leaves, grad), wanted, strict=True):
            torch.testing.assert_close(x, z, **tolerance)
    with Recorder() as recorder:
        torch.autograd.grad(f(tensors), leaves, grad)
    assert {"cutplan::matmul_packed", "cutplan::unpack_weights"} <= {
        operator._schema.name for operator, _ in recorder.calls
    }
    for operator, arguments in recorder.calls:
        if "packed" in operator._schema.name or "unpack" in operator._schema.name:
            _opcheck(operator, [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments])


@pytest.mark.parametrize("format", PACKED)
def test_formats_of_packed_weights(format: str, make: Make) -> None:
    packed = _packed(make, 192, 40, format, -1)
    w = cutplan.unpack_weights(packed)
    for x in (make.normal(3, 192, grad=False).half(), make.normal(192, 3, grad=False).half().t()):
        y = ct.linear(x, packed)
        _near(y, x.double() @ w.double(), x.double().abs() @ w.double().abs())
        assert torch.equal(torch.compile(ct.linear, backend="aot_eager", fullgraph=True)(x, packed), y)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        assert torch.equal(ct.unpack_weights(packed, dtype), cutplan.unpack_weights(packed, name))


def test_adapters_beside_packed_weights(make: Make) -> None:
    """What LoRA does: the weight stays, and the gradient comes through it."""
    packed = _packed(make, 64, 48)
    down, up = make.normal(8, 64), make.normal(48, 8)
    x = make.normal(5, 64)
    leaves = [x, down, up]
    y = ct.linear(x, packed) + linear(linear(x, down), up)
    expected = x @ cutplan.unpack_weights(packed) + linear(linear(x, down), up)
    grad = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad(y, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


# ---- layers ----


def _layers(make: Make, dtype: torch.dtype) -> dict[str, Any]:
    w = make.normal(40, 300, grad=False).to(dtype)
    return {
        "int8": ct.quantize(w, torch.int8, granularity="row"),
        "int8, one scale": ct.quantize(w, torch.int8),
        "float8": ct.quantize(w, E4M3, granularity="row"),
        "float8 in blocks": ct.quantize(w, E4M3, granularity="block"),
        "float8 in groups": ct.quantize(w, E4M3, granularity="group", group_size=128),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", list(_layers(Make(0, "cpu"), torch.float32)))
def test_layers_of_codes(name: str, dtype: torch.dtype, make: Make) -> None:
    """The result is that of a rounded input, the gradient that of one that is not."""
    q = _layers(make, dtype)[name]
    w = _wide(q)
    for shape in ((2, 3, 300), (5, 300), (300,), (0, 300)):
        for activation in ("none", "silu"):
            x, bias = make.normal(*shape, dtype=dtype), make.normal(40, dtype=dtype)
            grouped = q.granularity in ("group", "block")
            options = {"granularity": "group", "group_size": 128} if grouped else {"granularity": "row"}
            codes = torch.int8 if q.dtype == "int8" else E4M3
            rounded = _wide(ct.quantize(x.reshape(-1, 300), codes, **options)).reshape(shape)
            exact = rounded @ w.T + bias.double()
            magnitude = rounded.abs() @ w.abs().T + bias.double().abs()

            def f(x: torch.Tensor, bias: torch.Tensor, activation: str = activation) -> torch.Tensor:
                return ct.linear(x, q, bias, activation=activation)

            grad = torch.randn((*shape[:-1], 40)).to(dtype)
            before = exact.detach().clone().requires_grad_()
            (dz,) = torch.autograd.grad(silu(before), before, grad.double())
            dz = grad.double() if activation == "none" else dz
            for call in (f, torch.compile(f, backend="aot_eager", fullgraph=True)):
                y = call(x, bias)
                assert y.dtype == dtype
                _near(y, silu(exact) if activation == "silu" else exact, 2 * magnitude + 1)
                dx, db = torch.autograd.grad(y, (x, bias), grad)
                assert dx.dtype == dtype and db.shape == (40,)
                unit = (64 if dtype == torch.float32 else 4) * torch.finfo(dtype).eps
                assert ((dx.double() - dz @ w).abs() <= unit * (dz.abs() @ w.abs() + 1)).all()
                of_bias = dz.reshape(-1, 40)
                assert ((db.double() - of_bias.sum(0)).abs() <= unit * (of_bias.abs().sum(0) + 1)).all()


def test_layers_as_operators(make: Make) -> None:
    for q in _layers(make, torch.float32).values():
        for tensors in ((make.normal(3, 300),), (make.normal(2, 3, 300), make.normal(40))):
            with Recorder() as recorder:
                y = ct.linear(tensors[0], q, *tensors[1:], activation="silu")
                torch.autograd.grad(y, tensors, torch.ones_like(y))
            names = [operator._schema.name for operator, _ in recorder.calls]
            assert names.count("cutplan::linear_quantized") == 2 and "cutplan::dequantize" in names
            for i, (operator, arguments) in enumerate(recorder.calls):
                detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments]
                _opcheck(operator, detached if i else arguments)
    with FlopCounterMode(display=False) as counter:
        ct.linear(make.normal(3, 300, grad=False), q)
    assert counter.get_total_flops() == 2 * 3 * 300 * 40


@pytest.mark.parametrize("compiled", [False, True])
def test_autocast(compiled: bool, make: Make) -> None:
    x, bias = make.normal(5, 300), make.normal(40)
    layers: list[Any] = [*_layers(make, torch.float32).values(), _packed(make, 300, 40)]

    def f(x: torch.Tensor) -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return [ct.linear(x, w, bias) for w in layers] + [ct.float8_linear(x, weight, bias)]

    weight = make.normal(40, 300)
    made = (torch.compile(f, backend="aot_eager", fullgraph=True) if compiled else f)(x)
    low = x.detach().bfloat16(), bias.detach().bfloat16()
    for y, w in zip(made, layers, strict=False):
        assert torch.equal(y, ct.linear(low[0], w, low[1]))
    assert torch.equal(made[-1], ct.float8_linear(low[0], weight.detach(), low[1]))
    dx, dw = torch.autograd.grad(sum(y.sum() for y in made), (x, weight))
    assert dx.dtype == dw.dtype == torch.float32


# ---- float8_linear ----


def _groups(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """`x` in groups of 1 x 128 of `dtype`, in float64."""
    name = str(dtype).removeprefix("torch.")
    rows = x.detach().contiguous()
    return _wide(cutplan.quantize(rows, name, granularity="group", group_size=128))


@pytest.mark.parametrize("grad_dtype", [E4M3, E5M2])
@pytest.mark.parametrize("m, n, k", [(5, 40, 48), (130, 257, 300), (256, 128, 128), (1, 1, 1), (0, 24, 16)])
@pytest.mark.parametrize(
    "dtype, of_weight", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)]
)
def test_float8_linear(
    dtype: torch.dtype, of_weight: torch.dtype, m: int, n: int, k: int, grad_dtype: torch.dtype, make: Make
) -> None:
    """Each of the three products is that of its operands in float8, with scales along what it sums over."""
    x, w = make.normal(m, k, dtype=dtype), make.normal(n, k, dtype=of_weight)
    bias = make.normal(n, dtype=dtype)
    grad = make.normal(m, n, dtype=dtype, grad=False)
    blocks = _wide(cutplan.quantize(w.detach(), "float8_e4m3fn", granularity="block", group_size=128))
    rows, g = _groups(x, E4M3), _groups(grad, grad_dtype)
    columns, g_columns = _groups(x.t(), E4M3).T, _groups(grad.t(), grad_dtype)

    def f(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return ct.float8_linear(x, w, bias, grad_dtype=grad_dtype)

    for call in (f, torch.compile(f, backend="aot_eager", fullgraph=True)):
        y = call(x, w, bias)
        assert y.dtype == dtype
        _near(y, rows @ blocks.T + bias, rows.abs() @ blocks.abs().T + bias.abs())
        dx, dw, db = torch.autograd.grad(y, (x, w, bias), grad)
        assert dx.dtype == dtype and dw.dtype == of_weight
        _near(dx, g @ blocks, g.abs() @ blocks.abs())
        _near(dw, g_columns @ columns, g_columns.abs() @ columns.abs())
        _near(db, grad.double().sum(0), grad.double().abs().sum(0) * 4)
    # Rounded twice to 3 bits (E5M2: 2), each is near the exact gradient.
    if m:
        unit = 2.0**-4 + (2.0**-4 if grad_dtype == E4M3 else 2.0**-3) + 0.02
        exact = grad.double().T @ x.detach().double()
        assert (
            (dw.double() - exact).abs() <= unit * (grad.double().abs().T @ x.detach().double().abs())
        ).all()


def test_float8_linear_of_any_leading_dimensions(make: Make) -> None:
    """In rows one after the other; gradients that are one number expanded; those that nobody wants."""
    w, bias = make.normal(24, 48), make.normal(24)
    x = make.normal(2, 3, 48)
    y = ct.float8_linear(x, w, bias)
    flat = ct.float8_linear(x.reshape(6, 48), w, bias)
    assert torch.equal(y.reshape(6, 24), flat)
    got = torch.autograd.grad(y.sum(), (x, w, bias))
    expected = torch.autograd.grad(flat, (x, w, bias), torch.ones(6, 24))
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    row = ct.float8_linear(x[0, 0], w)
    assert torch.equal(row, ct.float8_linear(x[0, :1], w)[0])
    (only,) = torch.autograd.grad(ct.float8_linear(x.detach(), w).sum(), (w,))
    assert torch.equal(only, got[1])
    (only,) = torch.autograd.grad(ct.float8_linear(x, w.detach()).sum(), (x,))
    assert torch.equal(only, got[0])
    turned = make.normal(48, 24).t()
    torch.testing.assert_close(ct.float8_linear(x, turned), ct.float8_linear(x, turned.contiguous()))
    (first,) = torch.autograd.grad(ct.float8_linear(x, w).square().sum(), (x,), create_graph=True)
    with pytest.raises(RuntimeError, match="float8_linear_backward has no derivative"):
        first.sum().backward()


def test_float8_linear_as_an_operator(make: Make) -> None:
    x, w, bias = make.normal(2, 3, 48), make.normal(24, 48), make.normal(24)
    with Recorder() as recorder:
        y = ct.float8_linear(x, w, bias, grad_dtype=E5M2)
        torch.autograd.grad(y, (x, w, bias), torch.ones_like(y))
    (forward, given), (backward, saved) = recorder.calls
    assert [x.requires_grad for x in given[:3]] == [True] * 3
    _opcheck(forward, given)
    _opcheck(backward, [x.detach() if isinstance(x, torch.Tensor) else x for x in saved])
    made = torch.ops.cutplan.float8_linear(x, w)
    torch.autograd.grad(made, (x, w), torch.ones_like(made))
    with FlopCounterMode(display=False) as counter:
        ct.float8_linear(x, w).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 6 * 48 * 24


@pytest.mark.parametrize("compiled", [False, True])
def test_training_in_float8(compiled: bool, seed: int) -> None:
    """The loss goes where that of float32 goes."""
    torch.manual_seed(seed)
    x = torch.randn(160, 32)
    target = torch.tanh(x @ torch.randn(32, 8) / 4)
    model = torch.nn.Sequential(torch.nn.Linear(32, 136), torch.nn.GELU(), torch.nn.Linear(136, 8))
    other = copy.deepcopy(model)
    assert set(ct.quantize_module(other, "fp8", training=True).replaced.values()) == {"Float8Linear"}
    losses = []
    for net in (model, other):
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        step = torch.compile(net, backend="aot_eager", fullgraph=True) if compiled else net
        for _ in range(60):
            loss = (step(x) - target).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    start = target.square().mean().item()
    assert losses[0] < start / 10 and losses[1] < 1.5 * losses[0] + start / 100


# ---- batches that grow, and what is refused ----


@pytest.mark.parametrize("format", ["w4a16", "w8a8", "fp8", "training"])
def test_one_graph_for_all_batches(format: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.SiLU(), torch.nn.Linear(48, 16))
    ct.quantize_module(model, "fp8" if format == "training" else format, training=format == "training")
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    for batch, length in ((2, 5), (3, 6), (7, 11), (4, 33)):
        x = torch.randn(batch, length, 64, requires_grad=True)
        got, expected = compiled(x), model(x)
        assert torch.equal(got, expected)
        dx, wanted = (torch.autograd.grad(y.sum(), x)[0] for y in (got, expected))
        torch.testing.assert_close(dx, wanted)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("format", ["w4a16", "w8a8", "fp8"])
def test_export(format: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.SiLU(), torch.nn.Linear(48, 16))
    ct.quantize_module(model, format)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (torch.randn(3, 64),), dynamic_shapes=({0: batch},))
    for size in (2, 5):
        x = torch.randn(size, 64)
        assert torch.equal(program.module()(x), model(x))


def test_refusals(make: Make) -> None:
    """The same words, called and compiled, in terms of what was given."""
    x, w = make.normal(5, 300, grad=False), make.normal(40, 300, grad=False)
    q = ct.quantize(w, "int8", granularity="row")
    packed = _packed(make, 64, 48)
    eight = ct.quantize(x, E4M3, granularity="row")
    cases: list[tuple[Callable[[], Any], type, str]] = [
        (lambda: ct.quantize(x[0], "int8"), cutplan.ShapeMismatch, r"operand x: .*required, got \[300\]"),
        (lambda: ct.quantize(x, "int8", granularity="rows"), ValueError, "granularity: must be one of"),
        (lambda: ct.quantize(x, "int8", granularity="group"), cutplan.InvalidProblem, "group_size"),
        (lambda: ct.quantize(x, "int8", zero=q.zero, scale=q.scale), cutplan.ShapeMismatch, "operand scale"),
        (lambda: ct.linear(x[:, :64], q), cutplan.ShapeMismatch, "operand weight: the last dimension of x"),
        (lambda: ct.linear(x.double(), q), cutplan.DTypeMismatch, "operand x: float16, bfloat16 or float32"),
        (lambda: ct.linear(x, q.T), cutplan.Unsupported, "operand weight: int8 or float8 .n, k. with scales"),
        (
            lambda: ct.linear(x, ct.quantize(w, "int8", granularity="row", symmetric=False)),
            cutplan.Unsupported,
            "operand weight: symmetric required",
        ),
        (lambda: ct.linear(x, q, activation="gelu"), ValueError, "activation: must be one of 'none'"),
        (lambda: ct.matmul(x, packed), cutplan.ShapeMismatch, "operand b: 300 rows required .* got 64"),
        (lambda: ct.matmul(eight, packed), cutplan.Unsupported, "operand a: floats required with packed"),
        (
            lambda: ct.matmul(x[:, :64], packed, a_scale=q.scale),
            cutplan.Unsupported,
            "operand a_scale: none required with packed weights",
        ),
        (
            lambda: ct.matmul(x[:, :64], packed, b2=packed._replace(format="uint4")),
            cutplan.Unsupported,
            "operand b2: packed weights as b",
        ),
        (lambda: ct.matmul(eight, q.T), cutplan.Unsupported, "operand b: dtype float8_e4m3fn or .* int8"),
        (
            lambda: ct.matmul(eight, eight.T, a_scale=eight.scale),
            cutplan.InvalidProblem,
            "operand a_scale: none required beside a Quantized a",
        ),
        (lambda: ct.matmul(eight, w.t()), cutplan.Unsupported, "operand b: .*float8.* required.*float32"),
        (lambda: ct.matmul(x, w.t(), a_scale=q.scale), cutplan.Unsupported, "scale.*: go(es)? with int8 and"),
        (lambda: ct.float8_linear(x, w[:, :64]), cutplan.ShapeMismatch, "operand weight: the last dimension"),
        (lambda: ct.float8_linear(x, w, w[0]), cutplan.ShapeMismatch, r"operand bias: shape \[40\] required"),
        (
            lambda: ct.float8_linear(x, w, grad_dtype=torch.int8),
            ValueError,
            "grad_dtype: must be one of float8_e4m3fn, float8_e5m2; got int8",
        ),
        (lambda: ct.linear(x, "int4"), TypeError, "weight: a tensor, a Quantized or PackedWeights required"),
    ]  # fmt: skip
    for call, kind, text in cases:
        with pytest.raises(kind, match=text):
            call()
        torch._dynamo.reset()
        with pytest.raises(Exception, match=text):
            torch.compile(call, backend="eager", fullgraph=True)()
