"""Models whose linear layers are quantised: what is replaced, states and how they are loaded, and logits."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations, prune

import cutplan
import cutplan.torch as ct

FORMATS: dict[str, dict[str, Any]] = {
    "w4a16": {"group_size": 32},
    "w4a16, uint4": {"weights": "uint4"},
    "w4a16, nf4": {"weights": "nf4", "group_size": 64},
    "w4a16, int8": {"weights": "int8", "group_size": -1},
    "w8a8": {},
    "fp8": {},
}


def _model(device: str = "cpu") -> torch.nn.Sequential:
    with torch.device(device):
        return torch.nn.Sequential(
            torch.nn.Linear(96, 80), torch.nn.SiLU(), ct.Linear(80, 40, activation="relu", bias=False)
        )


def _quantized(name: str, model: Any = None) -> Any:
    model = _model() if model is None else model
    done = ct.quantize_module(model, name.split(",")[0], **FORMATS[name])
    assert done.replaced == {"0": "QuantizedLinear", "2": "QuantizedLinear"} and done.left == {}
    return model


@pytest.fixture
def x(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(3, 5, 96)


# Of weights alone, or of weights and inputs: relative to the layers' results.
ERRORS = {
    "w4a16": 0.15,
    "w4a16, uint4": 0.15,
    "w4a16, nf4": 0.13,
    "w4a16, int8": 0.015,
    "w8a8": 0.02,
    "fp8": 0.08,
}


@pytest.mark.parametrize("name", list(FORMATS))
def test_results_and_layers(name: str, x: torch.Tensor) -> None:
    model = _model()
    quantized = _quantized(name, copy.deepcopy(model))
    with torch.no_grad():
        for dtype in (torch.float32, torch.bfloat16):
            expected, got = model(x), quantized.to(dtype)(x.to(dtype))
            assert got.dtype == dtype
            assert (got.float() - expected).norm() <= (ERRORS[name] + 0.01) * expected.norm()
            assert (got.float() - expected).norm() > 0
    layer = quantized[0]
    assert isinstance(layer, torch.nn.Linear) and name.split(",")[0] in repr(layer)
    assert isinstance(layer.bias, torch.nn.Parameter) and layer.bias.dtype == torch.bfloat16
    assert {n for n, _ in quantized.named_parameters()} == {"0.bias"}
    assert quantized[2].activation == "relu" and "relu" in repr(quantized[2])
    w = layer.dequantize()
    assert w.shape == (80, 96) and w.dtype == torch.float32
    assert (w - model[0].weight).norm() <= ERRORS[name] * model[0].weight.norm()
    again = ct.quantize_module(quantized, "w8a8")
    assert again.replaced == {} and ct.replace_modules(quantized).replaced == {}


@pytest.mark.parametrize("name", list(FORMATS))
def test_states(name: str, x: torch.Tensor, tmp_path: Path) -> None:
    """Copied, pickled, saved by torch and by safetensors, and loaded into a model that has no memory yet."""
    safetensors = pytest.importorskip("safetensors.torch")
    model = _quantized(name)
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    if name != "fp8":  # torch pickles no float8 tensor but by torch.save
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), expected)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), expected)
    safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
    state = safetensors.load_file(tmp_path / "model.safetensors")
    assert state.keys() == model.state_dict().keys()
    empty = _quantized(name, _model("meta"))
    assert empty(torch.empty(3, 96, device="meta")).shape == (3, 40)
    for key, value in empty.state_dict().items():
        assert value.is_meta and value.shape == state[key].shape and value.dtype == state[key].dtype
    assigned = copy.deepcopy(empty)
    assigned.load_state_dict(state, assign=True)
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(state)
    other = _quantized(name)
    other.load_state_dict(state)
    for loaded in (assigned, filled, other):
        assert torch.equal(loaded(x), expected)


def test_types_of_codes_and_scales_stay(x: torch.Tensor) -> None:
    for name in FORMATS:
        model = _quantized(name)
        types = {key: value.dtype for key, value in model.state_dict().items() if "bias" not in key}
        for cast in (torch.nn.Module.half, torch.nn.Module.bfloat16, lambda m: m.to(torch.float64)):
            cast(model)
            assert {key: model.state_dict()[key].dtype for key in types} == types
        assert model[0].bias.dtype == torch.float64
        assert model.to("meta")[0].weight.is_meta


def test_packed_weights_of_any_packing_are_loaded(x: torch.Tensor) -> None:
    """A packed tensor says what it is: other groups, zero points, the order of rows that GPTQ leaves."""
    layer = ct.QuantizedLinear(96, 80, format="w4a16")
    source = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**31), 2**31, (12, 80), generator=source, dtype=torch.int64).int()
    zeros = torch.randint(-(2**31), 2**31, (3, 10), generator=source, dtype=torch.int64).int()
    order = (torch.randperm(96, generator=source) // 32).int()
    packed = cutplan.pack_weights.from_gptq(words, zeros, torch.rand(3, 80, generator=source).half(), order)
    assert packed.has_zero and packed.has_permutation
    layer.load_state_dict({"weight": packed.data, "bias": torch.zeros(80)})
    assert torch.equal(layer(x), ct.linear(x, packed)) and "group_size=32" in repr(layer)
    assert torch.equal(layer.dequantize(), cutplan.unpack_weights(packed).t())


@pytest.mark.parametrize("format", ["w8a8", "fp8"])
def test_scales_of_other_libraries_are_loaded(format: str, x: torch.Tensor) -> None:
    """[n, 1], of 16 bits, and one for all."""
    layer = ct.QuantizedLinear(96, 80, format=format)
    state = layer.state_dict()
    scale = state["weight_scale"].bfloat16()
    layer.load_state_dict({**state, "weight_scale": scale[:, None]})
    assert torch.equal(layer.weight_scale, scale.float())
    for one in (torch.tensor(0.5), torch.tensor([0.5])):
        layer.load_state_dict({**state, "weight_scale": one})
        assert layer.weight_scale.tolist() == [0.5] * 80


def test_states_that_are_refused(x: torch.Tensor) -> None:
    for name in FORMATS:
        with pytest.raises(RuntimeError, match="0.weight: .* required, got float32; load floats first"):
            _quantized(name).load_state_dict(_model().state_dict())
    model = _quantized("w4a16")
    before = model(x)
    other = cutplan.pack_weights(torch.randn(80, 96), "int4")
    for wrong, text in (
        (other.data, r"packed weights of shape \[96, 80\] required, got \[80, 96\]"),
        (torch.zeros(300, dtype=torch.uint8), "0.weight: "),
    ):
        with pytest.raises(RuntimeError, match=text):
            model.load_state_dict({**model.state_dict(), "0.weight": wrong})
        assert torch.equal(model(x), before)


# ---- what is replaced ----


class _Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))
        self.lm_head = torch.nn.Linear(16, 10, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)


def test_what_is_skipped() -> None:
    every = {"layers.0", "layers.1", "layers.2", "lm_head"}
    for skip, left in (
        (None, {"lm_head"}),
        ((), set()),
        ("layers", {"layers.0", "layers.1", "layers.2"}),
        (["1", "lm_head"], {"layers.1", "lm_head"}),
        (["layers.2"], {"layers.2"}),
        (lambda name, module: module.out_features == 10 or "0" in name, {"layers.0", "lm_head"}),
        (["head", "ayers.0"], set()),  # no ends of names that begin within one
    ):
        net = _Net()
        done = ct.quantize_module(net, "w8a8", skip=skip)
        assert done.left == dict.fromkeys(left, "it is in skip")
        assert done.replaced == dict.fromkeys(every - left, "QuantizedLinear")
        assert all(type(net.get_submodule(name)) is torch.nn.Linear for name in left)
        assert net(torch.arange(4)).shape == (4, 10)


def test_what_is_left() -> None:
    class Own(torch.nn.Linear):
        pass

    net = _Net()
    net.lm_head.weight = net.embed.weight
    net.own = Own(4, 4)
    net.pruned = prune.l1_unstructured(torch.nn.Linear(4, 4), "weight", 0.5)
    net.normed = parametrizations.weight_norm(torch.nn.Linear(4, 4))
    net.patched = torch.nn.Linear(4, 4)
    net.patched.forward = lambda x: x
    net.encoder = torch.nn.TransformerEncoderLayer(16, 2, 8)
    done = ct.quantize_module(net, "fp8", skip=())
    reasons = {
        "lm_head": "its weight is another module's",
        "own": "Own, may compute otherwise",
        "pruned": "its weight is no parameter of its own",
        "normed": "a subclass of torch.nn.Linear",
        "patched": "its forward was replaced",
        "encoder.self_attn.out_proj": "a subclass",
        "encoder.linear1": "TransformerEncoderLayer reads its weight",
        "encoder.linear2": "TransformerEncoderLayer reads its weight",
    }
    assert done.left.keys() == reasons.keys()
    for name, text in reasons.items():
        assert text in done.left[name]
    assert done.replaced.keys() == {"layers.0", "layers.1", "layers.2"}
    net.eval()
    with torch.no_grad():
        assert net.encoder(torch.ones(3, 2, 16)).isfinite().all()


def test_hooks_and_shared_modules_stay() -> None:
    layer = torch.nn.Linear(8, 8)
    model = torch.nn.Sequential(layer, layer)
    seen: list[torch.Size] = []
    layer.register_forward_hook(lambda module, inputs, y: seen.append(y.shape))
    layer.note = "mine"
    layer.eval()
    ct.quantize_module(model, "w8a8")
    model(torch.ones(2, 8))
    assert model[0] is model[1] is layer and len(seen) == 2
    assert layer.note == "mine" and not layer.training


def test_layers_that_no_kernel_serves() -> None:
    """All are named, and nothing is changed; or they are left."""
    net = _Net()
    net.wide = torch.nn.Linear(131072, 1, bias=False)
    net.double = torch.nn.Linear(4, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match="(?s)wide: k: at most 131071 .*double: operand weight: float16"):
        ct.quantize_module(net, "w8a8")
    assert type(net.layers[0]) is torch.nn.Linear
    done = ct.quantize_module(net, "w8a8", strict=False)
    assert done.left.keys() == {"lm_head", "wide", "double"} and "131071" in done.left["wide"]
    with pytest.raises(ValueError, match="double: operand weight: float16"):
        ct.quantize_module(net, "fp8", training=True)
    odd = torch.nn.Sequential(torch.nn.Linear(5, 4))
    with pytest.raises(
        ValueError, match="0: in_features: an even number required with weights='uint4', got 5"
    ):
        ct.quantize_module(odd, "w4a16", weights="uint4")
    with pytest.raises(ValueError, match="0: group_size: 32, 64, 128, or -1, .* got 3"):
        ct.quantize_module(odd, "w4a16", group_size=3)
    for format in ("w4a16", "w8a8", "fp8"):
        small = torch.nn.Sequential(torch.nn.Linear(5, 3))
        ct.quantize_module(small, format)
        assert small(torch.ones(2, 5)).shape == (2, 3)


def test_training_layers() -> None:
    net = _Net()
    done = ct.quantize_module(net, "fp8", training=True, grad_dtype=torch.float8_e5m2)
    assert done.left == {"lm_head": "it is in skip"}
    layer = net.layers[0]
    assert isinstance(layer, ct.Float8Linear) and "e5m2" in repr(layer)
    net(torch.arange(4)).sum().backward()
    x = torch.randn(3, 16)
    expected = ct.float8_linear(x, layer.weight, layer.bias, grad_dtype=torch.float8_e5m2)
    assert torch.equal(layer(x), expected) and layer.weight.grad.dtype == torch.float32
    plain = _Net()
    plain.load_state_dict(net.state_dict())
    # What was trained is narrowed for inference.
    assert ct.quantize_module(plain, "fp8").replaced.keys() == done.replaced.keys()


def test_arguments_that_are_refused() -> None:
    model = _model()
    for call, kind, text in (
        (lambda: ct.quantize_module(torch.nn.Linear, "fp8"), TypeError, "model: a torch.nn.Module required"),
        (lambda: ct.quantize_module(model, "int4"), ValueError, "format: must be one of 'w4a16', 'w8a8'"),
        (lambda: ct.quantize_module(model, "w4a16", weights="int3"), ValueError, "weights: must be one of"),
        (lambda: ct.quantize_module(model, "w8a8", training=True), ValueError, "training: goes with format"),
        (
            lambda: ct.quantize_module(model, "fp8", training=True, grad_dtype=torch.int8),
            ValueError,
            "grad_dtype: must be one of",
        ),
        (lambda: ct.QuantizedLinear(131072, 1, format="w8a8"), cutplan.Unsupported, "at most 131071"),
    ):
        with pytest.raises(kind, match=text):  # type: ignore[call-overload]
            call()  # type: ignore[no-untyped-call]
    assert type(model[0]) is torch.nn.Linear


# ---- a model of Hugging Face ----


def _llama(seed: int) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=64, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=0.1,
    )  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


@pytest.mark.parametrize("name, error", [*ERRORS.items(), ("training", 0.1)])
def test_logits_of_a_llama(name: str, error: float, seed: int) -> None:
    """Errors of layers add up like noise: within three times that of one."""
    model = _llama(seed)
    ours = copy.deepcopy(model)
    ct.replace_modules(ours)
    if name == "training":
        done = ct.quantize_module(ours, "fp8", training=True)
    else:
        done = ct.quantize_module(ours, name.split(",")[0], **FORMATS[name])
    assert len(done.replaced) == 14 and done.left == {"lm_head": "it is in skip"}
    tokens = torch.randint(3, 97, (3, 11), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        got, expected = ours(tokens).logits, model(tokens).logits
        assert (got - expected).norm() <= 3 * error * expected.norm()
        text = ours.generate(tokens, max_new_tokens=4, do_sample=False)
        assert text.shape[0] == 3 and torch.equal(text[:, :11], tokens)
    if name != "training":
        ours.model.layers[0].input_layernorm.requires_grad_(True)
        ours(tokens, labels=tokens).loss.backward()
        assert ours.model.embed_tokens.weight.grad.abs().sum() > 0


def test_a_quantised_llama_is_loaded_without_its_floats(seed: int) -> None:
    transformers = pytest.importorskip("transformers")
    model = _llama(seed)
    ct.quantize_module(model, "w4a16", group_size=32)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(model.config, attn_implementation="eager")
    ct.quantize_module(empty, "w4a16")  # groups of 128: those of the state are read of it
    empty.load_state_dict(model.state_dict(), assign=True)
    # What no state holds, a model makes anew.
    empty.model.rotary_emb = copy.deepcopy(model.model.rotary_emb)
    tokens = torch.randint(3, 97, (2, 7), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(empty.eval()(tokens).logits, model(tokens).logits)
