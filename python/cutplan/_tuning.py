"""``cutplan tune`` and ``cutplan bench``: measuring kernels, and looking after what was measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import pathlib
import re
import sys
from typing import TYPE_CHECKING, Any, Protocol

from . import _core, _problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Progress = Callable[[int, int], object]

_HEADER = """\
// What was measured on devices that cutplan knows: the lowest layer of the tuning table, which corrects the
// cost model there. Written by `python -m cutplan tune --export`: docs/tuning.md says how.
#pragma once

namespace cutplan {{

inline constexpr char measured_table[] = R"table({table})table";

}}  // namespace cutplan
"""

_ORDER = (
    "--clear comes after --export and --show, which save or print what it forgets, and before --import, "
    "whose table then takes its place, or a family, which is measured anew. Without --clear, --export and "
    "--show come last."
)

_TUNE: dict[str, Callable[..., list[_core.KernelMeasurement]]] = {
    "gemm": _core.tune_gemm,
    "attention": _core.tune_fmha,
}
_MEASURE: dict[str, Callable[..., list[_core.KernelMeasurement]]] = {
    "gemm": _core.measure_gemm,
    "attention": _core.measure_fmha,
}
_SELECT: dict[type, Callable[..., Any]] = {
    _core.GemmDescriptor: _core.GemmPlan.select,
    _core.FmhaDescriptor: _core.FmhaPlan.select,
    _core.FmhaBackwardDescriptor: _core.FmhaBackwardPlan.select,
}


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


def _count(text: str) -> int:
    """ "8" -> 8"""
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a positive integer, got {text!r}")
    return int(text)


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
    _add_preference_arguments(parser)


def _add_preference_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("preferences")
    group.add_argument("--math", default="tf32x3", metavar="NAME", help="for float32; default: tf32x3")
    group.add_argument("--sm-count", type=int, default=0, metavar="INT", help="to use; default: all")
    group.add_argument("--deterministic", action="store_true", help="the same bits for the same inputs")
    group.add_argument("--batch-invariant", action="store_true", help="and whatever is computed beside a row")
    group.add_argument("--device", help='"cpu" or "cuda:0"; default: the first GPU, else the host')


def _add_attention_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("problems", "commas part several values; every combination is taken")
    group.add_argument("--batch", type=_extents, default=[1], metavar="INT,...", help="default: 1")
    group.add_argument("--heads", type=_extents, default=[16], metavar="INT,...", help="of Q; default: 16")
    group.add_argument("--heads-k", type=_count, metavar="INT", help="of K and V; default: as many as of Q")
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
    _add_preference_arguments(parser)


def add_arguments(tune: argparse.ArgumentParser, bench: argparse.ArgumentParser) -> None:
    """The options of both subcommands."""
    group = tune.add_argument_group("what was measured", _ORDER)
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
    for command, required, what in (
        (tune, False, "Measures kernels for {}, and keeps the fastest."),
        (bench, True, "Times every kernel for {}."),
    ):
        families = command.add_subparsers(dest="family", required=required, metavar="family")
        for family, words in (("gemm", "matrix multiplication"), ("attention", "attention")):
            parser = families.add_parser(family, help=words, description=what.format(words))
            (_add_problem_arguments if family == "gemm" else _add_attention_arguments)(parser)
            if command is bench:
                parser.add_argument("--candidates", type=int, default=0, metavar="INT", help="default: all")


def _gemm_problems(options: argparse.Namespace) -> list[_problems.Descriptor]:
    epilogue = _core.Epilogue(bias=options.bias or False, activation=options.activation, gate=options.gate)
    return [
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


def _attention_problems(options: argparse.Namespace) -> list[_problems.Descriptor]:
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
        for dtype, dim, heads, batch, seq, seq_k in itertools.product(
            options.dtype, options.dim, options.heads, options.batch, options.seq, options.seq_k or [None]
        )
    ]
    return [_core.FmhaBackwardDescriptor(g) for g in forwards] if options.backward else list(forwards)


def _select(g: _problems.Descriptor, device: str, preference: _core.PlanPreference) -> _core.KernelSku:
    sku: _core.KernelSku = _SELECT[type(g)](g, device, preference).sku
    return sku


def _asked(
    parser: argparse.ArgumentParser, options: argparse.Namespace
) -> tuple[list[_problems.Descriptor], _core.PlanPreference]:
    """The problems, each with its options checked."""
    missing = [f"--{x}" for x in ("m", "n", "k") if options.family == "gemm" and getattr(options, x) is None]
    if missing:
        parser.error(f"{options.family}: {', '.join(missing)} required")
    try:
        descriptors = (_gemm_problems if options.family == "gemm" else _attention_problems)(options)
        preference = _core.PlanPreference(
            math=options.math,
            sm_count=options.sm_count,
            deterministic=options.deterministic,
            batch_invariant=options.batch_invariant,
        )
        for g in descriptors:
            with contextlib.suppress(_core.Unsupported):  # is said of its problem
                _select(g, _device(options), preference)
    except (TypeError, ValueError) as error:
        parser.error(_as_typed(error))
    return descriptors, preference


def _device(options: argparse.Namespace) -> str:
    return options.device or ("cuda:0" if _core.cuda_device_count() > 0 else "cpu")


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


def bench(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Prints a table for each problem; 1 where one of them has no kernel."""
    device, refused = _device(options), 0
    descriptors, preference = _asked(parser, options)
    for g in descriptors:
        print(f"{_problems.summary(g)} on {device}")
        try:
            measured = _MEASURE[options.family](g, device, preference, candidates=options.candidates)
        except _core.Unsupported as error:
            print(f"  none: {error}")
            refused += 1
            continue
        rows = [("kernel", "us", "TFLOP/s", "GB/s", "predicted us")]
        for entry in measured:
            predicted = entry.predicted_seconds
            rows.append(
                (
                    entry.sku.name,
                    _microseconds(entry.seconds),
                    f"{_problems.flop(g) / entry.seconds * 1e-12:.3g}",
                    f"{_problems.moved_bytes(g) / entry.seconds * 1e-9:.4g}",
                    "-" if predicted is None else _microseconds(predicted),
                )
            )
        print("\n".join(f"  {line}" for line in _table(rows)))
    return 1 if refused else 0


def _measure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    descriptors, preference = _asked(parser, options)
    device = _device(options)
    modelled = _core.PlanPreference(**{**preference.__getstate__(), "tune": "off"})  # type: ignore[arg-type]
    lines, refused = [], 0
    with _bar(len(descriptors)) as bar:
        for g in descriptors:
            summary = _problems.summary(g)
            progress = bar.begin(summary)
            try:
                measured = _TUNE[options.family](g, device, preference, progress=progress)
            except _core.Unsupported as error:
                lines.append(f"{summary}\n  none: {error}")
                refused += 1
                continue
            best = measured[0]
            model = _select(g, device, modelled).name
            seconds = next(entry.seconds for entry in measured if entry.sku.name == model)
            gain = (
                "the cost model's choice"
                if best.sku.name == model
                else f"{seconds / best.seconds:.3f} times as fast as {model}"
            )
            lines.append(f"{summary}\n  {best.sku} {_microseconds(best.seconds)} us, {gain}")
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


def _tell(options: argparse.Namespace) -> None:
    if options.export is not None:
        table = _core.export_tuning()
        as_header = options.export.suffix == ".hpp"
        options.export.write_text(_HEADER.format(table=table) if as_header else table)
    if options.show:
        _show(options.all)


def tune(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """What the options ask for: import, measure, export, show; or export, show, clear, import, measure.

    Nothing is forgotten before the table to import is known to be whole, and the problems to have no mistake.
    """
    if options.all and not options.show:
        parser.error("--all goes with --show")
    if not (options.family or options.show or options.clear or options.export or options.import_):
        parser.error("a family to measure, --show, --export, --import or --clear required")
    if options.clear and options.family and (options.export or options.show):
        parser.error(
            "--clear beside a family: --export and --show go into a command of their own, before or after"
        )
    if options.clear:
        if options.family is not None:
            _asked(parser, options)
        _tell(options)
    if options.import_ is not None:
        try:
            table = options.import_.read_text()
            count = _core.import_tuning(table)
        except (OSError, ValueError) as error:
            parser.error(f"--import {options.import_}: {error}")
        print(f"{count} entries imported")
    if options.clear:
        _core.clear_tuning()
        if options.import_ is not None:
            _core.import_tuning(table)
    status = _measure(parser, options) if options.family is not None else 0
    if not options.clear:
        _tell(options)
    return status
