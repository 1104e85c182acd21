"""The tables of results of whole programs, with the standard library alone: they can be read anywhere."""

from __future__ import annotations

from benchmarks import _report

OURS, THEIRS = "cutplan", "torch"
PLAN = "plan.run"
UNQUANTISED = "bfloat16"


def model_rows(record: _report.Record) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table."""
    table = []
    for entry in record["entries"]:
        time_of = {c["name"]: _report.median(c) for c in entry["contenders"]}
        ours, theirs = time_of[OURS], time_of[THEIRS]
        table.append([entry["problem"], f"{ours / 1e3:.1f}", f"{theirs / 1e3:.1f}", f"{theirs / ours:.2f}"])
    return ["", "cutplan, ms", "torch, ms", "torch over cutplan"], table


def traced_rows(record: _report.Record) -> tuple[list[str], list[list[str]]]:
    table = []
    for entry in record["entries"]:
        time_of = {c["name"]: _report.median(c) for c in entry["contenders"]}
        for name, microseconds in time_of.items():
            table.append(
                [entry["problem"], name, f"{microseconds / 1e3:.3f}", f"{microseconds / time_of[PLAN]:.3f}"]
            )
    return ["program", "", "ms", f"x {PLAN}"], table


def llama_rows(record: _report.Record) -> tuple[list[str], list[list[str]]]:
    """A row for each format: tokens a second, and times those of the model that is not quantised."""
    table = []
    for made in record["formats"]:
        cells = [made["name"], f"{made['bytes'] / 1e9:.2f}", f"{made['error']:.4f}"]
        for entry in record["entries"]:
            contender = _report.find(entry, made["name"])
            cells.append(_tokens_a_second(entry, contender) if contender else "-")
        table.append(cells)
    return ["", "weights, GB", "error of logits", *(e["problem"] for e in record["entries"])], table


def _tokens_a_second(entry: _report.Record, contender: _report.Record) -> str:
    rate = f"{1e6 * entry['tokens'] / _report.median(contender):.0f}"
    speed = _report.ratio(entry, contender, UNQUANTISED)
    return f"{rate}, {speed:.2f}" if speed else rate
