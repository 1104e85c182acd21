"""What is printed of quantised products and packed weights: a table of all times, a line for each group."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import _report

FEW = 64  # rows, up to which reading b is what takes time
HEADER = ("group", "M x N x K", "", "us", "rate", "its time / ours", "kernel or call")


def _rate(entry: _report.Record, contender: _report.Record, copy_bandwidth: float | None) -> str:
    if entry["m"] > FEW or "bytes_of_b" not in contender:
        gflops = 2e-3 * entry["m"] * entry["n"] * entry["k"] / _report.median(contender)
        return f"{gflops / 1000:.0f} TFLOP/s" if gflops >= 10000 else f"{gflops:.0f} GFLOP/s"
    bandwidth = 1e-3 * contender["bytes_of_b"] / _report.median(contender)
    share = f" ({100 * bandwidth / copy_bandwidth:.0f} %)" if copy_bandwidth else ""
    return f"{bandwidth:.0f} GB/s{share}"


def _rows_of(entry: _report.Record, copy_bandwidth: float | None) -> list[list[str]]:
    ours = _report.find(entry, "cutplan")
    rows = []
    for contender in entry["contenders"]:
        if "microseconds" not in contender:
            continue
        speed = _report.ratio(entry, ours, contender["name"]) if ours else None
        rows.append(
            [
                entry["group"],
                _report.extents(entry),
                contender["name"],
                f"{_report.median(contender):.1f}",
                _rate(entry, contender, copy_bandwidth),
                f"{speed:.3f}" if speed else "",
                contender.get("sku", contender.get("call", "")).removeprefix("gemm."),
            ]
        )
    return rows


def means(entries: Sequence[_report.Record]) -> list[str]:
    """Of each group: "cutplan" against everyone else, and its fast kernels against the fast peer."""
    lines = []
    for group in dict.fromkeys(entry["group"] for entry in entries):
        members = [entry for entry in entries if entry["group"] == group]
        names = dict.fromkeys(c["name"] for entry in members for c in entry["contenders"])
        pairs = [("cutplan", name) for name in names if name != "cutplan"]
        pairs += [("cutplan fast", "torch fast")] if "cutplan fast" in names else []
        lines += [
            line
            for ours, other in pairs
            if (line := _report.against(group, members, ours, other)) is not None
        ]
    return lines


def rows(record: _report.Record) -> tuple[Sequence[str], list[list[str]]]:
    """The table's header, and its rows."""
    bandwidth = _report.copy_bandwidth(record)
    return HEADER, [row for entry in record["entries"] for row in _rows_of(entry, bandwidth)]
