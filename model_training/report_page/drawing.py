"""A matplotlib figure → SVG text that follows the reader's colour scheme and carries its meaning.

Colours are drawn as stand-ins and become CSS variables in the text, so that one file serves light
and dark, inside a page as well as by `<img>`.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

# One unit of the drawing is one CSS pixel at natural size; matplotlib counts in inches.
UNITS_PER_INCH = 72
WIDTH = 440

# Name → light, dark. Hues of Okabe and Ito's palette, which people with any colour vision tell
# apart (https://jfly.uni-koeln.de/color/), darkened or lightened until each reaches 4.5 : 1 on the
# paper, as text in that colour needs (WCAG 2.2, success criterion 1.4.3).
PALETTE: Mapping[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#172026"),
    "ink": ("#1b262e", "#e6edf1"),
    "muted": ("#566570", "#a3b2bc"),
    "grid": ("#e4e9ed", "#2d3a43"),
    "blue": ("#0a5fa5", "#6cb6f5"),
    "orange": ("#b04f00", "#f2a154"),
    "green": ("#00735a", "#4cc6a4"),
    "purple": ("#87459b", "#d09fe0"),
    # Low to high values of an input.
    "scale-0": ("#0a4f96", "#4fa3f0"),
    "scale-1": ("#5288bd", "#86b3d9"),
    "scale-2": ("#97959f", "#aaa7ad"),
    "scale-3": ("#d18a4e", "#dba36c"),
    "scale-4": ("#bb4a00", "#ff8b3d"),
}
_STAND_INS = {name: f"#0100{place:02x}" for place, name in enumerate(PALETTE, start=1)}
_SANS = 'system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif'


def colour(name: str) -> str:
    """The stand-in that matplotlib draws with, for one colour of PALETTE."""
    return _STAND_INS[name]


PAPER, INK, MUTED, GRID = map(colour, ("paper", "ink", "muted", "grid"))
BLUE, ORANGE, GREEN, PURPLE = map(colour, ("blue", "orange", "green", "purple"))
SCALE = tuple(colour(f"scale-{step}") for step in range(5))

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it is found, read out, and set in the page's font
    "svg.hashsalt": "report",  # ids are random without
    "path.simplify": False,  # it would drop strokes of no length, which are our dots
    "text.parse_math": False,  # titles come from recipes; a $ is a $
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 12,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "font.size": 12,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.pad": 6,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Settings for drawing, whatever the user's matplotlibrc says; restored afterwards."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's browser draws the letters, so those that DejaVu lacks are not lacking.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Room around the axes, in units of the drawing."""

    left: float = 52
    right: float = 24
    top: float = 26
    bottom: float = 46


def new_figure(height: float, width: float = WIDTH) -> Figure:
    return Figure(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH))


def add_axes(figure: Figure, margins: Margins) -> Axes:
    """Axes that fill the figure but for `margins`."""
    width, height = figure.get_size_inches() * UNITS_PER_INCH
    return figure.add_axes(
        (
            margins.left / width,
            margins.bottom / height,
            (width - margins.left - margins.right) / width,
            (height - margins.top - margins.bottom) / height,
        )
    )


def up_label(axes: Axes, text: str) -> None:
    """The vertical axis's label, level and above it: nobody should tilt their head."""
    axes.annotate(
        text,
        (0, 1),
        xycoords="axes fraction",
        xytext=(-38, 10),
        textcoords="offset points",
        color=MUTED,
        va="bottom",
    )


def percent_ticks(axis: Any, ticks: Sequence[float]) -> None:
    """Ticks at probabilities, said in percent."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{share * 100:g} %"))


def plain_ticks(axis: Any, ticks: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−")))


def svg_text(figure: Figure, *, name: str, title: str, finding: str) -> str:
    """The figure as one `<svg>` element, without prolog; `name` keeps its ids apart."""
    name = f"picture-{name}"
    written = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(written, format="svg", metadata=nothing)
    width, height = (round(side * UNITS_PER_INCH) for side in figure.get_size_inches())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'id="{name}" role="img" aria-labelledby="{name}-title {name}-finding" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-finding">{escape(finding)}</desc>'
        f"<style>{_style_sheet(name)}</style>{_drawing(written.getvalue(), name)}</svg>\n"
    )


def _style_sheet(name: str) -> str:
    light, dark = (
        "".join(f"--{colour}:{shades[scheme]};" for colour, shades in PALETTE.items())
        for scheme in (0, 1)
    )
    return (
        f"#{name}{{color-scheme:light dark;font-family:{_SANS};{light}}}"
        f"#{name} *{{stroke-linejoin:round}}#{name} text{{font-variant-numeric:tabular-nums}}"
        f"@media screen and (prefers-color-scheme:dark){{#{name}{{{dark}}}}}"
    )


_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_OUTSIDE = re.compile(r"^.*?<svg[^>]*>|</svg>\s*$", re.DOTALL)
_OWN_STYLE = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_FONT_FAMILY = re.compile(r" font-family: [^;\"]*;?")
_COLOUR = re.compile("|".join(_STAND_INS.values()))
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_TAG = re.compile(r"<[^>]*>")
_USED_ID = re.compile(r"url\(#([\w.]+)\)|href=\"#([\w.]+)\"")
_ID = re.compile(r" id=\"([\w.]+)\"")
_NAMES = {stand_in: name for name, stand_in in _STAND_INS.items()}


def _drawing(written: str, name: str) -> str:
    """What matplotlib wrote between `<svg>` and `</svg>`, made small, distinct and recoloured."""
    inner = _OWN_STYLE.sub("", _OUTSIDE.sub("", _COMMENT.sub("", written)))
    used = {match for pair in _USED_ID.findall(inner) for match in pair if match}

    def mend(tag: re.Match[str]) -> str:
        text = " ".join(tag.group().split())
        text = _ID.sub(lambda at: f' id="{name}-{at[1]}"' if at[1] in used else "", text)
        text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
        text = _FONT_FAMILY.sub("", text)
        text = _COLOUR.sub(lambda at: f"var(--{_NAMES[at[0]]})", text)
        return _LONG_NUMBER.sub(lambda at: f"{float(at[0]):.2f}".rstrip("0").rstrip("."), text)

    return re.sub(r">\s+<", "><", _TAG.sub(mend, inner)).strip()
