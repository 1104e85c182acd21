"""Figures and tables of attention results, with the standard library alone: they can be read anywhere."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks._report import Record, geometric_mean, median

OURS, DETERMINISTIC = "cutplan", "cutplan deterministic"
FA2, CUDNN, EFFICIENT = "FA2", "cuDNN", "mem-efficient"
PEERS = (FA2, CUDNN, EFFICIENT)


def visible_pairs(entry: Record) -> float:
    """Pairs of query and key that the mask lets through, in one head; causal counts half, as is customary."""
    seq_q, seq_k, mask = entry["seq_q"], entry["seq_k"], entry["mask"]
    if mask == "causal":
        return float(seq_q * seq_k) / 2
    if mask.startswith("window"):
        left = int(mask.split()[1])
        return float(sum(min(left, i + seq_k - seq_q) + 1 for i in range(seq_q)))
    return float(seq_q * seq_k)


def flop(entry: Record) -> float:
    """Two products forward and five backward, of two operations each for each visible pair."""
    products = 2 if entry["pass"] == "forward" else 5
    heads: int = entry["batch"] * entry["heads"]
    dim: int = entry["dim"]
    return products * 2.0 * heads * dim * visible_pairs(entry)


def key_bytes(entry: Record) -> float:
    """K and V, read once."""
    element = {"float32": 4, "float64": 8}.get(entry["dtype"], 2)
    rows: int = entry["batch"] * entry["heads_k"] * entry["seq_k"]
    dim: int = entry["dim"]
    return 2.0 * rows * dim * element


def measured(entry: Record) -> list[Record]:
    return [contender for contender in entry["contenders"] if "microseconds" in contender]


def contender(entry: Record, name: str) -> Record | None:
    """The contender of that name, if it was measured."""
    return next((c for c in measured(entry) if c["name"] == name), None)


def refusal(entry: Record, name: str) -> str | None:
    return next((c["refused"] for c in entry["contenders"] if c["name"] == name and "refused" in c), None)


def ratio(entry: Record, peer: str, ours: str = OURS) -> float | None:
    """The peer's time over ours: above 1 is faster than the peer."""
    mine, theirs = contender(entry, ours), contender(entry, peer)
    return median(theirs) / median(mine) if mine and theirs else None


def rate(entry: Record, one: Record) -> str:
    """TFLOP/s; for one query the rate at which K and V are read, which is what limits it."""
    seconds = median(one) * 1e-6
    if entry["seq_q"] == 1:
        return f"{1e-9 * key_bytes(entry) / seconds:.0f} GB/s"
    gflops = 1e-9 * flop(entry) / seconds
    return f"{gflops / 1000:.0f} TFLOP/s" if gflops >= 10000 else f"{gflops:.1f} GFLOP/s"


def problem(entry: Record) -> str:
    heads = f"{entry['heads']}" + (f"/{entry['heads_k']}" if entry["heads_k"] != entry["heads"] else "")
    length = f"{entry['seq_q']}" + (f"x{entry['seq_k']}" if entry["seq_k"] != entry["seq_q"] else "")
    return f"b{entry['batch']} h{heads} s{length} d{entry['dim']}"


def ratio_text(value: float | None) -> str:
    return f"{value:.3f}" if value is not None else ""


def summary(entries: list[Record]) -> list[str]:
    """For each group of problems a line for each peer: mean and least ratio, and what it would not take."""
    lines = []
    for group in dict.fromkeys(entry["group"] for entry in entries):
        members = [entry for entry in entries if entry["group"] == group]
        for peer in PEERS:
            line = _against(group, members, peer, OURS)
            refused = sum(refusal(entry, peer) is not None for entry in members)
            if line is None and refused:
                line = f"{group}: {peer} takes none of the {refused}"
            elif line is not None and refused:
                line += f"; {peer} refuses {refused} more"
            if line is not None:
                lines.append(line)
        if line := _against(group, members, OURS, DETERMINISTIC):
            lines.append(line)
    return lines


def _against(group: str, members: Iterable[Record], peer: str, ours: str) -> str | None:
    pairs = [(value, entry) for entry in members if (value := ratio(entry, peer, ours)) is not None]
    if not pairs:
        return None
    least, where = min(pairs, key=lambda pair: pair[0])
    mean = geometric_mean(value for value, _ in pairs)
    return (
        f"{group}, {ours}: {mean:.3f} times {'the default' if peer == OURS else peer} in geometric mean of "
        f"{len(pairs)}, at least {least:.3f} ({problem(where)} {where['mask']} {where['dtype']})"
    )


def header() -> list[str]:
    names = [name for peer in PEERS for name in (f"{peer} us", "ratio")]
    return ["group", "problem", "mask", "type", "kernel", "us", "rate", *names]


def row(entry: Record) -> list[str]:
    mine = contender(entry, OURS)
    assert mine is not None
    cells = [
        entry["group"],
        problem(entry),
        entry["mask"],
        entry["dtype"],
        mine["sku"],
        f"{median(mine):.1f}",
        rate(entry, mine),
    ]
    for peer in PEERS:
        theirs = contender(entry, peer)
        cells += [f"{median(theirs):.1f}" if theirs else "none", ratio_text(ratio(entry, peer))]
    return cells


def refusals(entries: list[Record]) -> list[str]:
    """Which peer would not take which problems, and in what words: each reason once."""
    problems: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for peer in PEERS:
            if why := refusal(entry, peer):
                problems.setdefault((peer, why), []).append(
                    f"{entry['group']} {problem(entry)} {entry['mask']}"
                )
    return [f"{peer} refuses {'; '.join(which)}: {why}" for (peer, why), which in problems.items()]


def memory_rows(memory: list[Record]) -> list[list[str]]:
    """Peak memory beyond the operands by length, and by how much it grew since the length before."""
    rows: list[list[str]] = []
    for index, entry in enumerate(memory):
        cells = [str(entry["seq"])]
        for which in entry["peak_bytes"]:
            now = entry["peak_bytes"][which]
            before = memory[index - 1]["peak_bytes"][which] if index else 0
            cells += [f"{now / 2**20:.1f}", f"{now / before:.2f}" if before else ""]
        rows.append(cells)
    return rows
