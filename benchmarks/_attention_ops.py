"""The table of results around attention, with the standard library alone: it can be read anywhere."""

from __future__ import annotations

from benchmarks import _report

OURS, COPY, LAUNCH, EAGER, COMPILED = "cutplan", "copy", "launch", "torch", "torch.compile"


def rows(record: _report.Record) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of a table."""
    header = [
        "op",
        "problem",
        "MiB",
        "us",
        "GB/s",
        "x copy",
        "x torch",
        "x torch.compile",
        "us beyond a launch",
    ]
    table = []
    for entry in record["entries"]:
        time_of = {c["name"]: _report.median(c) for c in entry["contenders"]}
        ours = time_of[OURS]
        table.append(
            [
                entry["group"], entry["shape"], f"{entry['bytes'] / 2**20:.1f}", f"{ours:.1f}",
                f"{1e-3 * entry['bytes'] / ours:.0f}", f"{time_of[COPY] / ours:.3f}",
                *(f"{time_of[name] / ours:.2f}" if name in time_of else "-" for name in (EAGER, COMPILED)),
                f"{ours - time_of[LAUNCH]:.1f}" if LAUNCH in time_of else "-",
            ]
        )  # fmt: skip
    return header, table
