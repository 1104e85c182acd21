"""How well the cost model of this build picks, judged on measured times, without torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import cutplan
from benchmarks import _report


def device_properties(record: _report.Record) -> cutplan.DeviceProperties:
    fields = ("name", "compute_capability", "sm_count", "shared_memory", "l2_bytes")
    return cutplan.DeviceProperties(**{field: record["device"][field] for field in fields})


def rank(problem: _report.Record, properties: cutplan.DeviceProperties) -> list[cutplan.KernelSku]:
    m, n, k = problem["shape"]
    descriptor = cutplan.GemmDescriptor(m=m, n=n, k=k, a=problem["dtype"], layout=problem["layout"])
    return cutplan.gemm_kernels(descriptor, properties, cutplan.PlanPreference(tune="off"))


@dataclass(frozen=True)
class Verdict:
    """On a group of problems; means are geometric."""

    count: int
    loss: float  # time of the model's choice over the fastest's
    worst: float
    gain: float  # torch's time over that of the choice


def judge(record: _report.Record) -> tuple[dict[str, Verdict], list[str]]:
    """The verdict on each group, and the choices that cannot be judged because they were not measured."""
    properties = device_properties(record)
    groups: dict[str, list[tuple[float, float]]] = {}
    unmeasured = []
    for problem in record["problems"]:
        medians = problem["medians"]
        choice = rank(problem, properties)[0].name
        if choice not in medians:
            unmeasured.append(f"{'x'.join(map(str, problem['shape']))} {choice}")
            continue
        fastest = min(taken for name, taken in medians.items() if name != "torch")
        ratios = medians[choice] / fastest, medians["torch"] / medians[choice]
        m, n, k = problem["shape"]
        is_aligned = all(extent % 64 == 0 for extent in ((k,) if problem["layout"] == "rcr" else (k, n)))
        for group in (
            "all",
            "up to 16 rows" if m <= 16 else "up to 384 rows" if m <= 384 else "more rows",
            "rows of whole lines" if is_aligned else "rows of parts of lines",
            "torch below 20 us" if medians["torch"] < 20 else "torch 20 us or more",
        ):
            groups.setdefault(group, []).append(ratios)

    def mean(values: Sequence[float]) -> float:
        return math.exp(statistics.fmean(map(math.log, values)))

    verdicts = {}
    for group, found in groups.items():
        losses, gains = zip(*found, strict=True)
        verdicts[group] = Verdict(len(found), mean(losses), max(losses), mean(gains))
    return verdicts, unmeasured
