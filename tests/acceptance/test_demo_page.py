"""The demo EHR in a real browser, against the real service in a process of its own."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.process import ServiceProcess

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# No sandbox in a container; no talk with anybody but the service.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Markdown → what the page makes of it.
RENDERED = {
    "**a** and *b*": "<p><strong>a</strong> and <em>b</em></p>",
    "- x\n- y": "<ul><li>x</li><li>y</li></ul>",
    "1. x\n2. y": "<ol><li>x</li><li>y</li></ol>",
    "a<b>c</b>": "<p>a&lt;b&gt;c&lt;/b&gt;</p>",
    r"\*not bold\* \<i>": "<p>*not bold* &lt;i&gt;</p>",
    "&lt;script&gt; &amp; &#39;": "<p>&lt;script&gt; &amp; '</p>",
    "[x](javascript:alert)": "<p><span>x</span></p>",
    "[x](data:text/html,hi)": "<p><span>x</span></p>",
    "[x](https://e.org/a)": (
        '<p><a href="https://e.org/a" target="_blank" rel="noopener noreferrer">x</a></p>'
    ),
    "|a|b|\n|-|-:|\n|1|2\\|3|": (
        '<div class="table-scroll"><table><thead><tr><th>a</th><th class="align-right">b</th></tr>'
        '</thead><tbody><tr><td>1</td><td class="align-right">2|3</td></tr></tbody></table></div>'
    ),
    "one  \ntwo": "<p>one<br>two</p>",
    "on 2024-03-01.": "<p>on <time>2024-03-01</time>.</p>",
    "snake_case_name 2 * 3 * 4": "<p>snake_case_name 2 * 3 * 4</p>",
    "<img src=x onerror=alert(1)>": "<p>&lt;img src=x onerror=alert(1)&gt;</p>",
}

pytestmark = [
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(
        CHROMIUM is None, reason="demo page: no chromium on this machine (apt install chromium)"
    ),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a service in the demo profile, with a database of its own."""
    with ServiceProcess(tmp_path_factory.mktemp("demo")) as process:
        yield process.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """The demo, loaded. Fails the test on any error in the browser's console."""
    context = browser.new_context(base_url=service, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda message: note_error(message, faults))
    page.on("pageerror", lambda fault: faults.append(str(fault)))
    page.goto("/")
    expect(page.locator("#patient-list a")).to_have_count(14)
    yield page
    context.close()
    assert faults == []


def note_error(message: ConsoleMessage, faults: list[str]) -> None:
    # A refused call is an outcome that the page shows; the browser notes it as an error as well.
    if message.type in ("error", "warning") and "status of 412" not in message.text:
        faults.append(message.text)


def open_chart(page: Page, patient: str) -> None:
    page.locator(f"#open-{patient}").click()
    wait_for_chart(page)


def wait_for_chart(page: Page) -> None:
    expect(page.locator("#open-chart[aria-busy=false]")).to_be_visible()


def answer_in(page: Page, label: str) -> Any:
    """The JSON of one tab under "What was sent and received"."""
    page.get_by_role("tab", name=re.compile(f"^{label}")).click()
    return page.evaluate("JSON.parse(document.querySelector('#exchange .json').textContent)")


def test_the_list_is_walked_and_a_chart_opened_by_keyboard_alone(page: Page) -> None:
    page.locator("#open-okafor-amara").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#open-lindqvist-ingrid")).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#open-arikan-zeynep")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    wait_for_chart(page)
    expect(page.locator("#banner h1")).to_have_text("Amara Okafor")
    expect(page.locator("#open-okafor-amara")).to_have_attribute("aria-current", "page")
    expect(page.locator("#banner")).to_contain_text("58-year-old woman")


def test_a_high_risk_shows_a_warning_card_with_its_markdown_rendered(page: Page) -> None:
    open_chart(page, "okafor-amara")
    card = page.locator(".card")
    expect(card).to_have_attribute("data-indicator", "warning")
    expect(card.locator(".prose strong").first).to_be_visible()
    expect(card.locator(".prose li").first).to_contain_text("Glucose 124 mg/dL")
    expect(card.locator(".prose")).not_to_contain_text("**")
    expect(card.locator("a", has_text="Model card")).to_have_attribute(
        "href", re.compile("/model-card$")
    )


def test_the_call_is_made_as_an_ehr_makes_it(page: Page) -> None:
    """Discovery's templates are resolved from the record; every call has an id of its own."""
    open_chart(page, "okafor-amara")
    first = answer_in(page, "Request")
    assert set(first["prefetch"]) == {"patient", "observations", "conditions", "medications"}
    assert first["context"]["patientId"] == "okafor-amara"
    open_chart(page, "quispe-mateo")
    open_chart(page, "okafor-amara")
    assert answer_in(page, "Request")["hookInstance"] != first["hookInstance"]


def test_the_rows_that_reached_the_model_are_marked(page: Page) -> None:
    open_chart(page, "arikan-zeynep")
    glucose = page.get_by_role("row", name=re.compile("Glucose"))
    expect(glucose.locator(".used-mark")).to_be_visible()
    expect(glucose.locator("s")).to_have_text("13.1")  # entered in error
    old = page.get_by_role("row", name=re.compile("Total cholesterol"))
    expect(old.locator(".used-mark")).to_have_count(0)


def test_the_twins_in_different_units_get_the_same_figure(page: Page) -> None:
    open_chart(page, "okafor-amara")
    conventional = page.locator(".probability b").inner_text()
    open_chart(page, "lindqvist-ingrid")
    expect(page.locator("#record")).to_contain_text("mmol/L")
    expect(page.locator(".probability b")).to_have_text(conventional)


def test_accepting_a_suggestion_sends_feedback_and_drafts_the_order(page: Page) -> None:
    open_chart(page, "okafor-amara")
    card = answer_in(page, "Answer")["cards"][0]
    page.get_by_role("button", name="Order an HbA1c").press("Enter")
    expect(page.locator(".done")).to_contain_text("Accepted")
    expect(page.locator(".draft")).to_contain_text("draft")
    expect(page.locator(".card")).to_be_focused()
    page.locator(".draft summary").click()
    expect(page.locator(".draft .json")).to_contain_text('"resourceType": "ServiceRequest"')
    expect(page.locator(".card-actions")).to_have_count(0)
    (feedback,) = answer_in(page, "Feedback")["feedback"]
    assert feedback["card"] == card["uuid"]
    assert feedback["outcome"] == "accepted"
    assert feedback["acceptedSuggestions"] == [{"id": card["suggestions"][0]["uuid"]}]


def test_a_card_is_dismissed_with_a_coded_reason_by_keyboard(page: Page) -> None:
    open_chart(page, "kealoha-leilani")
    button = page.get_by_role("button", name="Dismiss…")
    button.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(button).to_be_focused()
    button.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator(".done")).to_have_text("Dismissed: Diabetes is already known")
    (feedback,) = answer_in(page, "Feedback")["feedback"]
    assert feedback["outcome"] == "overridden"
    assert feedback["overrideReason"]["reason"]["code"] == "known-diabetes"


def test_where_no_figure_is_due_none_is_shown_and_none_stored(page: Page) -> None:
    """Known diabetes, a recent normal HbA1c, a child, a pregnancy, a death."""
    for patient in (
        "etcheverry-dolores",
        "raghunathan-priya",
        "tamihana-noah",
        "hayashida-yuki",
        "sorgaard-henrik",
    ):
        open_chart(page, patient)
        support = page.locator("#support")
        expect(support.locator(".no-card")).to_be_visible()
        expect(support.locator(".card, .failure, .probability")).to_have_count(0)
        expect(support.locator(".stored")).to_contain_text("not scored")
        assert "%" not in support.inner_text()


def test_a_low_risk_shows_no_card_and_yet_the_stored_assessment(page: Page) -> None:
    open_chart(page, "haugen-linnea")
    expect(page.locator(".no-card")).to_be_visible()
    expect(page.locator(".stored .chip")).to_have_text("low likelihood")
    assert answer_in(page, "RiskAssessment")["subject"] == {"reference": "Patient/haugen-linnea"}


def test_too_little_data_is_said_in_a_card_without_a_figure(page: Page) -> None:
    open_chart(page, "haidari-farid")
    expect(page.locator(".card")).to_contain_text("No estimate")
    expect(page.locator(".probability")).to_have_count(0)


def test_a_refused_call_is_red_and_never_looks_like_nothing_to_say(page: Page) -> None:
    def without_patient(route: Route) -> None:
        body = route.request.post_data_json
        del body["prefetch"]["patient"]
        route.continue_(post_data=body)

    page.route("**/cds-services/diabetes-risk", without_patient)
    open_chart(page, "okafor-amara")
    failure = page.locator(".failure")
    expect(failure).to_have_attribute("role", "alert")
    expect(failure).to_contain_text("412")
    expect(failure.locator("li").first).to_contain_text("patient")
    expect(page.locator(".no-card")).to_have_count(0)
    expect(page.locator("#open-okafor-amara .mark")).to_have_attribute("data-kind", "failed")


def test_a_slow_answer_for_another_chart_is_dropped(page: Page) -> None:
    """Advice about one patient must never appear beside another."""
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/cds-services/diabetes-risk", hold_the_first)
    with page.expect_request("**/cds-services/diabetes-risk"):
        page.locator("#open-okafor-amara").click()
    open_chart(page, "haugen-linnea")
    with page.expect_response("**/cds-services/diabetes-risk"):
        held[0].continue_()
    expect(page.locator("#banner h1")).to_have_text("Linnea Haugen")
    expect(page.locator(".no-card")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)


def test_opening_a_chart_twice_stores_one_assessment(page: Page) -> None:
    open_chart(page, "wisniewski-tomasz")
    open_chart(page, "haugen-linnea")
    open_chart(page, "wisniewski-tomasz")
    stored = page.request.get("/fhir/RiskAssessment?patient=wisniewski-tomasz").json()
    assert stored["total"] == 1


def test_cards_are_rendered_from_markdown_without_ever_parsing_html(page: Page) -> None:
    rendered = page.evaluate(
        """async (texts) => {
          const { renderMarkdown } = await import("/static/markdown.js");
          return texts.map((text) => {
            const box = document.createElement("div");
            box.append(renderMarkdown(text));
            return box.innerHTML;
          });
        }""",
        list(RENDERED),
    )
    assert dict(zip(RENDERED, rendered, strict=True)) == RENDERED


def test_on_a_phone_list_and_chart_take_turns_and_nothing_overflows(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator("#chart")).to_be_hidden()
    open_chart(page, "okafor-amara")
    expect(page.locator("#patient-list")).to_be_hidden()
    expect(page.locator("#chart")).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="All patients").click()
    expect(page.locator("#patient-list")).to_be_visible()
    expect(page.locator("#open-okafor-amara")).to_be_focused()


def test_the_model_card_is_reached_from_the_demo_and_shows_its_pictures(page: Page) -> None:
    page.get_by_role("link", name="Model card").click()
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("table").first).to_be_visible()
    for picture in page.locator("main img").all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("picture => picture.naturalWidth") > 0
