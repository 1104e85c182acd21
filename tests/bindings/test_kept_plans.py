"""Plans that functions keep: when they are chosen anew, what with, and how to learn which ran; pickles."""

from __future__ import annotations

import copy
import enum
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import cutplan
from cutplan import _core, _plans

FUNCTIONS = (
    "matmul",
    "matmul, batched",
    "matmul_backward",
    "grouped_matmul",
    "attention",
    "attention_backward",
)


def calls(device: str) -> dict[str, Callable[..., object]]:
    """Of every function, with the options of the call left open; matmul_backward has two problems."""
    a = torch.ones(4, 4, dtype=torch.float16, device=device)
    b = torch.ones(3, 4, 4, dtype=torch.float16, device=device)
    offsets = torch.tensor([0, 1, 1, 4], dtype=torch.int32, device=device)
    q = torch.ones(1, 1, 4, 8, dtype=torch.float16, device=device)
    o, lse = cutplan.attention(q, q, q, return_lse=True)
    return {
        "matmul": lambda **options: cutplan.matmul(a, a, **options),
        "matmul, batched": lambda **options: cutplan.matmul(a, b, **options),
        "matmul_backward": lambda **options: cutplan.matmul_backward(a, a, a, **options),
        "grouped_matmul": lambda **options: cutplan.grouped_matmul(a, b, offsets, **options),
        "attention": lambda **options: cutplan.attention(q, q, q, **options),
        "attention_backward": lambda **options: cutplan.attention_backward(q, q, q, q, o, lse, **options),
    }


every_function = pytest.mark.parametrize("name", FUNCTIONS)
TABLE = cutplan.export_tuning().split("\n")[0] + "\nend\t0\n"  # nothing measured


@pytest.mark.parametrize(
    "change",
    [
        lambda: cutplan.add_tuning(TABLE),
        lambda: cutplan.import_tuning(TABLE),
        cutplan.clear_tuning,
        cutplan.tuning_cache,
        lambda: cutplan.tune_gemm(cutplan.GemmDescriptor(m=8, n=8, k=8, a="float32"), "cpu"),
    ],
    ids=["add", "import", "clear", "read again", "tune"],
)
@every_function
def test_what_is_tuned_is_seen(name: str, change: Callable[[], object]) -> None:
    call = calls("cpu")[name]
    cutplan.clear_tuning()
    call()
    known = _core.chosen_plans()
    call()
    assert _core.chosen_plans() == known, "a kept plan is used"
    before = cutplan.tuning_generation()
    change()
    assert cutplan.tuning_generation() > before
    call()
    chosen = _core.chosen_plans()
    assert chosen > known, "what was chosen before may be wrong now"
    call()
    assert _core.chosen_plans() == chosen
    cutplan.clear_tuning()


def test_looking_changes_nothing() -> None:
    before = cutplan.tuning_generation()
    cutplan.export_tuning()
    descriptor = cutplan.GemmDescriptor(m=8, n=8, k=8, a="float32")
    cutplan.tuned_gemm(descriptor, cutplan.device_properties("cpu"))
    cutplan.measure_gemm(descriptor, "cpu")
    cutplan.GemmPlan.select(descriptor, "cpu")
    assert cutplan.tuning_generation() == before


@pytest.mark.cuda
def test_matmul_follows_a_measurement() -> None:
    a, b = (torch.ones(s, dtype=torch.float16, device="cuda") for s in ((192, 2048), (2048, 2048)))
    out = torch.empty(192, 2048, dtype=torch.float16, device="cuda")
    problem = cutplan.describe(a, b, out)
    cutplan.clear_tuning()
    cutplan.matmul(a, b, out=out)
    first = cutplan.last_kernels()
    cutplan.tune_gemm(problem, "cuda")
    measured = cutplan.GemmPlan.select(problem, "cuda").sku.name
    kernels = cutplan.gemm_kernels(problem, cutplan.device_properties("cuda"))
    other = next(k.name for k in kernels if k.name not in (measured, *first))
    table = cutplan.export_tuning().replace(measured, other)
    cutplan.clear_tuning()
    cutplan.import_tuning(table)
    cutplan.matmul(a, b, out=out)
    assert cutplan.last_kernels() == (other,)
    cutplan.clear_tuning()


# ---- which kernel ran


@every_function
def test_the_kernels_that_ran(name: str, device: str) -> None:
    calls(device)[name]()
    kernels = cutplan.last_kernels()
    assert len(kernels) == (2 if name == "matmul_backward" else 1)
    op = {"grouped_matmul": "grouped_gemm", "attention": "fmha", "attention_backward": "fmha_backward"}
    assert all(kernel.startswith(op.get(name, "gemm") + ".") for kernel in kernels)


def test_runs_are_listed_in_order() -> None:
    a, b = torch.ones(2, 7, 3, 4), torch.ones(7, 4, 5)
    cutplan.matmul(a, b)
    assert len(cutplan.last_kernels()) == 2, "one for each run"
    cutplan.matmul(a[0, 0], b[0])
    assert len(cutplan.last_kernels()) == 1


def test_each_thread_has_its_own() -> None:
    cutplan.matmul(torch.ones(2, 2), torch.ones(2, 2))
    mine = cutplan.last_kernels()
    others: list[tuple[str, ...]] = []

    def work() -> None:
        others.append(cutplan.last_kernels())
        cutplan.matmul(torch.ones(2, 2).half(), torch.ones(2, 2).half())
        others.append(cutplan.last_kernels())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert others[0] == () and others[1] != mine
    assert cutplan.last_kernels() == mine


@every_function
def test_choices_are_logged(name: str, caplog: pytest.LogCaptureFixture) -> None:
    call = calls("cpu")[name]
    cutplan.clear_tuning()  # what is kept is chosen anew
    with caplog.at_level(logging.DEBUG, logger="cutplan"):
        call()
        texts = [record.getMessage() for record in caplog.records if record.name == "cutplan"]
        call()
        assert len(caplog.records) == len(texts), "a plan that is kept is not chosen"
    kernels = dict.fromkeys(cutplan.last_kernels())
    assert len(texts) >= 1
    for text, kernel in zip(texts, [*kernels, *kernels], strict=False):
        assert text.startswith(f"{kernel} runs ") and "Descriptor(" in text and text.endswith(" on cpu")
    cutplan.clear_tuning()
    with caplog.at_level(logging.INFO, logger="cutplan"):
        caplog.clear()
        call()
        assert not caplog.records


# ---- preference=


@every_function
def test_a_preference_is_honoured(name: str, device: str) -> None:
    call = calls(device)[name]
    call(preference=None)
    call(preference=cutplan.PlanPreference())
    kernel = cutplan.last_kernels()[0]
    if name != "matmul_backward":  # whose products have kernels of their own
        call(preference=cutplan.PlanPreference(kernel=kernel))
        assert cutplan.last_kernels() == (kernel,)
    for preference, error in (
        (cutplan.PlanPreference(kernel="nonesuch"), "nonesuch"),
        (cutplan.PlanPreference(sm_count=-1), "sm_count"),
    ):
        with pytest.raises(cutplan.Error, match=error):
            call(preference=preference)
    with pytest.raises(TypeError, match="preference: a PlanPreference or None required, got str"):
        call(preference="fast")
    options = {"deterministic": True} if name == "attention_backward" else {"math": "strict"}
    if name != "attention":
        with pytest.raises(cutplan.InvalidProblem, match=f"{next(iter(options))}: not beside preference"):
            call(preference=cutplan.PlanPreference(), **options)
        call(**options)


def test_a_preference_is_part_of_the_key() -> None:
    a = torch.ones(4, 4)
    seen = []
    for preference in (None, cutplan.PlanPreference(), cutplan.PlanPreference(sm_count=1)) * 2:
        cutplan.matmul(a, a, preference=preference)
        seen.append(_core.chosen_plans())
    assert seen[3:] == [seen[2]] * 3


def test_no_scratch_is_asked_of_a_library_that_has_none() -> None:
    from tests.bindings.producers import Producer

    unknown, out = Producer((2, 2)), Producer((2, 2))
    np.frombuffer(unknown.memory, "float32", 4)[:] = 1
    cutplan.matmul(unknown, unknown, out=out, preference=cutplan.PlanPreference(sm_count=1))
    assert (np.frombuffer(out.memory, "float32", 4) == 2).all()
    plan = _plans.of_thread.plans[0]
    assert plan.preference == cutplan.PlanPreference(sm_count=1, max_workspace_bytes=0)


# ---- pickles


def copies(x: Any) -> list[Any]:
    pickled = [pickle.loads(pickle.dumps(x, protocol)) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    return [*pickled, copy.copy(x), copy.deepcopy(x)]


def values() -> list[Any]:
    epilogue = cutplan.Epilogue(bias="m", c=True, residual=True, activation="silu", aux="store")
    forward = cutplan.FmhaDescriptor(
        **{"batch": 2, "heads": 4, "heads_k": 2, "seq_q": 5, "seq_k": 6, "dim": 8, "dim_v": 16},
        **{"dtype": "float16", "o": "float32", "layout": "bshd", "causal": "top_left", "window": (3, 0)},
        **{"softcap": 2.5, "alibi": True, "bias": "float32", "mask": True, "sink": True, "seqused_k": True},
        **{"dropout": True, "lse": True},
    )
    return [
        cutplan.Epilogue(),
        epilogue,
        cutplan.Epilogue(gate="interleaved", row_scale=True),
        cutplan.GemmDescriptor(m=1, n=2, k=3, a="float16"),
        cutplan.GemmDescriptor(
            **{"m": 1, "n": 2, "k": 3, "a": "float16", "d": "float32", "c": "float16", "bias": "float16"},
            **{"residual": "float32", "aux": "float16", "layout": "crc", "batch": 4, "alignment": 2},
            epilogue=epilogue,
        ),
        cutplan.GroupedGemmDescriptor(groups=3, m=1, n=2, k=3, a="bfloat16", over="k", layout="crr"),
        cutplan.GroupedGemmDescriptor(groups=3, m=1, n=2, k=3, a="bfloat16", bias="float32", alignment=4),
        forward,
        cutplan.FmhaDescriptor(heads=1, seq_q=1, seq_k=1, dim=8, dtype="float64", align="top_left"),
        cutplan.FmhaBackwardDescriptor(forward, grad="float32", dbias=True, dalibi_slopes=True, dsink=True),
        cutplan.PlanPreference(),
        cutplan.PlanPreference(
            **{"max_workspace_bytes": 7, "deterministic": True, "batch_invariant": True, "arch": "host"},
            **{"kernel": "some", "sm_count": 3, "math": "strict", "tune": "off"},
        ),
    ]


@pytest.mark.parametrize("value", values(), ids=lambda x: type(x).__name__)
def test_values_pickle_and_print(value: Any) -> None:
    for again in [*copies(value), eval(repr(value), vars(cutplan))]:
        assert again is not value and type(again) is type(value)
        assert again == value and hash(again) == hash(value) and repr(again) == repr(value)
    assert value != "a value" and value != 3
    with pytest.raises(TypeError):
        value < value  # noqa: B015


def test_options_pickle() -> None:
    kinds = [x for x in vars(cutplan).values() if isinstance(x, type) and issubclass(x, enum.Enum)]
    assert len(kinds) >= 9
    for kind in kinds:
        for member in kind:
            assert all(again is member for again in copies(member))


def plans(device: str) -> list[Any]:
    forward = cutplan.FmhaDescriptor(heads=2, seq_q=5, seq_k=6, dim=8, dtype="float16", causal="top_left")
    preference = cutplan.PlanPreference(deterministic=True, sm_count=1)
    return [
        cutplan.GemmPlan.select(cutplan.GemmDescriptor(m=4, n=5, k=6, a="float16"), device, preference),
        cutplan.GroupedGemmPlan.select(
            cutplan.GroupedGemmDescriptor(groups=2, m=4, n=8, k=8, a="float16"), device, preference
        ),
        cutplan.FmhaPlan.select(forward, device, preference),
        cutplan.FmhaBackwardPlan.select(cutplan.FmhaBackwardDescriptor(forward), device, preference),
    ]


def test_plans_pickle(device: str) -> None:
    for plan in plans(device):
        for again in copies(plan):
            assert type(again) is type(plan)
            assert again.sku.name == plan.sku.name and again.workspace_size == plan.workspace_size
            assert (again.descriptor, again.device, again.preference) == (
                plan.descriptor,
                plan.device,
                plan.preference,
            )
        assert plan.preference == cutplan.PlanPreference(deterministic=True, sm_count=1)
    a, d = torch.ones(4, 4, device=device).half(), torch.full((4, 4), torch.nan, device=device).half()
    plan = cutplan.GemmPlan.select(cutplan.describe(a, a, d), device)
    pickle.loads(pickle.dumps(plan)).run(a, a, d)
    assert (d == 4).all()


def test_pickles_of_plans_for_a_device_that_is_not_here() -> None:
    for plan in plans("cpu"):
        descriptor, _, preference = plan.__getstate__()
        elsewhere = type(plan).__new__(type(plan))
        with pytest.raises(cutplan.DeviceError, match="device cuda:99 is not there"):
            elsewhere.__setstate__((descriptor, "cuda:99", preference))
