"""The report page in a real browser: light and dark, wide and narrow, opened as a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from cds_service.routes.pages import REPORT_HEADERS
from model_training.report_page import report_page, report_pictures
from tests.report_json import made_up_manifest, made_up_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Scheme = Literal["light", "dark"]
SCHEMES: list[Scheme] = ["light", "dark"]

# Text against what is painted behind it, as WCAG 2.2 counts it: for every text node that shows.
CONTRASTS = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const rgb = numbers(getComputedStyle(at).backgroundColor);
      if (rgb.length < 4 || rgb[3] > 0) return rgb;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("title, desc, style, .skip")) continue;
    const style = getComputedStyle(element);
    const ink = element instanceof SVGElement ? style.fill : style.color;
    const [one, other] = [luminance(numbers(ink)), luminance(ground(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""
# Texts of one picture that cover each other by more than a sliver, or leave their picture.
TEXT_FAULTS = """() => [...document.querySelectorAll("figure svg")].flatMap((svg) => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
  const boxes = texts.map((text) => text.getBoundingClientRect());
  const said = (place) => `${svg.id}: ${texts[place].textContent}`;
  const faults = [];
  boxes.forEach((box, place) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
        box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
      faults.push(`outside ${said(place)}`);
    boxes.slice(place + 1).forEach((other, further) => {
      const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
      const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
      if (across > 2 && down > 0.35 * Math.min(box.height, other.height))
        faults.push(`${said(place)} × ${said(place + 1 + further)}`);
    });
  });
  return faults;
})"""

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None, reason="report page: no chromium on this machine (apt install chromium)"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """report.html and the pictures beside it, as in an artifact."""
    folder = tmp_path_factory.mktemp("report")
    report = made_up_report()
    (folder / "report.html").write_text(report_page(report, made_up_manifest()), "utf-8")
    for path, svg in report_pictures(report).items():
        (folder / Path(path).name).write_bytes(svg)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(params=SCHEMES)
def page(browser: Browser, folder: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report in one colour scheme. Fails on console errors and on requests for anything."""
    scheme: Scheme = request.param
    context = browser.new_context(
        viewport={"width": 1480, "height": 1000}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.on("request", lambda request: note_request(request, faults))
    page.goto((folder / "report.html").as_uri())
    yield page
    context.close()
    assert faults == []


def note_request(request: Request, faults: list[str]) -> None:
    if not request.url.endswith("/report.html") and not request.url.startswith("data:"):
        faults.append(request.url)


def box(page: Page, selector: str) -> Any:
    return page.locator(selector).first.bounding_box()


def test_every_text_has_the_contrast_that_wcag_asks(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 500
    assert [text for text in contrasts if text[0] < 4.5] == []


@pytest.mark.parametrize("width", [390, 900, 1480])
def test_nothing_overflows_the_page(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_no_text_of_a_picture_covers_another_or_is_cut_off(page: Page) -> None:
    assert page.evaluate(TEXT_FAULTS) == []


def test_the_first_screen_answers_what_how_well_and_for_whom_not(page: Page) -> None:
    for selector in ("h1", ".question", ".tile .value", ".verdict", ".whom"):
        place = box(page, selector)
        assert place["y"] + place["height"] <= 1000, selector


def test_every_picture_has_a_name_and_a_description(page: Page) -> None:
    pictures = page.get_by_role("img")
    assert pictures.count() == page.locator("svg").count()
    for picture in pictures.all():
        identifiers = str(picture.get_attribute("aria-labelledby")).split()
        texts = [page.locator(f"[id='{one}']").text_content() for one in identifiers]
        assert len(texts) == 2
        assert all(texts)
    expect(page.get_by_role("img", name="ROC curve AUROC")).to_have_count(1)


def test_a_table_opens_and_is_reached_by_keyboard(page: Page) -> None:
    summary = page.locator("figure summary").first
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("figure .scroll").first).to_be_focused()
    expect(page.locator("figure table").first).to_be_visible()


def test_the_contents_lead_to_every_section(page: Page) -> None:
    links = page.locator("nav a")
    assert links.count() == page.locator("main section").count() + 1
    for link in links.all():
        target = str(link.get_attribute("href"))
        expect(page.locator(target)).to_have_count(1)


def test_it_reads_without_scripts(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    expect(page.locator(".tile")).to_have_count(3)
    context.close()


def test_under_the_policy_that_it_is_served_with_it_looks_the_same(
    browser: Browser, folder: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text))
    body = (folder / "report.html").read_text("utf-8")
    page.route(
        "**/*",
        lambda route: route.fulfill(body=body, content_type="text/html", headers=REPORT_HEADERS),
    )
    page.goto("http://service.internal/model-card/files/report/report.html")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.tile')).borderTopWidth") == "3px"
    )
    curve = "getComputedStyle(document.querySelector('#picture-roc path:last-of-type')).fill"
    assert page.evaluate(curve) != "rgb(0, 0, 0)"
    context.close()
    assert faults == []


def test_a_picture_by_itself_follows_the_colour_scheme_too(browser: Browser, folder: Path) -> None:
    """As the model card shows it: by <img>, where no style of the page reaches it."""
    corners = {}
    for scheme in SCHEMES:
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto((folder / "performance.svg").as_uri())
        corners[scheme] = page.evaluate("getComputedStyle(document.querySelector('svg path')).fill")
        context.close()
    assert corners["light"] == "rgb(255, 255, 255)"
    assert corners["dark"] == "rgb(23, 32, 38)"


def test_on_paper_it_is_light_and_without_navigation(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.locator("nav")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
