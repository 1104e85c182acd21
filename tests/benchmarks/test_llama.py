"""The benchmark of a Llama measures every format, and the page on formats shows what it found, if any."""

from __future__ import annotations

import json
import pathlib

import pytest
import torch
import transformers

from benchmarks import _programs, _report, llama, readme


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> _report.Record:
    path = tmp_path_factory.mktemp("llama") / "llama.json"
    llama.main(["--device", "cpu", "--quick", "--json", str(path)])
    read: _report.Record = json.loads(path.read_text())
    return read


def test_every_format_is_measured(record: _report.Record) -> None:
    assert [e["problem"] for e in record["entries"]] == ["1 sequence", "4 sequences", "a prompt of 32"]
    assert [e["tokens"] for e in record["entries"]] == [2, 8, 32]
    names = [made["name"] for made in record["formats"]]
    assert names == list(llama.FORMATS) and len(names) == 8 and names[0] == _programs.UNQUANTISED
    for entry in record["entries"]:
        assert [c["name"] for c in entry["contenders"]] == names
        assert all(len(c["microseconds"]) == record["rounds"] for c in entry["contenders"])
    assert record["left"] == ["lm_head"] and "--json" not in record["command"]
    plain, *others = record["formats"]
    assert plain["error"] == 0
    for made in others:
        assert 0 < made["error"] < 0.3 and made["bytes"] < plain["bytes"], made["name"]


def test_steps_are_those_of_generation() -> None:
    """With the cache that formats share, set back for each sample."""
    with torch.no_grad():
        made, _ = llama.models(llama._QUICK_SIZES, "cpu")
        model = made[_programs.UNQUANTISED].float()  # in bfloat16 two logits may be alike
        text = torch.randint(3, 320, (2, 5), generator=torch.Generator().manual_seed(0))
        expected = model.generate(text, max_new_tokens=4, do_sample=False)
        cache = transformers.StaticCache(config=model.config, max_cache_len=9)
        tokens = model(text, None, None, cache, logits_to_keep=1).logits.argmax(-1)
        first, step = tokens.clone(), llama.decoder(model, tokens, cache)
        for _ in range(2):
            llama.rewind(cache, 5)
            tokens.copy_(first)
            for i in range(6, 9):
                step()
                assert torch.equal(tokens[:, 0], expected[:, i])


def test_the_page_shows_it(
    record: _report.Record, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "docs" / "formats.md"
    page.parent.mkdir()
    page.write_text("<!-- generated: llama -->\nstale\n<!-- end: llama -->\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    readme.main(["llama"])
    readme.main(["--check", "llama"])
    assert page.read_text() == "<!-- generated: llama -->\n\n<!-- end: llama -->\n"
    graph = {"problem": "1 sequence, CUDA graph", "tokens": 16, "contenders": []}
    for name, sample in ((_programs.UNQUANTISED, 1000.0), ("w8a8", 500.0)):
        graph["contenders"].append({"name": name, "microseconds": [sample]})
    graph["contenders"].append({"name": "fp8", "refused": "no such thing"})
    (tmp_path / "llama.json").write_text(json.dumps({**record, "entries": [graph]}))
    readme.main(["llama"])
    readme.main(["--check", "llama"])
    text = page.read_text()
    assert record["command"] in text and "Embeddings and lm_head are left in bfloat16" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows}
    assert cells["bfloat16"] == "16000, 1.00" and cells["w8a8"] == "32000, 2.00" and cells["fp8"] == "-"
