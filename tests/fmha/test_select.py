"""Which kernel serves a problem, on devices of every kind: no GPU is needed to ask."""

from __future__ import annotations

from typing import Any

import pytest

import cutplan
from cutplan import FmhaBackwardDescriptor, FmhaDescriptor, PlanPreference, fmha_kernels, fmha_registry
from tests.fmha import is_backward
from tests.gemm.test_select import A40, A100, CARDS, H200, HOST, L40

BUILT = set(cutplan.built_architectures())
OPERANDS = ("float16", "bfloat16", "float32", "float64")
DIMS = (1, 32, 40, 64, 80, 96, 128, 192, 256)
ALL_CARDS = [HOST, *CARDS]

needs_sm80 = pytest.mark.built("sm80")
needs_sm89 = pytest.mark.built("sm89")


def square(extent: int = 4096, dim: int = 128, operand: str = "float16", **more: Any) -> FmhaDescriptor:
    fields = {
        "heads": 16,
        "seq_q": extent,
        "seq_k": extent,
        "dim": dim,
        "dtype": operand,
        "lse": True,
        **more,
    }
    return FmhaDescriptor(**fields)


def both(extent: int = 4096, dim: int = 128, operand: str = "float16", **more: Any) -> list[Any]:
    forward = square(extent, dim, operand, **more)
    return [forward, FmhaBackwardDescriptor(forward)]


def test_names_are_unique_and_select_again() -> None:
    registry = fmha_registry()
    names = [sku.name for sku in registry]
    assert len(set(names)) == len(names) > 0
    for sku in registry:
        served = set()
        for card in ALL_CARDS:
            for dim in DIMS:
                descriptor = both(dim=dim, operand=str(sku.a))[is_backward(sku)]
                preference = PlanPreference(kernel=sku.name, math="tf32")
                if found := fmha_kernels(descriptor, card, preference):
                    assert [kernel.name for kernel in found] == [sku.name]
                    served.add(card.name)
        assert served, f"{sku.name}: no device can run it"
        assert ("host" in sku.name) == (HOST.name in served)


def test_every_kernel_says_what_it_is() -> None:
    for sku in fmha_registry():
        assert sku.category == "attention"
        assert sku.op in ("fmha", "fmha_backward") and sku.name.startswith(f"{sku.op}.")
        assert str(sku.arch) in BUILT and str(sku.arch) in sku.name
        assert sku.a == sku.b and str(sku.accumulator) == (
            "float64" if str(sku.a) == "float64" else "float32"
        )
        assert all(extent > 0 for extent in sku.tile[:2])
        assert sku.split_k == 1


def test_both_passes_are_there_for_every_row_of_the_support_table() -> None:
    rows = cutplan.fmha_support()
    registry = fmha_registry()
    assert {str(row.arch) for row in rows} == {str(sku.arch) for sku in registry}
    for row in rows:
        passes = {is_backward(sku) for sku in registry if sku.arch == row.arch and sku.a == row.operand}
        assert passes == {False, True}, (row.arch, row.operand)
        assert row.largest_dim == 256
    for row in (row for row in rows if str(row.arch) == "host"):
        outputs = {str(o) for o in row.o}
        for o in ("float16", "bfloat16", "float32", "float64", "int8"):
            for descriptor, plan in zip(both(64, operand=str(row.operand), o=o), PLANS, strict=True):
                if o in outputs:
                    assert str(plan.select(descriptor, "cpu").sku.arch) == "host"
                else:
                    with pytest.raises(cutplan.Unsupported, match=f"operand o.*{o}"):
                        plan.select(descriptor, "cpu")


PLANS: list[Any] = [cutplan.FmhaPlan, cutplan.FmhaBackwardPlan]


@pytest.mark.parametrize("operand", OPERANDS)
def test_the_host_serves_everything(operand: str) -> None:
    for dim in range(1, 257, 15):
        for extent in (0, 1, 7, 4096):
            for descriptor in both(
                extent, dim, operand, dim_v=257 - dim, softcap=1.0, alibi=True, sink=True, dropout=True
            ):
                assert [str(sku.arch) for sku in fmha_kernels(descriptor, HOST)] == ["host"]


@needs_sm80
@pytest.mark.parametrize("operand", OPERANDS)
@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_cards_serve_any_problem(card: cutplan.DeviceProperties, operand: str) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"causal": "bottom_right", "heads_k": 2},
        {"window": (7, 3), "align": "top_left", "layout": "bshd"},
        {"softcap": 1.0, "alibi": True, "bias": operand, "mask": True, "sink": True, "dropout": True},
        {"varlen": True, "batch": 3, "seqused_k": True},
    ]
    for dim in (*DIMS, 33, 255):
        for dim_v in (dim, 257 - dim):
            for more in options:
                for descriptor in both(300, dim, operand, dim_v=dim_v, **more):
                    for wish in ({}, {"deterministic": True}, {"batch_invariant": True}):
                        skus = fmha_kernels(descriptor, card, PlanPreference(**wish))
                        assert skus, (dim, dim_v, more, wish)
                        assert all(str(sku.arch) != "host" for sku in skus)


def test_a_plan_is_what_the_ranking_put_first(device: str) -> None:
    properties = cutplan.device_properties(device)
    for extent in (1, 64, 1000):
        for dim in (40, 64, 128, 256):
            for descriptor, kind in zip(both(extent, dim), PLANS, strict=True):
                plan = kind.select(descriptor, device)
                assert plan.sku.name == fmha_kernels(descriptor, properties)[0].name
                again = kind.select(descriptor, device, PlanPreference(kernel=plan.sku.name))
                assert again.sku.name == plan.sku.name
                assert plan.descriptor == descriptor


@needs_sm80
@needs_sm89
def test_small_shared_memory_takes_small_tiles() -> None:
    """Cards with 99 KiB get kernels that fit them, at every head dimension and in both passes."""
    for card in (A40, L40):
        for operand in ("float16", "bfloat16"):
            for dim in DIMS:
                for descriptor in both(dim=dim, operand=operand):
                    assert fmha_kernels(descriptor, card)
    for descriptor in both():
        here = {sku.name for sku in fmha_kernels(descriptor, A100)}
        assert {sku.name for sku in fmha_kernels(descriptor, A40)} <= here | {
            sku.name for sku in fmha_registry() if str(sku.arch) == "sm89"
        }


@needs_sm80
def test_short_queries_split_their_keys_and_obey_preferences() -> None:
    for card in CARDS:
        decode = FmhaDescriptor(batch=1, heads=32, heads_k=8, seq_q=1, seq_k=65536, dim=128, dtype="bfloat16")
        assert fmha_kernels(decode, card)[0].split_k > 1
        for preference in (PlanPreference(max_workspace_bytes=0), PlanPreference(batch_invariant=True)):
            found = fmha_kernels(decode, card, preference)
            assert found
            if preference.max_workspace_bytes == 0:
                assert all(sku.split_k == 1 for sku in found)
        busy = FmhaDescriptor(batch=64, heads=32, seq_q=2048, seq_k=2048, dim=128, dtype="bfloat16")
        assert fmha_kernels(busy, card)[0].split_k == 1


@needs_sm80
def test_batch_invariant_choice_ignores_the_batch() -> None:
    for card in CARDS:
        for rows, keys in ((1, 8192), (777, 777)):
            chosen = {
                fmha_kernels(
                    FmhaDescriptor(batch=batch, heads=8, seq_q=rows, seq_k=keys, dim=128, dtype="bfloat16"),
                    card,
                    PlanPreference(batch_invariant=True),
                )[0].name
                for batch in (1, 2, 7, 64, 1000)
            }
            assert len(chosen) == 1, (card.name, chosen)


@needs_sm80
def test_math_is_honoured() -> None:
    """A more exact kernel than asked for may come first, a less exact one never."""
    order = ["tf32", "tf32x3", "strict"]
    for descriptor in both(operand="float32"):
        names = [
            {sku.name for sku in fmha_kernels(descriptor, H200, PlanPreference(math=math))} for math in order
        ]
        assert names[0] >= names[1] >= names[2] and names[2]
    for descriptor in both(operand="float16"):
        chosen = [
            [sku.name for sku in fmha_kernels(descriptor, H200, PlanPreference(math=math))] for math in order
        ]
        assert chosen[0] == chosen[1] == chosen[2]


def test_arch_is_honoured() -> None:
    for arch in ("sm80", "sm89", "sm90"):
        for card in ALL_CARDS:
            for descriptor in both():
                skus = fmha_kernels(descriptor, card, PlanPreference(arch=arch))
                assert {str(sku.arch) for sku in skus} <= {arch}
    for descriptor in both():
        assert [str(sku.arch) for sku in fmha_kernels(descriptor, HOST, PlanPreference(arch="host"))] == [
            "host"
        ]
        assert fmha_kernels(descriptor, H200, PlanPreference(arch="host")) == []


def test_unknown_kernel_lists_nothing() -> None:
    for descriptor in both():
        assert fmha_kernels(descriptor, HOST, PlanPreference(kernel="fmha.host.nonsense")) == []


def test_descriptors_compare_and_print() -> None:
    """Equal where every field is, hashable, and printed as the call that makes them again."""
    variants = [
        square(),
        square(heads_k=2),
        square(dim_v=64),
        square(o="float32"),
        square(layout="bshd"),
        square(varlen=True),
        square(causal="top_left"),
        square(causal="bottom_right"),
        square(align="top_left"),
        square(window=(5, 6)),
        square(softcap=2.0),
        square(alibi=True),
        square(bias="float32"),
        square(mask=True),
        square(sink=True),
        square(seqused_k=True),
        square(dropout=True),
        square(lse=False),
    ]
    backward = [
        FmhaBackwardDescriptor(square()),
        FmhaBackwardDescriptor(square(), grad="float32"),
        FmhaBackwardDescriptor(square(bias="float16"), dbias=True),
        FmhaBackwardDescriptor(square(alibi=True), dalibi_slopes=True),
        FmhaBackwardDescriptor(square(sink=True), dsink=True),
    ]
    assert len({*variants}) == len(variants) and len({*backward}) == len(backward)
    names = {"FmhaDescriptor": FmhaDescriptor, "FmhaBackwardDescriptor": FmhaBackwardDescriptor}
    for descriptor in [*variants, *backward]:
        assert eval(repr(descriptor), names) == descriptor
    assert square(heads_k=16, dim_v=128) == square()
