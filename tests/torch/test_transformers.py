"""Models of Hugging Face with random weights: cutplan's attention and layers against the models' own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers

import cutplan.torch as ct

_COMMON = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("LlamaConfig", {}),
    "Mistral": ("MistralConfig", {"sliding_window": 5}),
    "Gemma-2": ("Gemma2Config", {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 16}),
    "GPT-OSS": (
        "GptOssConfig",
        {"head_dim": 16, "sliding_window": 5, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
}  # fmt: skip


def _pair(name: str, dtype: torch.dtype, device: str, seed: int) -> tuple[Any, Any]:
    """The model as it is, and with cutplan in it."""
    ct.register_transformers()
    torch.manual_seed(seed)
    config_name, options = _MODELS[name]
    config = getattr(transformers, config_name)(**_COMMON, **options)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    model = model.to(device).eval()
    ours = copy.deepcopy(model)
    ours.set_attn_implementation("cutplan")
    done = ct.replace_modules(ours)
    assert done.replaced and ours.state_dict().keys() == model.state_dict().keys()
    return model, ours


def _tokens(device: str, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator(device).manual_seed(seed)
    tokens = torch.randint(3, 97, (3, 11), generator=source, device=device)
    padding = torch.ones_like(tokens)
    padding[0, :4] = padding[1, :1] = 0
    return tokens, padding


@pytest.mark.parametrize("name", list(_MODELS))
def test_logits(name: str, device: str, seed: int) -> None:
    model, ours = _pair(name, torch.float32, device, seed)
    tokens, padding = _tokens(device, seed)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens).logits, model(tokens).logits, atol=2e-5, rtol=2e-5)
        got, expected = (m(tokens, attention_mask=padding).logits for m in (ours, model))
        torch.testing.assert_close(got[padding == 1], expected[padding == 1], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", list(_MODELS))
def test_logits_of_bfloat16(name: str, device: str, seed: int) -> None:
    """As far from those of float32 as the model's own, within a factor."""
    model, ours = _pair(name, torch.bfloat16, device, seed)
    tokens, _ = _tokens(device, seed)
    with torch.no_grad():
        exact = copy.deepcopy(model).float()(tokens).logits
        error, of_model = ((m(tokens).logits.float() - exact).abs().max() for m in (ours, model))
    assert error <= 2 * of_model


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", list(_MODELS))
def test_generation(name: str, cache: str, device: str, seed: int) -> None:
    """With a cache, beyond the window."""
    model, ours = _pair(name, torch.float32, device, seed)
    tokens, padding = _tokens(device, seed)
    options = {
        "max_new_tokens": 12,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    if cache == "static":
        options |= {"cache_implementation": "static", "disable_compile": True}
    expected, got = (m.generate(tokens, attention_mask=padding, **options) for m in (model, ours))
    for a, b, step in zip(got.logits, expected.logits, range(12), strict=False):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        if not torch.equal(got.sequences[:, : 12 + step], expected.sequences[:, : 12 + step]):
            break  # two logits were alike: from here on the texts differ


@pytest.mark.parametrize("name", list(_MODELS))
def test_training(name: str, device: str, seed: int) -> None:
    model, ours = _pair(name, torch.float32, device, seed)
    tokens, _ = _tokens(device, seed)
    losses = []
    for m in (model, ours):
        m.train()
        loss = m(tokens, labels=tokens).loss
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(losses[1], losses[0])
    for (parameter, p), q in zip(model.named_parameters(), ours.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), parameter
        if p.grad is not None:
            assert (p.grad - q.grad).abs().max() <= 1e-4 * p.grad.abs().max() + 1e-7, parameter


def test_masks_are_made_only_where_needed(seed: int) -> None:
    tokens, padding = _tokens("cpu", seed)
    from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function

    from cutplan.torch._transformers import attention_mask

    sizes = {"batch_size": 3, "q_length": 11, "kv_length": 11, "device": "cpu"}
    for function in (causal_mask_function, sliding_window_causal_mask_function(5)):
        assert attention_mask(**sizes, mask_function=function) is None
        assert (
            attention_mask(**sizes, mask_function=function, attention_mask=torch.ones_like(padding)) is None
        )
        made = attention_mask(**sizes, mask_function=function, attention_mask=padding)
        assert torch.equal(made, padding.bool())

    def own(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return (key <= query) & (key % 2 == 0)

    made = attention_mask(**sizes, mask_function=own)
    assert made.shape[-2:] == (11, 11) and not made[0, 0, 5, 3] and made[0, 0, 5, 4]


def test_attention_weights_are_refused(seed: int) -> None:
    _, ours = _pair("Llama", torch.float32, "cpu", seed)
    q = torch.ones(1, 4, 3, 16)
    with pytest.raises(ValueError, match="output_attentions"):
        ct._transformers.attention_forward(ours, q, q, q, None, output_attentions=True)
