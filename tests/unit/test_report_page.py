"""The report for people: words from figures, pictures that stay the same, a page that is safe."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from model_training.report_page import report_page, report_pictures
from model_training.report_page.calibration import calibration_finding
from model_training.report_page.discrimination import roc_picture
from model_training.report_page.drawing import PALETTE, house_style
from model_training.report_page.explanation import swarm_positions
from model_training.report_page.figures import (
    mid_sentence,
    number,
    percent,
    percent_with_interval,
    signed,
    with_interval,
    with_readable_unit,
)
from model_training.report_page.robustness import permutation_finding
from model_training.report_page.summary import summary
from tests.report_json import made_up_manifest, made_up_report

SVG = "{http://www.w3.org/2000/svg}"
EXPECTED = {
    "report/performance.svg",
    "report/roc.svg",
    "report/precision-recall.svg",
    "report/calibration.svg",
    "report/decision-curve.svg",
    "report/alerts.svg",
    "report/groups-auroc.svg",
    "report/groups-observed-expected.svg",
    "report/records.svg",
    "report/comparators.svg",
    "report/outcomes.svg",
    "report/panels-complete.svg",
    "report/panels-no-glucose.svg",
    "report/beeswarm.svg",
    "report/dependence-1.svg",
    "report/dependence-6.svg",
    "report/learning-curve.svg",
    "report/permutation.svg",
    "report/race.svg",
    "report/race-fasting.svg",
    "report/flow-development.svg",
    "report/flow-test.svg",
}
VOID = {"meta", "link", "br", "img", "input", "hr", "path", "use", "col"}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return made_up_report()


@pytest.fixture(scope="module")
def pictures(report: dict[str, Any]) -> dict[str, bytes]:
    return report_pictures(report)


@pytest.fixture(scope="module")
def page(report: dict[str, Any]) -> str:
    return report_page(report, made_up_manifest())


class Outline(HTMLParser):
    """Headings in order, ids, references to other resources, and whether every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self._open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.references.append(str(value))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self._open or self._open.pop() != tag):
            self.unbalanced.append(tag)


def without(report: dict[str, Any], *path: str) -> dict[str, Any]:
    """The report with one entry null."""
    changed = copy.deepcopy(report)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = None
    return changed


def text_in(svg: bytes) -> Iterator[str]:
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 - our own file
        yield "".join(element.itertext())


def test_every_picture_of_a_whole_report_is_drawn(pictures: dict[str, bytes]) -> None:
    assert set(pictures) >= EXPECTED


def test_the_same_report_gives_the_same_bytes(
    report: dict[str, Any], pictures: dict[str, bytes], page: str
) -> None:
    assert report_pictures(copy.deepcopy(report)) == pictures
    assert report_page(copy.deepcopy(report), made_up_manifest()) == page


def test_the_bytes_do_not_depend_on_the_users_matplotlib_settings(
    report: dict[str, Any], pictures: dict[str, bytes]
) -> None:
    with matplotlib.rc_context({"font.size": 33, "axes.grid": False, "svg.hashsalt": "other"}):
        with house_style():
            picture = roc_picture(report)
        assert matplotlib.rcParams["font.size"] == 33
    assert picture is not None
    assert picture.svg.encode() == pictures["report/roc.svg"]


def test_a_picture_is_named_and_described_in_words(pictures: dict[str, bytes]) -> None:
    for path, svg in pictures.items():
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own file
        named = {element.get("id"): element.text for element in root}
        title, finding = (named[name] for name in str(root.get("aria-labelledby")).split())
        assert root.get("role") == "img"
        assert title, path
        assert finding is not None
        assert re.search(r"\d", finding), path
        assert finding.endswith("."), path


def test_a_picture_follows_the_colour_scheme(pictures: dict[str, bytes]) -> None:
    for path, svg in pictures.items():
        text = svg.decode()
        assert "prefers-color-scheme:dark" in text, path
        assert "#0100" not in text, path
        drawn_part = text.split("</style>", 1)[1]
        assert re.findall(r"#[0-9a-f]{6}\b", drawn_part) == [], path


def test_a_picture_has_neither_date_nor_place_of_its_making(pictures: dict[str, bytes]) -> None:
    for svg in pictures.values():
        assert b"metadata" not in svg
        assert b"matplotlib" not in svg.lower()


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("name", ["ink", "muted", "blue", "orange", "green", "purple"])
def test_text_colours_reach_the_contrast_that_wcag_asks(name: str, scheme: int) -> None:
    assert contrast(PALETTE[name][scheme], PALETTE["paper"][scheme]) >= 4.5


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_curve_says_its_auroc(report: dict[str, Any], pictures: dict[str, bytes]) -> None:
    auroc = with_interval(report["test"]["scenarios"]["complete"]["auroc_weighted"])
    assert any(auroc in text for text in text_in(pictures["report/roc.svg"]))


def test_comparators_with_a_curve_stand_beside_the_model(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    changed["test"]["comparators"]["ADA risk test"]["roc"] = [[0, 0], [0.4, 0.8], [1, 1]]
    with house_style():
        picture = roc_picture(changed)
    assert picture is not None
    texts = list(text_in(picture.svg.encode()))
    assert any(text.startswith("ADA risk test") for text in texts)


def test_letters_that_matplotlibs_font_lacks_are_drawn_by_the_browser(
    report: dict[str, Any],
) -> None:
    changed = copy.deepcopy(report)
    changed["test"]["comparators"]["血糖"] = {"auroc": 0.8, "roc": [[0, 0], [1, 1]]}
    with house_style():
        picture = roc_picture(changed)
    assert picture is not None
    assert "血糖" in picture.svg


def test_calibration_says_which_way_it_errs(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    for ratio, word in (
        ([0.7, 0.6, 0.8], "overstated"),
        ([1.4, 1.2, 1.6], "understated"),
        ([1.1, 0.9, 1.3], "no difference beyond chance"),
    ):
        changed["test"]["calibration"]["observed_to_expected"] = ratio
        assert word in calibration_finding(changed["test"])


def test_a_leak_is_called_a_leak() -> None:
    check = {"repeats": 2, "auroc": [0.58, 0.6], "mean": 0.59}
    assert "look for a leak" in permutation_finding({"permutation": check})
    check = {"repeats": 2, "auroc": [0.49, 0.52], "mean": 0.505}
    assert "no better than chance" in permutation_finding({"permutation": check})


def test_no_dot_of_a_swarm_leaves_its_row_or_hides_another() -> None:
    log_odds = np.array([0.0] * 50 + [1.0, 1.0, 2.0])
    heights = swarm_positions(log_odds, 0.0, 2.0)
    assert float(np.abs(heights).max()) <= 0.42
    places = set(zip(log_odds.tolist(), heights.tolist(), strict=True))
    assert len(places) == len(log_odds)


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    outline = Outline(page)
    assert [ref for ref in outline.references if not ref.startswith(("#", "data:"))] == []
    assert "script" not in outline.tags
    assert "@import" not in page
    # The one kind of address is the name of SVG's own vocabulary.
    assert set(re.findall(r"https?://[\w.]+", page)) == {"http://www.w3.org"}
    assert re.findall(r"url\((?!#)", page) == []


def test_the_page_is_small(page: str) -> None:
    assert len(page.encode()) < 3_000_000


def test_ids_are_unique_and_every_reference_inside_the_page_leads_somewhere(page: str) -> None:
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    used = {ref[1:] for ref in outline.references if ref.startswith("#")}
    used |= set(re.findall(r"url\(#([\w.-]+)\)", page))
    assert used <= set(outline.ids)


def test_headings_step_down_one_at_a_time_and_tags_are_closed(page: str) -> None:
    outline = Outline(page)
    assert outline.headings.count(1) == 1
    levels = [0, *outline.headings]
    assert all(after <= before + 1 for before, after in zip(levels, outline.headings, strict=False))
    assert outline.unbalanced == []


def test_every_picture_has_its_figures_as_a_table(page: str) -> None:
    assert page.count("<figure") == page.count('role="img"')
    for figure in re.findall(r"<figure.*?</figure>", page, flags=re.DOTALL):
        columns = figure.count('scope="col"')
        rows = figure.split("<tbody>")[1].count("<tr>")
        assert rows > 0
        assert figure.count("<td>") == rows * (columns - 1)


def test_the_summary_says_figures_gates_and_for_whom_not(page: str, report: dict[str, Any]) -> None:
    top = page.split("<section", 1)[0]
    assert number(report["test"]["scenarios"]["complete"]["auroc"]) in top
    assert (
        percent(report["test"]["levels"]["at_moderate"]["sensitivity"]).replace(" ", "\xa0") in top
    )
    assert "All 3 gates for publishing were passed." in top
    assert "pregnant people" in top
    assert report["data"]["notes"][0] in top.replace("\xa0", " ")


def test_a_gate_that_was_not_passed_is_said_with_who_forced_it(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report) | {"forced": "a trial site asked for it"}
    changed["gates"][1]["passed"] = False
    top = summary(changed, made_up_manifest())
    assert top.passed is False
    assert top.verdict == (
        "1 of 3 gates were not passed: Calibration slope. "
        "Published by force: A trial site asked for it."
    )


def test_of_many_notes_the_first_screen_shows_three_and_says_that_there_are_more(
    report: dict[str, Any],
) -> None:
    notes = [f"note number {place}" for place in range(5)]
    changed = report | {"data": report["data"] | {"notes": notes}}
    top = summary(changed, made_up_manifest())
    assert list(top.limits) == [f"Note number {place}." for place in range(3)]
    assert top.more_limits == 2


def test_the_trace_of_force_is_said_where_no_gates_were_measured(report: dict[str, Any]) -> None:
    """A forced version, evaluated elsewhere."""
    forced = {"reason": "pilot at one clinic", "failed": ["events", "groups"]}
    top = summary(report | {"gates": None, "forced": forced}, made_up_manifest())
    assert top.passed is None
    assert top.verdict == (
        "No gates were set for this data set. Published by force, against gates events and "
        "groups: Pilot at one clinic."
    )


def test_text_of_a_sites_recipe_cannot_become_markup(report: dict[str, Any]) -> None:
    bad = "</title></text><script>alert(1)</script> $x$ --> & \"'"
    changed = copy.deepcopy(report)
    changed["model"]["title"] = changed["data"]["description"] = bad
    changed["test"]["scenarios"]["complete"]["title"] = bad
    changed["test"]["groups"]["Sex"] = {bad: changed["test"]["groups"]["Sex"]["Men"]}
    changed["test"]["comparators"][bad] = changed["test"]["comparators"]["ADA risk test"]
    changed["test"]["decision_curve"]["curves"][bad] = [0.001] * 40
    changed["explanation"]["rows"][0]["title"] = bad
    changed["data"]["parts"]["test"]["flow"][0]["kept"] = bad
    changed["choices"]["panels"]["panels"][0]["title"] = bad
    changed["choices"]["panels"]["settings"][0]["id"] = "</style><script>"
    changed["race"]["groups"][bad] = changed["race"]["groups"]["Other Hispanic"]
    html = report_page(changed, made_up_manifest(title=bad, question=bad))
    assert "<script" not in html
    assert Outline(html).unbalanced == []
    for path, svg in report_pictures(changed).items():
        assert ElementTree.fromstring(svg) is not None, path  # noqa: S314 - well-formed
        assert re.fullmatch(r"report/[\w-]+\.svg", path)


# Rendered together, so that each page lacks many things at once.
LACKING = {
    "whole sections": [
        ("choices",),
        ("learning_curve",),
        ("permutation",),
        ("race",),
        ("explanation",),
        ("gates",),
        ("data", "parts", "development"),
        ("test", "comparators"),
        ("test", "calibration"),
        ("test", "groups"),
    ],
    "parts of sections": [
        ("choices", "panels"),
        ("choices", "search"),
        ("choices", "imputation"),
        ("choices", "thresholds"),
        ("data", "characteristics"),
        ("race", "fasting"),
        ("test", "roc"),
        ("test", "alerts"),
        ("test", "levels"),
        ("test", "outcomes"),
        ("test", "with_treated"),
        ("test", "prevalence"),
        ("test", "calibration", "curve"),
        ("test", "calibration", "slope"),
        ("test", "calibration", "ici"),
    ],
    "what levels and curves stand on": [
        ("test", "decision_curve"),
        ("test", "levels", "at_high"),
        ("test", "scenarios", "complete", "auroc"),
        ("permutation",),
        ("choices", "masking"),
    ],
}


@pytest.mark.parametrize("lacking", LACKING)
def test_what_was_not_done_is_left_out(report: dict[str, Any], lacking: str) -> None:
    for path in LACKING[lacking]:
        report = without(report, *path)
    html = report_page(report, made_up_manifest())
    assert "None" not in html.replace('<th scope="row">None</th>', "")
    assert Outline(html).unbalanced == []


def test_an_outside_data_set_has_a_report_as_well(report: dict[str, Any]) -> None:
    """`evaluate` measures only: no choices, no learning curve, no development people, no gates."""
    outside = {key: report[key] for key in ("format", "model", "data", "test")}
    outside["data"] = report["data"] | {"parts": {"test": report["data"]["parts"]["test"]}}
    outside["data"]["characteristics"] = [
        {"title": "Age, years", "kind": "number", "test": [40, 30, 50, 0.0]}
    ]
    html = report_page(outside, made_up_manifest())
    assert html.count("Not done for this data set.") == 3
    assert "No gates were set for this data set." in html


def test_figures_that_could_not_be_told_are_not_made_up(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    nothing = [None, None, None]
    men = changed["test"]["groups"]["Sex"]["Men"]
    men["auroc"] = men["auroc_weighted"] = men["observed_to_expected"] = men["brier"] = nothing
    women = changed["test"]["groups"]["Sex"]["Women"]
    women["auroc"] = [0.9, None, None]
    changed["test"]["scenarios"]["complete"]["auroc"] = [0.93, None, None]
    changed["test"]["alerts"][0]["ppv"] = nothing
    html = report_page(changed, made_up_manifest())
    assert "interval not known" in html
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL).lower().split()


def test_a_hundred_people_have_a_page_as_well(report: dict[str, Any]) -> None:
    """Nobody observed in any tenth, one repeat, one cut, inputs that move nothing: all drawn."""
    changed = copy.deepcopy(report)
    test = changed["test"]
    for group in test["calibration"]["groups"]:
        group["predicted"] = group["observed"] = 0.0
    test["calibration"]["curve"] = [[0.1, None, None, None]]
    test["decision_curve"] = {"thresholds": [0.05], "curves": {"This model": [0.0]}}
    test["alerts"] = test["alerts"][:1]
    test["scenarios"] = {"complete": test["scenarios"]["complete"]}
    test["groups"] = {"Sex": {"Men": test["groups"]["Sex"]["Men"] | {"auroc": [None] * 3}}}
    for row in changed["explanation"]["rows"]:
        row["log_odds"] = [0.0] * len(row["log_odds"])
    changed["explanation"]["rows"][0]["values"] = [None] * 400
    changed["permutation"] = {"repeats": 1, "auroc": [0.97], "mean": 0.97}
    changed["data"]["parts"]["test"]["flow"] = changed["data"]["parts"]["test"]["flow"][:1]
    html = report_page(changed, made_up_manifest())
    assert Outline(html).unbalanced == []
    assert "No group has enough people for an AUROC." in html


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (number([0.93512, 0.9, 0.95]), "0.935"),
        (with_readable_unit("Age, a"), "Age, years"),
        (with_readable_unit("White cells, 10*3/uL"), "White cells, ×10³/µL"),
        (with_readable_unit("Sex: Women"), "Sex: Women"),
        (mid_sentence("Glucose known"), "glucose known"),
        (mid_sentence("BMI known"), "BMI known"),
        (number(None), "–"),
        (number([None, None, None]), "–"),
        (with_interval([0.93512, 0.9, 0.95]), "0.935 (0.900 to 0.950)"),
        (with_interval([0.5, None, None], 2), "0.50"),
        (with_interval([-0.2, -0.4, 0.1], 1), "−0.2 (−0.4 to 0.1)"),
        (signed([0.01, -0.02, 0.04], 2), "+0.01 (−0.02 to +0.04)"),
        (percent(0.0052), "0.52 %"),
        (percent(0.05), "5 %"),
        (percent(0.105), "10 %"),
        (percent(1.0), "100 %"),
        (percent_with_interval([0.081, 0.0722, 0.12]), "8.1 % (7.2 to 12 %)"),
    ],
)
def test_figures_are_said_as_people_write_them(said: str, text: str) -> None:
    assert said == text
