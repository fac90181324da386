"""report.json and manifest → one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model_training.report_page.drawing import PALETTE
from model_training.report_page.figures import Json
from model_training.report_page.pictures import drawn
from model_training.report_page.sections import sections
from model_training.report_page.summary import summary


def _unbroken(value: object) -> object:
    """A lone % at the start of a line reads badly: its space does not break."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.replace(" %", "\u00a0%")
    return value


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_unbroken,
)


def report_page(report: Json, manifest: Json) -> str:
    """A whole page: no script, no request, and every text of report and manifest escaped."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    page = _TEMPLATES.get_template("page.html.j2").render(
        css=Markup(_scheme_colours() + css),  # noqa: S704 - our own file
        summary=summary(report, manifest),
        sections=sections(report, manifest, drawn(report)),
        svg=_inlined,
    )
    return page + "\n"


def _inlined(svg: str) -> Markup:
    """A picture drawn here: its texts were escaped when it was written."""
    return Markup(svg.strip())  # noqa: S704


def _scheme_colours() -> str:
    """The pictures' palette, so that page and pictures are of one piece."""
    light, dark = (
        "".join(f"--{name}:{shades[scheme]};" for name, shades in PALETTE.items())
        for scheme in (0, 1)
    )
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
