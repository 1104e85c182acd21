"""Under torch's tracing and transforms: operators, compilation, export, torch.func, autocast, FLOPs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import library
from torch.func import grad, vmap
from torch.nn.functional import scaled_dot_product_attention as sdpa_of_torch
from torch.nn.functional import silu
from torch.utils.flop_counter import FlopCounterMode

import cutplan
import cutplan.torch as ct
from cutplan.torch import _operators

from .cases import NAMES, Make, Recorder, cases


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Any:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", NAMES)
def test_operators(name: str, device: str, seed: int) -> None:
    """opcheck of every operator that a call and its backward pass come down to."""
    case = cases(Make(seed, device))[name]
    with Recorder() as recorder:
        results = case.call()
        y = results[0] if isinstance(results, tuple) else results
        torch.autograd.grad(y, list(case.leaves().values()), torch.ones_like(y))
    assert len(recorder.calls) >= 2
    for operator, arguments in recorder.calls:
        detached = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in arguments]
        library.opcheck(operator, tuple(detached))
    # The forward operator also with gradients.
    operator, arguments = recorder.calls[0]
    library.opcheck(
        operator,
        tuple(
            x.detach().clone().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x
            for x in arguments
        ),
    )


def test_operators_have_defaults(device: str, seed: int) -> None:
    """So that a new option breaks no program that was kept."""
    make = Make(seed, device)
    a, b, q = make.normal(3, 4), make.normal(4, 5), make.normal(1, 2, 3, 8)
    ops, offsets = torch.ops.cutplan, make.integers(0, 1, 3)
    weights = make.normal(2, 4, 5)
    for made, expected, leaves in (
        (ops.matmul(a, b), ct.matmul(a, b), (a, b)),
        (ops.matmul(a, b, activation="silu"), ct.matmul(a, b, activation="silu"), (a, b)),
        (ops.attention(q, q, q)[0], ct.attention(q, q, q), (q,)),
        (ops.grouped_matmul(a, weights, offsets), ct.grouped_matmul(a, weights, offsets), (a, weights)),
    ):
        assert torch.equal(made, expected)
        grad = torch.randn_like(made)
        for x, y in zip(
            torch.autograd.grad(made, leaves, grad), torch.autograd.grad(expected, leaves, grad), strict=True
        ):
            torch.testing.assert_close(x, y)
    with FlopCounterMode(display=False) as counter:
        ops.matmul(a, b)
        ops.grouped_matmul(a, weights, offsets)
        ops.attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * 3 * 4 * 5 + 2 * 2 * 2 * 3 * 3 * 8


def test_an_append_as_an_operator(device: str, seed: int) -> None:
    make = Make(seed, device, torch.float32)
    k, v = make.normal(2, 2, 3, 8, grad=False), make.normal(2, 2, 3, 8, grad=False)
    caches = [torch.zeros(2, 2, 9, 8, device=device) for _ in "kv"]
    offsets = make.integers(0, 4)
    with Recorder() as recorder:
        ct.kv_cache_append(k, v, *caches, offsets)
    ((operator, arguments),) = recorder.calls
    library.opcheck(operator, tuple(arguments))
    expected = [torch.zeros_like(x) for x in caches]
    cutplan.kv_cache_append(k, v, *expected, offsets)
    for cache, x in zip(caches, expected, strict=True):
        assert torch.equal(cache, x)

    def step(k: torch.Tensor, v: torch.Tensor, k_cache: torch.Tensor, v_cache: torch.Tensor) -> torch.Tensor:
        ct.kv_cache_append(k, v, k_cache, v_cache, offsets)
        return k_cache.sum() + v_cache.sum()

    again = [torch.zeros_like(x) for x in caches]
    torch.compile(step, fullgraph=True, backend="aot_eager")(k, v, *again)
    for cache, x in zip(again, expected, strict=True):
        assert torch.equal(cache, x)
    with pytest.raises(RuntimeError, match="cutplan::kv_cache_append has no derivative"):
        ct.kv_cache_append(k.requires_grad_(), v, *caches, offsets)


class _Block(torch.nn.Module):
    """A layer of a transformer, all of whose products are cutplan's."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.qkv = ct.Linear(32, 96, dtype=dtype, device=device)
        self.out = ct.Linear(32, 32, dtype=dtype, device=device)
        self.mlp = ct.GatedMLP(32, 48, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
        q, k = ct.rope((q, k))
        o = ct.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(o.transpose(1, 2).flatten(-2))
        return x + self.mlp(x)


def _step(model: Any, x: torch.Tensor, parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    y = model(x)
    return [y.detach(), *torch.autograd.grad(y.square().mean(), parameters)]


@pytest.mark.parametrize("training", [False, True])
def test_one_graph_for_all_batches(training: bool, device: str, seed: int) -> None:
    """No break, and no compilation for a new batch size or length."""
    torch.manual_seed(seed)
    block = _Block(torch.float64, device)
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True, dynamic=True)
    parameters = list(block.parameters())
    for batch, length in ((2, 5), (3, 6), (7, 11), (4, 33)):
        x = torch.randn(batch, length, 32, dtype=torch.float64, device=device)
        if training:
            for a, b in zip(_step(compiled, x, parameters), _step(block, x, parameters), strict=True):
                torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
        else:
            with torch.no_grad():
                torch.testing.assert_close(compiled(x), block(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.cuda
def test_compiled_into_cuda_graphs(seed: int) -> None:
    torch.manual_seed(seed)
    block = _Block(torch.bfloat16, "cuda")
    parameters = list(block.parameters())
    compiled = torch.compile(block, mode="reduce-overhead", fullgraph=True)
    for _ in range(4):
        x = torch.randn(2, 64, 32, dtype=torch.bfloat16, device="cuda")
        torch.compiler.cudagraph_mark_step_begin()
        got = [t.clone() for t in _step(compiled, x, parameters)]
        for a, b in zip(got, _step(block, x, parameters), strict=True):
            torch.testing.assert_close(a, b, atol=2e-2, rtol=2e-2)


def test_export(device: str, seed: int) -> None:
    torch.manual_seed(seed)
    block = _Block(torch.float32, device).eval()
    x = torch.randn(2, 7, 32, device=device)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(block, (x,), dynamic_shapes=({0: batch},))
    names = {str(node.target) for node in program.graph.nodes}
    assert {"cutplan.matmul.default", "cutplan.attention.default", "cutplan.rope.default"} <= names
    with torch.no_grad():
        for size in (2, 5):
            y = torch.randn(size, 7, 32, device=device)
            torch.testing.assert_close(program.module()(y), block(y))


def test_bad_input_while_tracing(seed: int) -> None:
    """The error carries cutplan's text."""
    f = torch.compile(lambda a, b: ct.matmul(a, b), backend="aot_eager", fullgraph=True, dynamic=False)
    with pytest.raises(Exception, match="operand b: 4 rows required to match the last dimension of a, got 5"):
        f(torch.ones(3, 4), torch.ones(5, 6))
    with pytest.raises(Exception, match="operand b: a's dtype float32 required, got float64"):
        f(torch.ones(3, 4), torch.ones(4, 6, dtype=torch.float64))
    g = torch.compile(lambda q, k: ct.attention(q, k, k), backend="aot_eager", fullgraph=True, dynamic=False)
    with pytest.raises(Exception, match=r"operand k: shape \[1, 2, 3, 8\] required, got \[1, 2, 3, 16\]"):
        g(torch.ones(1, 4, 3, 8), torch.ones(1, 2, 3, 16))
    with pytest.raises(Exception, match="operand q: a multiple of k's 3 heads required, got 4"):
        g(torch.ones(1, 4, 3, 8), torch.ones(1, 3, 3, 8))


# ---- torch.func ----


def test_vmap_of_products(device: str, seed: int) -> None:
    make = Make(seed, device)
    a, b = make.normal(7, 5, 4, grad=False), make.normal(4, 6, grad=False)
    b7, bias, rows = (
        make.normal(4, 6, 7, grad=False),
        make.normal(7, 6, grad=False),
        make.normal(6, grad=False),
    )
    close = torch.testing.assert_close
    close(vmap(lambda a: ct.matmul(a, b))(a), a @ b)
    close(vmap(lambda b: ct.matmul(a, b), in_dims=2)(b7), a @ b7.movedim(2, 0)[:, None])
    close(vmap(lambda a, x: ct.matmul(a, b, bias=x))(a, bias), a @ b + bias[:, None])
    close(vmap(lambda x: ct.matmul(a[0], b, bias=x))(bias), a[0] @ b + bias[:, None])
    close(vmap(lambda a: ct.matmul(a, b, bias=rows, activation="silu"))(a), silu(a @ b + rows))
    close(
        vmap(lambda a, x: ct.matmul(a, b, bias=x, c=rows, activation="silu"))(a, bias),
        silu(a @ b + bias[:, None] + rows),
    )


def test_vmap_of_products_reaches_one_kernel(seed: int) -> None:
    """A batch is the kernel's, and no loop."""
    make = Make(seed, "cpu")
    a, b = make.normal(7, 5, 4, grad=False), make.normal(7, 4, 6, grad=False)
    with Recorder() as recorder:
        vmap(ct.matmul)(a, b)
    assert len(recorder.calls) == 1
    q = make.normal(3, 2, 4, 5, 8, grad=False)
    with Recorder() as recorder:
        vmap(lambda q: ct.attention(q, q, q))(q)
    assert len(recorder.calls) == 1


def test_gradients_by_torch_func(device: str, seed: int) -> None:
    make = Make(seed, device)
    x, w, ws = make.normal(5, 4, grad=False), make.normal(6, 4, grad=False), make.normal(3, 6, 4, grad=False)

    def ours(w: torch.Tensor) -> torch.Tensor:
        return ct.linear(x, w, activation="silu").square().sum()

    def theirs(w: torch.Tensor) -> torch.Tensor:
        return silu(x @ w.t()).square().sum()

    torch.testing.assert_close(grad(ours)(w), grad(theirs)(w))
    torch.testing.assert_close(vmap(grad(ours))(ws), vmap(grad(theirs))(ws))
    per_sample = vmap(grad(lambda w, x: ct.linear(x, w).square().sum()), in_dims=(None, 0))(w, x)
    expected = vmap(grad(lambda w, x: (w @ x).square().sum()), in_dims=(None, 0))(w, x)
    torch.testing.assert_close(per_sample, expected)


def test_gradients_of_vmap(seed: int) -> None:
    """grad of vmap, not only vmap of grad."""
    make = Make(seed, "cpu")
    xs, w = make.normal(7, 5, 4, grad=False), make.normal(6, 4, grad=False)
    for ours, theirs in (
        (lambda x, w: ct.linear(x, w), lambda x, w: x @ w.t()),
        (lambda x, w: ct.matmul(x, w.t(), activation="silu"), lambda x, w: silu(x @ w.t())),
    ):
        got, expected = (
            grad(lambda w, f=f: vmap(lambda x: f(x, w))(xs).square().sum())(w) for f in (ours, theirs)
        )
        torch.testing.assert_close(got, expected)
    q = make.normal(3, 2, 4, 5, 8, grad=False)
    got, expected = (
        grad(lambda q, f=f: vmap(lambda q: f(q, q, q))(q).square().sum())(q)
        for f in (ct.scaled_dot_product_attention, sdpa_of_torch)
    )
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_order_of_results_is_foretold(seed: int) -> None:
    """inductor asserts the strides that the fake implementation promises, also where operands were copied."""
    make = Make(seed, "cpu")
    a, b = make.normal(4, 2, 3), make.normal(4, 5, 2)

    def f(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ct.matmul(a.permute(1, 2, 0), b.permute(2, 0, 1))

    y = f(a, b)
    expected = torch.autograd.grad(y.square().sum(), (a, b))
    with Recorder() as recorder:
        torch.autograd.grad(f(a, b).square().sum(), (a, b))
    for operator, arguments in recorder.calls:
        detached = [x.detach() if isinstance(x, torch.Tensor) else x for x in arguments]
        library.opcheck(operator, tuple(detached), test_utils="test_faketensor")
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    got = torch.autograd.grad(compiled(a, b).square().sum(), (a, b))
    for x, z in zip(got, expected, strict=True):
        torch.testing.assert_close(x, z)


def test_attention_of_three_dimensions_traces(seed: int) -> None:
    q = Make(seed, "cpu").normal(3, 5, 8, grad=False)
    for shape in ((3, 5, 8), (2, 2, 3, 5, 8), (0, 5, 8), (2, 0, 3, 5, 8)):
        x = q.new_ones(shape)
        assert ct.scaled_dot_product_attention(x, x, x).shape == shape
    compiled = torch.compile(ct.scaled_dot_product_attention, backend="eager", dynamic=True, fullgraph=True)
    for batch in (3, 4, 6):
        x = torch.randn(batch, 5, 8, dtype=torch.float64)
        torch.testing.assert_close(compiled(x, x, x), sdpa_of_torch(x, x, x))


def test_meta_tensors(seed: int) -> None:
    with torch.device("meta"):
        layer = ct.Linear(4, 5)
        x, q = torch.empty(3, 4), torch.empty(2, 4, 5, 8)
    assert layer(x).shape == (3, 5) and layer(x).is_meta
    assert ct.scaled_dot_product_attention(q, q, q).is_meta
    assert ct.matmul(x, x.t()).is_meta


def test_attention_by_torch_func(device: str, seed: int) -> None:
    make = Make(seed, device)
    q, k, v = (make.normal(3, 2, 4, n, 8, grad=False) for n in (5, 7, 7))
    bias = make.normal(3, 5, 7, grad=False)
    close = torch.testing.assert_close
    close(vmap(ct.scaled_dot_product_attention)(q, k, v), sdpa_of_torch(q, k, v))
    one = sdpa_of_torch(q.flatten(0, 1), k[:1].expand_as(k).flatten(0, 1), v[:1].expand_as(v).flatten(0, 1))
    close(vmap(lambda q: ct.attention(q, k[0], v[0]))(q), one.unflatten(0, (3, 2)))
    biased = [sdpa_of_torch(a, k[0], v[0], b) for a, b in zip(q, bias, strict=True)]
    close(vmap(lambda q, b: ct.attention(q, k[0], v[0], bias=b))(q, bias), torch.stack(biased))
    got = vmap(grad(lambda q: ct.attention(q, k[0], v[0]).square().sum()))(q)
    expected = [grad(lambda q: sdpa_of_torch(q, k[0], v[0]).square().sum())(x) for x in q]
    close(got, torch.stack(expected), atol=1e-5, rtol=1e-4)
    slopes, sinks = make.normal(3, 4, grad=False), make.normal(3, 4, grad=False)
    for name, x in (("alibi_slopes", slopes), ("sink", sinks)):
        looped = [ct.attention(a, k[0], v[0], **{name: b}) for a, b in zip(q, x, strict=True)]
        close(
            vmap(lambda q, b, name=name: ct.attention(q, k[0], v[0], **{name: b}))(q, x), torch.stack(looped)
        )


# ---- Autocast, FLOPs, subclasses ----


@pytest.mark.parametrize("compiled", [False, True])
def test_autocast(compiled: bool, device: str, seed: int) -> None:
    make = Make(seed, device, torch.float32)
    x, w, bias, rows = make.normal(5, 8), make.normal(6, 8), make.normal(6), make.normal(5)

    def f(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(device, torch.bfloat16):
            y = ct.linear(x, w, bias)
            z = ct.matmul(x, w.t(), row_scale=rows)
            q = x.view(1, 1, 5, 8)
            return y, z, ct.scaled_dot_product_attention(q, q, q)

    made = (torch.compile(f, backend="aot_eager", fullgraph=True) if compiled else f)(x, w)
    assert {t.dtype for t in made} == {torch.bfloat16}
    low = [t.detach().bfloat16() for t in (x, w, bias)]
    assert torch.equal(made[0], cutplan.matmul(low[0], low[1].t(), bias=low[2]))
    dx, dw = torch.autograd.grad(made[0], (x, w), torch.ones_like(made[0]))
    assert dx.dtype == dw.dtype == torch.float32


def test_flops(device: str, seed: int) -> None:
    make = Make(seed, device, torch.float32)
    x, w = make.normal(3, 5, 8), make.normal(6, 8)
    q, k = make.normal(2, 4, 5, 8), make.normal(2, 2, 7, 8)
    for ours, theirs in (
        (lambda: ct.linear(x, w), lambda: x @ w.t()),
        (lambda: ct.linear(x, w, activation="silu"), lambda: x @ w.t()),
        (lambda: ct.attention(q, k, k), lambda: (q @ (k.repeat(1, 2, 1, 1)).mT) @ k.repeat(1, 2, 1, 1)),
    ):
        counted = []
        for f in (ours, theirs):
            with FlopCounterMode(display=False) as counter:
                f()
            counted.append(counter.get_total_flops())
        assert counted[0] == counted[1] > 0
    with FlopCounterMode(display=False) as counter:
        ct.linear(x, w).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 15 * 8 * 6


class _Wrapper(torch.Tensor):
    """A subclass that sees every operator."""

    inner: torch.Tensor
    seen: list[str] = []

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> _Wrapper:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(str(operator))
        return operator(*(x.inner if isinstance(x, cls) else x for x in args), **(kwargs or {}))


def test_subclasses_see_the_operator() -> None:
    _Wrapper.seen.clear()
    x, w = torch.randn(3, 4), torch.randn(4, 5)
    assert torch.equal(ct.matmul(_Wrapper(x), w), ct.matmul(x, w))
    assert _Wrapper.seen == ["cutplan.matmul.default"]


def test_eager_calls_go_round_the_dispatcher(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the operator was called")

    for module in (ct._matmul, ct._attention):
        for name in ("matmul_operator", "matmul_saving_operator", "attention_operator"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, refuse)
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    ct.linear(x, w, activation="silu").sum().backward()
    ct.matmul(x, w.t(), residual=torch.ones(3, 5)).sum().backward()
    q = torch.randn(1, 2, 3, 8, requires_grad=True)
    ct.scaled_dot_product_attention(q, q, q).sum().backward()
    assert not _operators.is_traced(x, w)


def test_several_outputs_are_traced(device: str) -> None:
    x, w = torch.randn(4, 8, device=device), torch.randn(8, 29, device=device, requires_grad=True)
    f = torch.compile(
        lambda x, w: ct.matmul(x, w, out_columns=(16, 8, 5)), backend="aot_eager", fullgraph=True
    )
    q, k, v = f(x, w)
    assert all(
        torch.equal(y, z) for y, z in zip((q, k, v), ct.matmul(x, w, out_columns=(16, 8, 5)), strict=True)
    )
    (q.sum() + v.sum()).backward()
    assert w.grad is not None and bool((w.grad[:, 16:24] == 0).all())
