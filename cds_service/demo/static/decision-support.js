// The sidebar: cards, what a clinician does with them, and what the service has stored.
// "Nothing to say" and "it went wrong" look different and read differently.

import { dateText } from "./chart.js";
import { element, fill, moveFocusByArrows, outsideLink } from "./elements.js";
import { renderMarkdown } from "./markdown.js";

const INDICATORS = { info: "Information", warning: "Warning", critical: "Critical" };

/** One card. `respond(feedback)` sends CDS Hooks feedback and resolves when it has been taken. */
export function renderCard(card, respond) {
  const outcome = element("div", { class: "card-outcome", role: "status" });
  const actions = element("div", { class: "card-actions" });
  const article = element(
    "article",
    { class: "card", "data-indicator": card.indicator, tabindex: "-1" },
    element("p", { class: "card-indicator" }, INDICATORS[card.indicator] ?? card.indicator),
    element("h3", {}, card.summary),
    card.detail && element("div", { class: "prose" }, renderMarkdown(card.detail)),
    outcome,
    actions,
    cardLinks(card.links ?? []),
    source(card.source),
  );
  const settle = async (feedback, shown) => {
    setBusy(actions, true);
    try {
      await respond({ card: card.uuid, ...feedback });
      fill(outcome, shown());
      actions.remove();
      // The button that had the focus is gone: the card takes it, not the top of the page.
      article.focus();
    } catch (failure) {
      setBusy(actions, false);
      fill(outcome, failureNote("The feedback was not stored.", failure));
    }
  };
  fill(actions, suggestionButtons(card, settle), card.uuid && dismissal(card, settle));
  return article;
}

function suggestionButtons(card, settle) {
  return (card.suggestions ?? []).map((suggestion) => {
    const accept = () =>
      settle({ outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }] }, () => [
        element("p", { class: "done" }, `Accepted: ${suggestion.label}`),
        ...(suggestion.actions ?? []).map(draft),
      ]);
    return element("button", { type: "button", class: "primary", onclick: accept }, suggestion.label);
  });
}

/** What an EHR would now put before the clinician to sign. */
function draft({ type, description, resource }) {
  const order = resource?.code?.text ?? resource?.code?.coding?.[0]?.display ?? resource?.resourceType;
  return element(
    "div",
    { class: "draft" },
    element("p", { class: "draft-title" }, element("span", { class: "chip" }, resource?.status ?? type), ` ${order}`),
    element("p", {}, description),
    element("details", {}, element("summary", {}, `The ${resource?.resourceType ?? "resource"} that the EHR would ${type}`), json(resource)),
  );
}

/** A menu button: Enter or Arrow down opens it, arrows move, Escape closes. */
function dismissal(card, settle) {
  const reasons = card.overrideReasons ?? [];
  const dismiss = (reason) =>
    settle({ outcome: "overridden", ...(reason && { overrideReason: { reason } }) }, () =>
      element("p", { class: "done" }, reason ? `Dismissed: ${reason.display}` : "Dismissed"),
    );
  if (!reasons.length) return element("button", { type: "button", onclick: () => dismiss(null) }, "Dismiss");

  const items = reasons.map((reason) =>
    element("button", { type: "button", role: "menuitem", tabindex: "-1", onclick: () => dismiss(reason) }, reason.display),
  );
  const menu = element("div", { class: "menu", role: "menu", "aria-label": "Reason for dismissing", hidden: true }, items);
  const button = element("button", { type: "button", "aria-haspopup": "menu", "aria-expanded": "false" }, "Dismiss…");
  const open = (isOpen) => {
    menu.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
    (isOpen ? items[0] : button).focus();
  };
  button.addEventListener("click", () => open(menu.hidden));
  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    open(true);
  });
  menu.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
  moveFocusByArrows(menu, () => items);
  const box = element("div", { class: "menu-box" }, button, menu);
  box.addEventListener("focusout", ({ relatedTarget }) => {
    if (!relatedTarget || box.contains(relatedTarget)) return;
    menu.hidden = true;
    button.setAttribute("aria-expanded", "false");
  });
  return box;
}

function setBusy(actions, isBusy) {
  for (const button of actions.querySelectorAll("button")) button.disabled = isBusy;
}

function cardLinks(links) {
  const items = links.map((link) => element("li", {}, outsideLink(link.url, link.label)));
  return items.length > 0 && element("ul", { class: "card-links" }, items);
}

function source({ label, url, topic }) {
  const name = url ? outsideLink(url, label) : label;
  return element("p", { class: "card-source" }, "Source: ", name, topic && ` · ${topic.display ?? topic.code}`);
}

/** A 200 with no cards. */
export function nothingToSay() {
  return element(
    "div",
    { class: "no-card" },
    element("h3", {}, "No card"),
    element("p", {}, "The service was asked and has nothing to say about this patient."),
  );
}

/** Anything but a 200: red, with the status and the service's own words. */
export function failureNote(title, failure) {
  return element(
    "div",
    { class: "failure", role: "alert" },
    element("h3", {}, title),
    element("p", { class: "failure-status" }, failure.message),
    failure.reasons?.length > 0 && element("ul", {}, failure.reasons.map((reason) => element("li", {}, reason))),
    element("p", {}, "No conclusion can be drawn from this about the patient’s risk."),
  );
}

/** The newest stored RiskAssessment, or that there is none. */
export function storedAssessment(assessment) {
  return element(
    "section",
    { class: "stored" },
    element("h3", {}, "Stored RiskAssessment"),
    assessment ? assessmentFacts(assessment) : element("p", {}, "None: this patient was not scored."),
  );
}

function assessmentFacts(assessment) {
  const prediction = assessment.prediction[0];
  const percent = prediction.probabilityDecimal;
  const level = prediction.qualitativeRisk?.text ?? prediction.qualitativeRisk?.coding?.[0]?.display ?? prediction.qualitativeRisk?.coding?.[0]?.code;
  const relative = prediction.relativeRisk;
  const rows = [
    ["Outcome", prediction.outcome?.text],
    ["Relative risk", relative !== undefined && `${relative.toFixed(1)} × the average of the model’s population`],
    ["Assessed", assessment.occurrenceDateTime && dateText(assessment.occurrenceDateTime)],
    ["Model", assessment.method?.text ?? assessment.method?.coding?.[0]?.code],
    ["Based on", `${(assessment.basis ?? []).length} Observations`],
  ].filter(([, value]) => value);
  return [
    element(
      "p",
      { class: "probability" },
      element("b", {}, `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`),
      level && element("span", { class: "chip" }, level.toLowerCase()),
    ),
    element("meter", { min: 0, max: 100, value: percent, "aria-label": "Probability in percent" }),
    element("dl", {}, rows.map(([term, value]) => [element("dt", {}, term), element("dd", {}, value)])),
  ];
}

function json(resource) {
  return element("pre", { class: "json", tabindex: "0" }, JSON.stringify(resource, null, 2));
}
