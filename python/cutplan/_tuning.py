"""``cutplan tune`` and ``cutplan bench``: measuring kernels, and looking after what was measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import pathlib
import re
import sys
from typing import TYPE_CHECKING, Protocol

from . import _attention_bench, _core

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Progress = Callable[[int, int], object]

_HEADER = """\
// What was measured on devices that cutplan knows: the lowest layer of the tuning table, which corrects the
// cost model there. Written by `python -m cutplan tune --export cpp/src/gemm/measured.hpp`, on the device.
#pragma once

namespace cutplan::gemm {{

inline constexpr char measured_table[] = R"table({table})table";

}}  // namespace cutplan::gemm
"""


class _Bar(Protocol):
    def begin(self, what: str) -> Progress: ...


def _extents(text: str) -> list[int]:
    """ "1,2,4" -> [1, 2, 4]"""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"one or more positive integers with commas between, got {text!r}")
    return values


def _names(text: str) -> list[str]:
    return text.split(",")


def _dtypes(served: Iterable[_core.DType]) -> Callable[[str], list[str]]:
    """Reads names of these element types."""
    names = list(dict.fromkeys(map(str, served)))

    def read(text: str) -> list[str]:
        for name in _names(text):
            if name not in names:
                raise argparse.ArgumentTypeError(f"one or more of {', '.join(names)} required, got {name!r}")
        return _names(text)

    return read


def _as_typed(error: Exception) -> str:
    """What is wrong with an option, by the option's name: errors begin with the name of an argument."""
    return re.sub(r"^\w+(?=: )", lambda name: "--" + name[0].replace("_", "-"), str(error))


def _add_problem_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("problems", "commas part several values; every combination is taken")
    for extent in ("m", "n", "k"):
        group.add_argument(f"--{extent}", type=_extents, metavar="INT,...", help=f"extent {extent.upper()}")
    group.add_argument("--batch", type=_extents, default=[1], metavar="INT,...", help="default: 1")
    group.add_argument(
        "--dtype",
        type=_dtypes(row.operand for row in _core.gemm_support()),
        default=["bfloat16"],
        metavar="NAME,...",
        help="of A and B; default: bfloat16",
    )
    group.add_argument(
        "--d",
        choices=list(dict.fromkeys(str(d) for row in _core.gemm_support() for d in row.d)),
        metavar="NAME",
        help="type of D; default: that of A",
    )
    group.add_argument(
        "--layout", type=_names, default=["rcr"], metavar="NAME,...", help="of A, B and D; default: rcr"
    )
    group.add_argument("--bias", choices=["n", "m"], help="one value per column (n) or row (m) of D")
    group.add_argument("--activation", default="none", metavar="NAME", help="default: none")
    group.add_argument("--gate", choices=["separate", "interleaved"])
    group.add_argument("--alignment", type=int, help="bytes; default: what contiguous operands have")
    group.add_argument("--math", default="tf32x3", metavar="NAME", help="for float32; default: tf32x3")
    group.add_argument("--sm-count", type=int, default=0, metavar="INT", help="to use; default: all")
    _add_device_argument(parser)


def _add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help='"cpu" or "cuda:0"; default: the first GPU, else the host')


def _add_attention_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("problems", "commas part several values; every combination is taken")
    group.add_argument("--batch", type=_extents, default=[1], metavar="INT,...", help="default: 1")
    group.add_argument("--heads", type=_extents, default=[16], metavar="INT,...", help="of Q; default: 16")
    group.add_argument("--heads-k", type=int, metavar="INT", help="of K and V; default: as many as of Q")
    group.add_argument("--seq", type=_extents, required=True, metavar="INT,...", help="queries")
    group.add_argument("--seq-k", type=_extents, metavar="INT,...", help="keys; default: as many as queries")
    group.add_argument(
        "--dim", type=_extents, default=[128], metavar="INT,...", help="of a head; default: 128"
    )
    group.add_argument(
        "--dtype",
        type=_dtypes(row.operand for row in _core.fmha_support()),
        default=["bfloat16"],
        metavar="NAME,...",
        help="default: bfloat16",
    )
    group.add_argument("--causal", metavar="NAME", help="top_left or bottom_right")
    group.add_argument("--window", type=int, metavar="INT", help="keys before a query that it sees")
    group.add_argument("--backward", action="store_true", help="the gradients instead")
    _add_device_argument(parser)


def add_arguments(tune: argparse.ArgumentParser, bench: argparse.ArgumentParser) -> None:
    """The options of both subcommands."""
    tune.add_argument("family", nargs="?", choices=["gemm"], help="measure kernels for the problems given")
    _add_problem_arguments(tune)
    group = tune.add_argument_group("what was measured")
    group.add_argument("--show", action="store_true", help="print it, for the devices of this machine")
    group.add_argument("--all", action="store_true", help="with --show: for every device")
    group.add_argument(
        "--export",
        type=pathlib.Path,
        metavar="FILE",
        help="write it as a table, or as FILE.hpp",
    )
    group.add_argument(
        "--import",
        type=pathlib.Path,
        metavar="FILE",
        dest="import_",
        help="keep the entries of a table",
    )
    group.add_argument("--clear", action="store_true", help="forget it, and what was imported")
    families = bench.add_subparsers(dest="family", required=True, metavar="family")
    for family, what in (("gemm", "matrix multiplication"), ("attention", "attention")):
        parser = families.add_parser(family, help=what, description=f"Times every kernel for {what}.")
        if family == "gemm":
            _add_problem_arguments(parser)
        else:
            _add_attention_arguments(parser)
        parser.add_argument("--candidates", type=int, default=0, metavar="INT", help="default: all")


def _problems(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> tuple[list[_core.GemmDescriptor], _core.PlanPreference]:
    missing = [f"--{extent}" for extent in ("m", "n", "k") if getattr(options, extent) is None]
    if missing:
        parser.error(f"{options.family}: {', '.join(missing)} required")
    try:
        epilogue = _core.Epilogue(
            bias=options.bias or False, activation=options.activation, gate=options.gate
        )
        descriptors = [
            _core.GemmDescriptor(
                m=m,
                n=n,
                k=k,
                batch=batch,
                a=dtype,
                d=options.d,
                layout=layout,
                epilogue=epilogue,
                alignment=options.alignment,
            )
            for dtype, layout, batch, n, k, m in itertools.product(
                options.dtype, options.layout, options.batch, options.n, options.k, options.m
            )
        ]
        preference = _core.PlanPreference(math=options.math, sm_count=options.sm_count)
        for g in descriptors:
            with contextlib.suppress(_core.Unsupported):  # is said of its problem
                _core.GemmPlan.select(g, _device(options), preference)
    except (TypeError, ValueError) as error:
        parser.error(_as_typed(error))
    return descriptors, preference


def _device(options: argparse.Namespace) -> str:
    return options.device or ("cuda:0" if _core.cuda_device_count() > 0 else "cpu")


def summary(g: _core.GemmDescriptor) -> str:
    """One line for people."""
    text = f"{g.m} x {g.n} x {g.k} {g.a} -> {g.d} {g.layout}"
    if g.batch != 1:
        text += f", batch {g.batch}"
    if g.epilogue.bias is not None:
        text += f", bias over {g.epilogue.bias}"
    if str(g.epilogue.activation) != "none":
        text += f", {g.epilogue.activation}"
    if g.epilogue.gate is not None:
        text += f", {g.epilogue.gate} gate"
    return text


@contextlib.contextmanager
def _bar(problems: int) -> Iterator[_Bar]:
    """tqdm's where it is installed; a line for each problem where it is not."""
    if importlib.util.find_spec("tqdm") is None:
        yield _Lines(problems)
        return
    from tqdm import tqdm

    with tqdm(total=problems, bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}") as bar:
        yield _Tqdm(bar)


class _Lines:
    def __init__(self, problems: int) -> None:
        self._problems, self._begun = problems, 0

    def begin(self, what: str) -> Progress:
        self._begun += 1
        print(f"[{self._begun}/{self._problems}] {what}", file=sys.stderr, flush=True)
        return lambda done, total: None


class _TqdmBar(Protocol):
    n: float

    def set_postfix_str(self, s: str) -> object: ...
    def refresh(self) -> object: ...


class _Tqdm:
    def __init__(self, bar: _TqdmBar) -> None:
        self._bar, self._begun = bar, 0

    def begin(self, what: str) -> Progress:
        before = self._begun
        self._begun += 1
        self._bar.set_postfix_str(what)

        def progress(done: int, total: int) -> None:
            self._bar.n = before + done / total
            self._bar.refresh()

        return progress


def _flop(g: _core.GemmDescriptor) -> float:
    columns = g.n * (2 if g.epilogue.gate is not None else 1)
    return 2.0 * g.batch * g.m * columns * g.k


def _bytes(g: _core.GemmDescriptor) -> float:
    """Of A, B and D, each moved once."""
    columns = g.n * (2 if g.epilogue.gate is not None else 1)
    return g.batch * (g.m * g.k * g.a.bits + g.k * columns * g.b.bits + g.m * g.n * g.d.bits) / 8


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _attention_problems(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> list[_attention_bench.Descriptor]:
    problems = itertools.product(
        options.dtype, options.dim, options.heads, options.batch, options.seq, options.seq_k or [None]
    )
    try:
        forwards = [
            _core.FmhaDescriptor(
                batch=batch,
                heads=heads,
                heads_k=options.heads_k,
                seq_q=seq,
                seq_k=seq_k or seq,
                dim=dim,
                dtype=dtype,
                causal=options.causal,
                window=(-1, -1) if options.window is None else (options.window, 0),
                lse=options.backward,
            )
            for dtype, dim, heads, batch, seq, seq_k in problems
        ]
        for g in forwards:
            with contextlib.suppress(_core.Unsupported):  # is said of its problem
                _core.FmhaPlan.select(g, _device(options))
        return [_core.FmhaBackwardDescriptor(g) for g in forwards] if options.backward else list(forwards)
    except (TypeError, ValueError) as error:
        parser.error(_as_typed(error))


_Row = tuple[str, float, float | None]  # name, seconds, what the cost model predicted
_Bench = tuple[str, "Callable[[], Sequence[_Row]]", float, float]  # summary, measuring, flop, bytes


def _gemm_benches(
    parser: argparse.ArgumentParser, options: argparse.Namespace, device: str
) -> Iterator[_Bench]:
    descriptors, preference = _problems(parser, options)
    for g in descriptors:

        def measure(g: _core.GemmDescriptor = g) -> list[_Row]:
            measured = _core.measure_gemm(g, device, preference, candidates=options.candidates)
            return [(entry.sku.name, entry.seconds, entry.predicted_seconds) for entry in measured]

        yield summary(g), measure, _flop(g), _bytes(g)


def _attention_benches(
    parser: argparse.ArgumentParser, options: argparse.Namespace, device: str
) -> Iterator[_Bench]:
    for g in _attention_problems(parser, options):

        def measure(g: _attention_bench.Descriptor = g) -> list[_Row]:
            measured = _attention_bench.measure(g, device, options.candidates)
            return [(entry.sku.name, entry.seconds, None) for entry in measured]

        yield _attention_bench.summary(g), measure, _attention_bench.flop(g), _attention_bench.moved_bytes(g)


def bench(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Prints a table for each problem; 1 where one of them has no kernel."""
    device, refused = _device(options), 0
    benches = _gemm_benches if options.family == "gemm" else _attention_benches
    for what, measure, flop, moved in benches(parser, options, device):
        print(f"{what} on {device}")
        try:
            measured = measure()
        except _core.Unsupported as error:
            print(f"  none: {error}")
            refused += 1
            continue
        predicts = options.family == "gemm"  # attention's cost model is not asked for times
        rows = [("kernel", "us", "TFLOP/s", "GB/s", *(["predicted us"] if predicts else []))]
        for name, seconds, predicted in measured:
            rows.append(
                (
                    name,
                    _microseconds(seconds),
                    f"{flop / seconds * 1e-12:.3g}",
                    f"{moved / seconds * 1e-9:.4g}",
                    *(["-" if predicted is None else _microseconds(predicted)] if predicts else []),
                )
            )
        print("\n".join(f"  {line}" for line in _table(rows)))
    return 1 if refused else 0


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    descriptors, preference = _problems(parser, options)
    device = _device(options)
    modelled = _core.PlanPreference(math=options.math, sm_count=options.sm_count, tune="off")
    lines, refused = [], 0
    with _bar(len(descriptors)) as bar:
        for g in descriptors:
            progress = bar.begin(summary(g))
            try:
                measured = _core.tune_gemm(g, device, preference, progress=progress)
            except _core.Unsupported as error:
                lines.append(f"{summary(g)}\n  none: {error}")
                refused += 1
                continue
            best = measured[0]
            model = _core.GemmPlan.select(g, device, modelled).sku.name
            seconds = next(entry.seconds for entry in measured if entry.sku.name == model)
            gain = (
                "the cost model's choice"
                if best.sku.name == model
                else f"{seconds / best.seconds:.3f} times as fast as {model}"
            )
            lines.append(f"{summary(g)}\n  {best.sku} {_microseconds(best.seconds)} us, {gain}")
    print("\n".join(lines))
    return 1 if refused else 0


def _devices() -> set[tuple[str, int]]:
    """Name and compute capability of what this machine has."""
    names = ["cpu", *(f"cuda:{i}" for i in range(_core.cuda_device_count()))]
    found = [_core.device_properties(name) for name in names]
    return {(properties.name, properties.compute_capability) for properties in found}


def _show(everything: bool) -> None:
    cache = _core.tuning_cache()
    print(f"folder: {cache.folder or 'none'}")
    for problem in cache.problems:
        print(f"problem: {problem}")
    if all(entry.source == "shipped" for entry in cache.entries):
        print("nothing was measured or imported")
    here, left_out = _devices(), 0
    for device, group in itertools.groupby(cache.entries, key=lambda e: (e.device, e.compute_capability)):
        if not everything and device not in here:
            left_out += len(list(group))
            continue
        print(f"\n{device[0]}, compute capability {device[1] / 10:.1f}")
        for entry in group:
            print(
                f"  {entry.problem}\n    {entry.kernel} {_microseconds(entry.seconds)} us, "
                f"the cost model's choice {_microseconds(entry.model_seconds)} us ({entry.source})"
            )
    if left_out:
        print(f"\n{left_out} entries of devices that are not here: --show --all")


def tune(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """What the options ask for, in the order clear, import, measure, export, show."""
    if options.all and not options.show:
        parser.error("--all goes with --show")
    if not (options.family or options.show or options.clear or options.export or options.import_):
        parser.error("a family to measure, --show, --export, --import or --clear required")
    status = 0
    if options.clear:
        _core.clear_tuning()
    if options.import_ is not None:
        try:
            count = _core.import_tuning(options.import_.read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--import {options.import_}: {error}")
        print(f"{count} entries imported")
    if options.family is not None:
        status = _measure(parser, options)
    if options.export is not None:
        table = _core.export_tuning()
        as_header = options.export.suffix == ".hpp"
        options.export.write_text(_HEADER.format(table=table) if as_header else table)
    if options.show:
        _show(options.all)
    return status
