"""What a result is: the machine, every sample, and the figures and tables that are read off them.

Needs the standard library alone, except machine(), so that committed results can be read anywhere.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Record = dict[str, Any]

_SMI_FIELDS = (
    "driver_version",
    "pstate",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.draw",
    "power.limit",
    "temperature.gpu",
)


def nvidia_smi(uuid: str) -> dict[str, str] | None:
    """Clocks, power and temperature of one GPU; None where there is no nvidia-smi that answers."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_SMI_FIELDS)}", "--format=csv,noheader", f"--id={uuid}"]
    try:
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"clocks and power are not recorded: {error}", file=sys.stderr)
        return None
    return dict(zip(_SMI_FIELDS, (field.strip() for field in answer.split(",")), strict=True))


def gpu_uuid(device: str) -> str:
    import torch

    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def machine(device: str) -> Record:
    """Everything that a time depends on and that can be asked for."""
    import torch

    import cutplan

    properties = cutplan.device_properties(device)
    facts: Record = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device": {
            "name": properties.name,
            "compute_capability": properties.compute_capability,
            "sm_count": properties.sm_count,
            "l2_bytes": properties.l2_bytes,
        },
        "versions": {
            "cutplan": cutplan.version(),
            "architectures": list(cutplan.built_architectures()),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
    }
    if device != "cpu":
        facts["nvidia_smi"] = nvidia_smi(gpu_uuid(device))
    return facts


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command that repeats a run; where its result was written is left out."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument.startswith("--json="):
            skip = False
        elif argument == "--json":
            skip = True
        else:
            kept.append(argument)
    return shlex.join(["python", "-m", module, *kept])


def begin(
    name: str,
    arguments: Sequence[str],
    device: str,
    *,
    seed: int,
    rounds: int,
    warm_up_rounds: int,
    flush_bytes: int,
) -> Record:
    """A new record of the benchmark of that name; prints a line that says what it was made with."""
    record: Record = {
        "benchmark": name,
        "command": command_line(f"benchmarks.{name}", arguments),
        **machine(device),
        "seed": seed,
        "rounds": rounds,
        "warm_up_rounds": warm_up_rounds,
        "flush_bytes": flush_bytes,
    }
    versions = record["versions"]
    print(
        f"{record['device']['name']}, torch {versions['torch']}, CUDA {versions['cuda']}, "
        f"cutplan {versions['cutplan']}, seed {seed}; medians of {rounds}"
    )
    return record


def finish(
    record: Record, device: str, start: float, path: pathlib.Path | None, report: Callable[[Record], None]
) -> None:
    """Completes a record begun at `start` (time.perf_counter), prints it, and writes it to `path`."""
    if device != "cpu":
        record["nvidia_smi_after"] = nvidia_smi(gpu_uuid(device))
    record["seconds"] = round(time.perf_counter() - start, 1)
    report(record)
    print(f"{record['seconds']} s in all")
    if path:
        write(path, record)


def arguments_of(name: str) -> argparse.ArgumentParser:
    """What every benchmark that keeps a record takes."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--device", help="default: the first GPU")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="small problems, few rounds: whether it runs")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def choose_device(parser: argparse.ArgumentParser, wanted: str | None) -> str:
    """`wanted`, or the first GPU; exits with the reason where neither is there."""
    import torch

    import cutplan

    device = wanted or "cuda:0"
    if device == "cpu":
        return device
    if cutplan.cuda_device_count() == 0:
        parser.error(f"no GPU: {cutplan.cuda_unavailable_reason()}; --device cpu measures the host backend")
    if not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} sees no GPU; --device cpu measures the host backend")
    index = torch.device(device).index or 0
    torch.cuda.set_device(index)
    return f"cuda:{index}"


def write(path: pathlib.Path, record: Record) -> None:
    """JSON with one line for each list of samples."""
    text = json.dumps(record, indent=1)
    text = re.sub(r"\[[-\d.,\s]+\]", lambda samples: " ".join(samples.group().split()), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    print(f"\nevery sample is in {path}")


def median(contender: Record) -> float:
    samples: list[float] = contender["microseconds"]
    return statistics.median(samples)


def find(entry: Record, name: str) -> Record | None:
    """The contender of that name in one entry of a GEMM record, if it was measured."""
    return next((c for c in entry["contenders"] if c["name"] == name and "microseconds" in c), None)


def is_peer(name: str) -> bool:
    return not name.startswith("cutplan")


def refusals(entries: Iterable[Record]) -> list[str]:
    """Which contender would not take which problems, and why: each reason once."""
    problems: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        for c in entry["contenders"]:
            if "refused" in c:
                problems.setdefault((c["name"], c["refused"]), []).append(
                    f"{entry['group']} {extents(entry)}"
                )
    return [f"{name} refuses {'; '.join(which)}: {why}" for (name, why), which in problems.items()]


def ratio(entry: Record, contender: Record, peer: str = "torch") -> float | None:
    """Speed relative to a peer of the same entry: above 1 is faster than it."""
    measured = find(entry, peer)
    return median(measured) / median(contender) if measured else None


def weight_bandwidth(entry: Record, contender: Record) -> float:
    """GB/s at which B is read, once."""
    weights: float | None = contender.get("bytes_of_b")  # with its scales
    if weights is None:
        element = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}[entry["dtype"]]
        weights = entry["k"] * entry["n"] * element
    return 1e-3 * weights / median(contender)


def rate(entry: Record, contender: Record, copy_bandwidth: float | None = None) -> str:
    """TFLOP/s; for few rows the rate at which B is read, which is what limits them, and its share of the
    rate at which the device copies."""
    if entry["m"] <= 16:
        bandwidth = weight_bandwidth(entry, contender)
        share = f" ({100 * bandwidth / copy_bandwidth:.0f} %)" if copy_bandwidth else ""
        return f"{bandwidth:.0f} GB/s{share}"
    products = entry.get("products", 1)  # that are computed at once
    gflops = 2e-3 * products * entry["m"] * entry["n"] * entry["k"] / median(contender)
    return f"{gflops / 1000:.0f} TFLOP/s" if gflops >= 10000 else f"{gflops:.0f} GFLOP/s"


def copy_bandwidth(record: Record) -> float | None:
    """GB/s, read and written, of the copy that a GEMM record holds."""
    copied = record.get("copy")
    return 2e-3 * copied["bytes"] / median(copied) if copied else None


def extents(entry: Record) -> str:
    return f"{entry['m']}x{entry['n']}x{entry['k']}"


def types(entry: Record) -> str:
    """The operands' type, how float32 is multiplied, and D's type where it differs."""
    operand = f"{entry['dtype']} ({entry['math']})" if entry.get("math") else entry["dtype"]
    return operand if entry["dtype"] == entry["d"] else f"{operand} -> {entry['d']}"


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def summary(entries: list[Record]) -> list[str]:
    """One line for each group of problems, kind of kernel and peer: mean and least ratio."""
    lines = []
    for group in dict.fromkeys(entry["group"] for entry in entries):
        members = [entry for entry in entries if entry["group"] == group]
        names = list(dict.fromkeys(c["name"] for entry in members for c in entry["contenders"]))
        for name in names:
            for peer in names if not is_peer(name) else ():
                if is_peer(peer) and (line := against(group, members, name, peer)):
                    lines.append(line)
    return lines


def against(group: str, members: Iterable[Record], name: str, peer: str) -> str | None:
    ratios = [
        (speed, entry)
        for entry in members
        if (contender := find(entry, name)) and (speed := ratio(entry, contender, peer))
    ]
    if not ratios:
        return None
    least, where = min(ratios, key=lambda pair: pair[0])
    mean = geometric_mean(speed for speed, _ in ratios)
    return (
        f"{group}, {name}: {mean:.3f} times {peer} in geometric mean of {len(ratios)}, at least "
        f"{least:.3f} ({extents(where)} {where['layout']} {types(where)})"
    )


def bandwidth_summary(entries: list[Record], copy_bandwidth: float | None) -> list[str]:
    """The least share of copy bandwidth at which weights of 128 MiB and more are read for few rows, when
    nothing is left in L2 to be written back meanwhile."""
    if not copy_bandwidth:
        return []
    lines = []
    few = [e for e in entries if e.get("flush") == "read" and e["m"] <= 16 and min(e["n"], e["k"]) >= 8192]
    for name in dict.fromkeys(c["name"] for e in few for c in e["contenders"] if "microseconds" in c):
        shares = [
            (weight_bandwidth(e, c) / copy_bandwidth, e) for e in few if (c := find(e, name)) is not None
        ]
        least, where = min(shares, key=lambda pair: pair[0])
        lines.append(
            f"M to 16, N and K from 8192, {name}: at least {100 * least:.0f} % of copy bandwidth "
            f"({extents(where)} {where['layout']} {types(where)})"
        )
    return lines


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; what starts with a digit is aligned to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = (
            cell.rjust(width) if cell.lstrip("-")[:1].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())
