"""One picture of the measured performance, as SVG written by hand: ROC curve and calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

_SIDE = 300
_LEFT, _TOP, _GAP = 60, 40, 90
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.axis{stroke:#444;fill:none}.grid{stroke:#ddd}"
    ".guide{stroke:#999;stroke-dasharray:4 4;fill:none}.curve{stroke:#0b5cad;stroke-width:2;"
    "fill:none}.dot{fill:#0b5cad}"
)
# Both axes of the calibration plot: risks span three orders of magnitude.
_LOWEST, _DECADES = 0.0005, 3


def performance_svg(test: Mapping[str, Any], title: str) -> str:
    width, height = _LEFT + 2 * _SIDE + _GAP + 30, _TOP + _SIDE + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        _roc(test, _LEFT),
        _calibration(test, _LEFT + _SIDE + _GAP),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _roc(test: Mapping[str, Any], left: int) -> str:
    auroc = test["scenarios"]["complete"]["auroc_weighted"][0]
    ticks = [(f"{step / 5:g}", step / 5) for step in range(6)]
    return "\n".join(
        [
            _frame(left, f"ROC, AUROC {auroc:.3f}", "1 − specificity", "sensitivity", ticks),
            _path(left, [(0, 0), (1, 1)], "guide"),
            _path(left, test["curve"], "curve"),
        ]
    )


def _calibration(test: Mapping[str, Any], left: int) -> str:
    ticks = [(f"{risk:g} %", _log(risk / 100)) for risk in (0.1, 0.3, 1, 3, 10, 30)]
    groups = [(_log(g["predicted"]), _log(g["observed"])) for g in test["calibration"]["groups"]]
    dots = "\n".join(
        f'<circle class="dot" cx="{_x(left, x)}" cy="{_y(y)}" r="4"/>' for x, y in groups
    )
    title = "Calibration, tenths of the population"
    return "\n".join(
        [
            _frame(left, title, "predicted risk", "observed", ticks),
            _path(left, [(0, 0), (1, 1)], "guide"),
            dots,
        ]
    )


def _frame(left: int, title: str, across: str, up: str, ticks: Iterable[tuple[str, float]]) -> str:
    middle, bottom = left + _SIDE // 2, _TOP + _SIDE
    lines = [
        f'<text x="{middle}" y="{_TOP - 14}" text-anchor="middle">{escape(title)}</text>',
        f'<text x="{middle}" y="{bottom + 40}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="{left}" y="{_TOP - 14}" text-anchor="middle">{escape(up)}</text>',
    ]
    for label, at in ticks:
        x, y = _x(left, at), _y(at)
        lines += [
            f'<path class="grid" d="M{x} {_TOP}V{bottom}M{left} {y}H{left + _SIDE}"/>',
            f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{label}</text>',
            f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{label}</text>',
        ]
    lines.append(f'<rect class="axis" x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"/>')
    return "\n".join(lines)


def _path(left: int, points: Iterable[Iterable[float]], style: str) -> str:
    steps = "L".join(f"{_x(left, x)} {_y(y)}" for x, y in points)
    return f'<path class="{style}" d="M{steps}"/>'


def _x(left: int, share: float) -> float:
    return round(left + share * _SIDE, 1)


def _y(share: float) -> float:
    return round(_TOP + (1 - share) * _SIDE, 1)


def _log(risk: float) -> float:
    """0 at the lowest risk shown, 1 three orders of magnitude above; nothing falls off."""
    return min(1.0, max(0.0, math.log10(max(risk, _LOWEST) / _LOWEST) / _DECADES))
