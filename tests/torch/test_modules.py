"""Modules in the place of torch's."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import silu
from torch.nn.utils import prune

import cutplan
import cutplan.torch as ct


class _Mlp(torch.nn.Module):
    """As Hugging Face's models have it."""

    def __init__(self, dtype: torch.dtype, bias: bool = False, activation: type | None = None) -> None:
        super().__init__()
        self.gate_proj = torch.nn.Linear(16, 24, bias=bias, dtype=dtype)
        self.up_proj = torch.nn.Linear(16, 24, bias=bias, dtype=dtype)
        self.down_proj = torch.nn.Linear(24, 16, bias=bias, dtype=dtype)
        self.act_fn = (activation or torch.nn.SiLU)()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class _Swapped(_Mlp):
    """Looks like one, and is none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.up_proj(x)) * self.gate_proj(x))


class _Own(torch.nn.Linear):
    pass


def _model(dtype: torch.dtype) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(
        {
            "first": torch.nn.Linear(8, 16, dtype=dtype),
            "mlp": _Mlp(dtype),
            "biased": _Mlp(dtype, bias=True, activation=torch.nn.GELU),
            "swapped": _Swapped(dtype),
            "strange": _Mlp(dtype, activation=torch.nn.Tanh),
            "own": _Own(16, 16, dtype=dtype),
            "heads": torch.nn.MultiheadAttention(16, 2, dtype=dtype),
        }
    )


def _run(model: torch.nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    x = model["first"](x)
    for name in ("mlp", "biased", "swapped", "strange", "own"):
        x = x + model[name](x)
    return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_replaced_modules(dtype: torch.dtype, device: str, seed: int) -> None:
    torch.manual_seed(seed)
    model = _model(dtype).to(device)
    other = copy.deepcopy(model)
    parameters = dict(other.named_parameters())
    done = ct.replace_modules(other)
    assert done.replaced["first"] == "Linear" and isinstance(other["first"], ct.Linear)
    assert done.replaced["mlp"] == done.replaced["biased"] == "GatedMLP"
    assert "something else" in done.left["swapped"] and "Tanh" in done.left["strange"]
    assert "subclass" in done.left["own"] and done.replaced["heads"] == "MultiheadAttention"
    assert {n for n in done.replaced if n.startswith(("swapped.", "strange."))} == {
        f"{mlp}.{projection}_proj" for mlp in ("swapped", "strange") for projection in ("gate", "up", "down")
    }
    # The same parameters, not copies, by the same names.
    assert model.state_dict().keys() == other.state_dict().keys()
    assert all(dict(other.named_parameters())[name] is p for name, p in parameters.items())
    assert ct.replace_modules(other).replaced == {}

    x = torch.randn(3, 5, 8, dtype=dtype, device=device)
    expected, got = _run(model, x), _run(other, x)
    tolerance = {"atol": 1e-9, "rtol": 1e-9} if dtype == torch.float64 else {"atol": 0.06, "rtol": 0.06}
    torch.testing.assert_close(got, expected, **tolerance)
    if dtype == torch.float64:
        expected.square().sum().backward()
        got.square().sum().backward()
        for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
            if not name.startswith("heads"):
                torch.testing.assert_close(q.grad, p.grad)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_multihead_attention(batch_first: bool, other: bool, device: str, seed: int) -> None:
    torch.manual_seed(seed)
    options = {"batch_first": batch_first, "dtype": torch.float64, "device": device}
    sizes = {"kdim": 12, "vdim": 10} if other else {}
    theirs = torch.nn.MultiheadAttention(16, 4, **sizes, **options)
    ours = copy.deepcopy(theirs)
    assert ct.replace_modules(ours).replaced[""] == "MultiheadAttention"

    def normal(rows: int, width: int) -> torch.Tensor:
        shape = (2, rows, width) if batch_first else (rows, 2, width)
        return torch.randn(shape, dtype=torch.float64, device=device, requires_grad=True)

    q = normal(5, 16)
    k, v = (normal(7, 12), normal(7, 10)) if other else (q, q)
    keys = 7 if other else 5
    padding = torch.zeros(2, keys, dtype=torch.bool, device=device)
    padding[1, -2:] = True
    causal = torch.ones(5, keys, dtype=torch.bool, device=device).triu(1)
    per_head = torch.randn(8, 5, keys, dtype=torch.float64, device=device)
    for masks in (
        {},
        {"key_padding_mask": padding},
        {"attn_mask": causal},
        {"attn_mask": per_head, "key_padding_mask": padding},
        {"attn_mask": causal, "key_padding_mask": padding, "is_causal": True},
        {"need_weights": True},
    ):
        made = [m(q, k, v, **{"need_weights": False, **masks}) for m in (ours, theirs)]
        torch.testing.assert_close(made[0][0], made[1][0])
        assert (made[0][1] is None) == (made[1][1] is None)
        grad = torch.randn_like(made[0][0])
        leaves = [q, ours.out_proj.weight], [q, theirs.out_proj.weight]
        for x, y in zip(
            *(torch.autograd.grad(m[0], xs, grad) for m, xs in zip(made, leaves, strict=True)), strict=True
        ):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_modules_of_their_own(device: str, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(5, 16, dtype=torch.float64, device=device)
    layer = ct.Linear(16, 8, activation="silu", dtype=torch.float64, device=device)
    torch.testing.assert_close(layer(x), silu(torch.nn.functional.linear(x, layer.weight, layer.bias)))
    assert "activation=silu" in repr(layer)
    plain = torch.nn.Linear(16, 8, dtype=torch.float64, device=device)
    plain.load_state_dict(layer.state_dict())
    mlp = ct.GatedMLP(16, 24, bias=True, dtype=torch.float64, device=device)
    of_torch = _Mlp(torch.float64, bias=True).to(device)
    of_torch.load_state_dict(mlp.state_dict())
    torch.testing.assert_close(mlp(x), of_torch(x))
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), of_torch(x))


def test_replaced_modules_keep_their_hooks() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), _Mlp(torch.float64).float())
    seen: list[str] = []
    for name in ("0", "1", "1.up_proj"):
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: seen.append(name))
    x = torch.ones(2, 4)
    expected = model(x)
    assert sorted(seen) == ["0", "1", "1.up_proj"]
    done = ct.replace_modules(model)
    assert done.left == {} and done.replaced["1"] == "GatedMLP"
    seen.clear()
    torch.testing.assert_close(model(x), expected)
    assert sorted(seen) == ["0", "1", "1.up_proj"]


def test_a_gated_mlp_serves_layers_that_are_more_than_a_product(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(3, 16, dtype=torch.float64)

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base, self.added = base, torch.nn.Linear(16, 24, dtype=torch.float64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.added(x)

    model = torch.nn.Sequential(_Mlp(torch.float64))
    ct.replace_modules(model)
    plain = model(x)
    model[0].up_proj = Adapted(model[0].up_proj)
    mlp = model[0]
    torch.testing.assert_close(model(x), mlp.down_proj(silu(mlp.gate_proj(x)) * mlp.up_proj(x)))
    assert not torch.allclose(model(x), plain)

    pruned = torch.nn.Sequential(_Mlp(torch.float64))
    prune.l1_unstructured(pruned[0].up_proj, "weight", 0.3)
    ct.replace_modules(pruned)
    pruned(x).sum().backward()
    assert pruned[0].up_proj.weight_orig.grad is not None


def test_what_is_no_gated_mlp_is_left(seed: int) -> None:
    torch.manual_seed(seed)

    class Scaled(_Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.001

    class Dropping(_Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.dropout(super().forward(x), 0.5, self.training)

    class Gained(_Mlp):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__(dtype)
            self.gain = torch.nn.Parameter(torch.ones(16, dtype=dtype))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.gain

    class Two(_Mlp):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + y

    for kind, why in ((Scaled, "else"), (Dropping, "else"), (Gained, "of its own"), (Two, "TypeError")):
        model = torch.nn.Sequential(kind(torch.bfloat16)).eval()
        model[0].gate_proj.train()
        state = torch.get_rng_state()
        done = ct.replace_modules(model)
        assert why in done.left["0"] and type(model[0]) is kind
        assert not model[0].training and model[0].gate_proj.training
        assert torch.equal(torch.get_rng_state(), state)
        assert done.replaced.keys() == {f"0.{name}_proj" for name in ("gate", "up", "down")}


def test_a_gated_mlp_that_is_the_model_and_one_that_is_shared() -> None:
    model = _Mlp(torch.float32)
    names = model.state_dict().keys()
    done = ct.replace_modules(model)
    assert done.replaced[""] == "GatedMLP" and isinstance(model, ct.GatedMLP)
    assert model.state_dict().keys() == names
    shared = _Mlp(torch.float32)
    both = torch.nn.Sequential(shared, shared)
    ct.replace_modules(both)
    assert both[0] is both[1] and isinstance(shared, ct.GatedMLP)


def test_an_activation_that_is_none_of_cutplan_s_is_refused() -> None:
    with pytest.raises(ValueError, match="activation: must be one of"):
        ct.GatedMLP(4, 6, activation="gelu")
    x, w = torch.ones(2, 4, requires_grad=True), torch.ones(4, 3)
    for call in (
        lambda: ct.matmul(x, w, b2=w, activation="gelu"),
        lambda: ct.matmul(x, w, activation="gelu"),
        lambda: ct.linear(x, w.t(), activation="gelu"),
        lambda: torch.compile(lambda: ct.matmul(x, w, b2=w, activation="gelu"), backend="eager")(),
    ):
        with pytest.raises(Exception, match="activation"):
            call()


def test_data_parallel_training(seed: int) -> None:
    """Hooks of DistributedDataParallel, in a group of one process."""
    torch.manual_seed(seed)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = ct.GatedMLP(16, 24, dtype=torch.float64)
        alone = copy.deepcopy(model)
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        x = torch.randn(5, 16, dtype=torch.float64)
        for net in (parallel, alone):
            net(x).square().sum().backward()
        for p, q in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_what_modules_refuse() -> None:
    """In terms of what their users gave."""
    with pytest.raises(ValueError, match="activation: must be one of 'none', 'relu'"):
        ct.Linear(4, 4, activation="gelu")
    with pytest.raises(TypeError, match="model: a torch.nn.Module required"):
        ct.replace_modules(torch.nn.Linear)  # type: ignore[arg-type]
    x = torch.ones(3, 4)
    with pytest.raises(cutplan.ShapeMismatch, match=r"operand weight: the last dimension of x \[3, 4\]"):
        ct.Linear(5, 6)(x)
    with pytest.raises(cutplan.ShapeMismatch, match=r"operand up_weight: shape \[8, 4\] of gate_weight"):
        ct.gated_mlp(x, torch.ones(8, 4), torch.ones(7, 4), torch.ones(4, 8))
    with torch.no_grad(), pytest.raises(cutplan.DeviceMismatch, match="operand b: a's device cpu .* load it"):
        ct.Linear(4, 5, device="meta")(x)
    with pytest.raises(cutplan.DeviceMismatch, match="operand k_cache: k's device meta required, got cpu"):
        cache = torch.zeros(1, 1, 4, 8)
        new = torch.empty(1, 1, 1, 8, device="meta")
        ct.kv_cache_append(new, new, cache, cache.clone(), torch.zeros(1, dtype=torch.int32))
