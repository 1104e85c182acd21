"""How well the cost model of this build picks, judged on measured times, without torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import cutplan
from benchmarks import _report


def device_properties(record: _report.Record) -> cutplan.DeviceProperties:
    fields = ("name", "compute_capability", "sm_count", "shared_memory", "l2_bytes")
    return cutplan.DeviceProperties(**{field: record["device"][field] for field in fields})


Attention = cutplan.FmhaDescriptor | cutplan.FmhaBackwardDescriptor


def attention(problem: _report.Record) -> Attention:
    """The descriptor of a recorded attention problem."""
    backward = problem["backward"]
    forward = cutplan.FmhaDescriptor(**problem["attention"], lse=backward)
    return cutplan.FmhaBackwardDescriptor(forward) if backward else forward


def rank(
    problem: _report.Record, properties: cutplan.DeviceProperties, batch_invariant: bool = False
) -> list[cutplan.KernelSku]:
    preference = cutplan.PlanPreference(tune="off", batch_invariant=batch_invariant)
    if "attention" in problem:
        g = attention(problem)
        # Each overload takes one of the two classes.
        if isinstance(g, cutplan.FmhaDescriptor):
            return cutplan.fmha_kernels(g, properties, preference)
        return cutplan.fmha_kernels(g, properties, preference)
    m, n, k = problem["shape"]
    descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a=problem["dtype"], layout=problem["layout"])
    return cutplan.gemm_kernels(descriptor, properties, preference)


def summary(problem: _report.Record) -> str:
    """One line."""
    if "attention" in problem:
        return " ".join(f"{x}={y}" for x, y in problem["attention"].items())
    return "x".join(map(str, problem["shape"]))


def groups_of(problem: _report.Record, picked: cutplan.KernelSku) -> list[str]:
    if "attention" in problem:
        few = problem["attention"]["seq_q"] <= 16
        return ["all", "backward" if problem["backward"] else "few queries" if few else "forward"]
    m, n, k = problem["shape"]
    is_aligned = all(extent % 64 == 0 for extent in ((k,) if problem["layout"] == "rcr" else (k, n)))
    return [
        "all",
        "K is not split" if picked.split_k == 1 else "K is split",
        "up to 16 rows" if m <= 16 else "up to 384 rows" if m <= 384 else "more rows",
        "rows of whole lines" if is_aligned else "rows of parts of lines",
        "torch below 20 us" if problem["medians"]["torch"] < 20 else "torch 20 us or more",
    ]


@dataclass(frozen=True)
class Verdict:
    """On a group of problems; means are geometric."""

    count: int
    loss: float  # time of the model's choice over the fastest's
    worst: float
    gain: float | None  # torch's time over that of the choice; None where torch was not timed
    invariant: float | None  # the choice's time over that with batch_invariant; None where that was not timed


def judge(record: _report.Record) -> tuple[dict[str, Verdict], list[str]]:
    """The verdict on each group, and the choices that cannot be judged because they were not measured."""
    properties = device_properties(record)
    losses: dict[str, list[float]] = {}
    gains: dict[str, list[float]] = {}
    kept: dict[str, list[float]] = {}
    unmeasured = []
    for problem in record["problems"]:
        medians = problem["medians"]
        picked = rank(problem, properties)[0]
        choice = picked.name
        invariant = rank(problem, properties, batch_invariant=True)[0].name
        if choice not in medians:
            unmeasured.append(f"{summary(problem)} {choice}")
            continue
        fastest = min(taken for name, taken in medians.items() if name != "torch")
        for group in groups_of(problem, picked):
            losses.setdefault(group, []).append(medians[choice] / fastest)
            if "torch" in medians:
                gains.setdefault(group, []).append(medians["torch"] / medians[choice])
            if invariant in medians:
                kept.setdefault(group, []).append(medians[choice] / medians[invariant])

    def mean(values: Sequence[float] | None) -> float | None:
        return statistics.geometric_mean(values) if values else None

    verdicts = {
        group: Verdict(
            len(found),
            statistics.geometric_mean(found),
            max(found),
            mean(gains.get(group)),
            mean(kept.get(group)),
        )
        for group, found in losses.items()
    }
    return verdicts, unmeasured
