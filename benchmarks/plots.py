"""The README's plots: SVG of committed results, with the standard library alone.

Written by `python -m benchmarks.readme`; the same results give the same bytes. There is one set of colours,
which stands out from white and from dark pages alike, so that it does not matter how a picture is embedded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from xml.sax.saxutils import escape

from benchmarks import _attention, _report

TEXT, GRID = "#737d88", "#8b949e"
OURS, PEERS = "#d9622b", ("#3a87d6", "#8a6fd1", "#4d9a5b")
PAGES = ("#ffffff", "#0d1117")  # of which every colour has to stand out

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 62, 16, 56, 46
_FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class _Picture:
    """Elements of one SVG, in the order in which they are drawn."""

    def __init__(self, title: str, height: int) -> None:
        self.height = height
        self._title = title
        self._parts: list[str] = []
        self.text(_LEFT, 20, title, size=15, weight=600)

    def text(
        self, x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: int = 400
    ) -> None:
        self._parts.append(
            f"<text x='{_number(x)}' y='{_number(y)}' font-size='{size}' font-weight='{weight}' "
            f"text-anchor='{anchor}' fill='{TEXT}'>{escape(words)}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, width: float = 0.5) -> None:
        points = " ".join(f"{n}='{_number(v)}'" for n, v in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)))
        self._parts.append(f"<line {points} stroke='{GRID}' stroke-width='{width}'/>")

    def bar(self, x: float, y: float, width: float, height: float, colour: str, hint: str) -> None:
        self._parts.append(
            f"<rect x='{_number(x)}' y='{_number(y)}' width='{_number(width)}' height='{_number(height)}' "
            f"fill='{colour}'><title>{escape(hint)}</title></rect>"
        )

    def dot(self, x: float, y: float, radius: float, colour: str, opacity: float, hint: str) -> None:
        self._parts.append(
            f"<circle cx='{_number(x)}' cy='{_number(y)}' r='{_number(radius)}' fill='{colour}' "
            f"fill-opacity='{opacity}'><title>{escape(hint)}</title></circle>"
        )

    def legend(self, entries: Iterable[tuple[str, str]]) -> None:
        x = float(_LEFT)
        for colour, words in entries:
            self.bar(x, 32, 10, 10, colour, words)
            self.text(x + 15, 41, words)
            x += 15 + 6.4 * len(words) + 22

    def svg(self) -> str:
        head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {self.height}' "
            f"width='{_WIDTH}' height='{self.height}' role='img' {_FONT}>"
        )
        return "\n".join([head, f"<title>{escape(self._title)}</title>", *self._parts, "</svg>", ""])


def matmul(gemm: _report.Record, selection: _report.Record | None) -> str:
    """Speed relative to cuBLAS over rows: many problems, and the large ones of benchmarks.gemm."""
    height, low, high = 380, 0.5, 1.7
    picture = _Picture(f"Matmul: speed relative to cuBLAS (1 is equal), {gemm['device']['name']}", height)
    bottom, right = height - _BOTTOM, _WIDTH - _RIGHT

    def x_of(rows: float) -> float:
        return _LEFT + 12 + (right - _LEFT - 24) * math.log2(rows) / 14

    def y_of(speed: float) -> float:
        return bottom - (bottom - _TOP) * math.log(speed / low) / math.log(high / low)

    for speed in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6):
        picture.line(_LEFT, y_of(speed), right, y_of(speed), width=1.6 if speed == 1 else 0.4)
        picture.text(_LEFT - 8, y_of(speed) + 4, f"{speed:.1f}", anchor="end")
    for power in range(0, 15, 2):
        picture.text(x_of(2**power), bottom + 18, str(2**power), anchor="middle")
    picture.text((_LEFT + right) / 2, bottom + 36, "M, the rows of A", anchor="middle")

    legend = []
    if selection is not None:
        for problem in selection["problems"]:
            medians = problem["medians"]
            speed = medians["torch"] / fastest(medians)
            hint = (
                f"{'x'.join(map(str, problem['shape']))} {problem['dtype']} {problem['layout']}: {speed:.2f}"
            )
            picture.dot(x_of(problem["shape"][0]), y_of(min(max(speed, low), high)), 3, PEERS[0], 0.6, hint)
        legend.append(
            (PEERS[0], f"{len(selection['problems'])} problems of all sizes, fastest of the likely kernels")
        )
    large = [entry for entry in gemm["entries"] if entry["group"].startswith("six shapes")]
    for entry in large:
        contender = _report.find(entry, "cutplan")
        speed_of = _report.ratio(entry, contender) if contender else None
        if speed_of is not None:
            hint = f"{_report.extents(entry)} {_report.types(entry)} {entry['layout']}: {speed_of:.2f}"
            picture.dot(x_of(entry["m"]), y_of(speed_of), 5, OURS, 1, hint)
    legend.append((OURS, f"{len(large)} problems of six shapes, the kernel that is picked"))
    picture.legend(legend)
    return picture.svg()


def fastest(medians: _report.Record) -> float:
    """Of cutplan's kernels."""
    return min(float(taken) for name, taken in medians.items() if name != "torch")


def _attention_groups(record: _report.Record) -> list[tuple[str, list[_report.Record]]]:
    """Problems of one length, the largest that forward and backward share, by pass."""
    chosen = [e for e in record["entries"] if e["group"] in ("forward", "backward")]
    lengths = [{e["seq_q"] for e in chosen if e["group"] == name} for name in ("forward", "backward")]
    length = max(lengths[0] & lengths[1], default=0)
    groups = [
        (name, [e for e in chosen if e["group"] == name and e["seq_q"] == length])
        for name in ("forward", "backward")
    ]
    return [(name, members) for name, members in groups if members]


def attention(record: _report.Record) -> str:
    """TFLOP/s of cutplan and torch's backends, by head dimension, mask and pass."""
    height = 340
    groups = _attention_groups(record)
    length = groups[0][1][0]["seq_q"]
    picture = _Picture(
        f"Attention: TFLOP/s at length {length}, {record['entries'][0]['dtype']}, {record['device']['name']}",
        height,
    )
    names = (_attention.OURS, *_attention.PEERS)
    colours = dict(zip(names, (OURS, *PEERS), strict=True))
    bottom, right = height - _BOTTOM - 14, _WIDTH - _RIGHT

    def speed(entry: _report.Record, name: str) -> float | None:
        taken = _attention.contender(entry, name)
        return 1e-6 * _attention.flop(entry) / _report.median(taken) if taken else None

    members = [entry for _, of_pass in groups for entry in of_pass]
    most = max(value for entry in members for name in names if (value := speed(entry, name)) is not None)
    top = math.ceil(most / 100) * 100

    def y_of(value: float) -> float:
        return bottom - (bottom - _TOP) * value / top

    for value in range(0, top + 1, 100):
        picture.line(_LEFT, y_of(value), right, y_of(value), width=0.4)
        picture.text(_LEFT - 8, y_of(value) + 4, str(value), anchor="end")
    gap = 20.0
    slot = (right - _LEFT - gap * (len(groups) - 1)) / len(members)
    x = float(_LEFT)
    for name, of_pass in groups:
        picture.text(x + slot * len(of_pass) / 2, bottom + 40, name, anchor="middle", weight=600)
        for entry in of_pass:
            _bars(picture, entry, x, slot, [(n, colours[n], speed(entry, n)) for n in names], bottom, y_of)
            x += slot
        x += gap
    picture.legend((colours[name], name) for name in names)
    return picture.svg()


def _bars(
    picture: _Picture,
    entry: _report.Record,
    x: float,
    slot: float,
    bars: Sequence[tuple[str, str, float | None]],
    bottom: float,
    y_of: Callable[[float], float],
) -> None:
    label = f"d{entry['dim']} {entry['mask']}"
    width = (slot - 10) / len(bars)
    picture.text(x + slot / 2, bottom + 18, label, size=11, anchor="middle")
    for index, (name, colour, value) in enumerate(bars):
        if value is not None:
            hint = f"{name}, {label}: {value:.0f} TFLOP/s"
            picture.bar(x + 5 + index * width, y_of(value), width - 1, bottom - y_of(value), colour, hint)
