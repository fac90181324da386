// The sidebar: cards, what a clinician does with them, and what the service has stored.
// "Nothing to say" and "it went wrong" look different and read differently.

import { dateText, unitText } from "./chart.js";
import { element, fill, moveFocusByArrows, outsideLink } from "./elements.js";
import { renderMarkdown } from "./markdown.js";

const CONTRIBUTION = "urn:cds-service:extension:feature-contribution";
const STRONGEST = 6;
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

/** The newest stored RiskAssessment, or why there is none; `titles` names the model's features. */
export function storedAssessment(assessment, { failed, titles }) {
  const none = failed ? "None for this patient." : "None: this patient was not scored.";
  return element(
    "section",
    { class: "stored" },
    element("h3", {}, "Stored RiskAssessment"),
    assessment ? assessmentFacts(assessment, titles) : element("p", {}, none),
  );
}

function assessmentFacts(assessment, titles) {
  const prediction = assessment.prediction[0];
  const percent = prediction.probabilityDecimal;
  const level = prediction.qualitativeRisk?.coding?.[0];
  const rows = [
    ["Outcome", prediction.outcome?.text],
    ["Relative risk", prediction.relativeRisk && `${prediction.relativeRisk.toFixed(1)} × the model’s average`],
    ["Assessed", assessment.occurrenceDateTime && dateText(assessment.occurrenceDateTime)],
    ["Model", modelOf(assessment.method?.coding?.[0])],
    ["Based on", `${(assessment.basis ?? []).length} Observations`],
  ].filter(([, value]) => value);
  return [
    element(
      "p",
      { class: "probability" },
      element("b", {}, `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`),
      level && element("span", { class: "chip" }, (level.display ?? level.code).toLowerCase()),
    ),
    element("meter", { min: 0, max: 100, value: percent, "aria-label": "Probability in percent" }),
    contributions(prediction, titles),
    element("dl", {}, rows.map(([term, value]) => [element("dt", {}, term), element("dd", {}, value)])),
  ];
}

function modelOf(coding) {
  return coding && element("code", {}, [coding.code, coding.version].filter(Boolean).join(" "));
}

/** What moved the estimate: bars to the right raise the risk, to the left lower it. */
function contributions(prediction, titles) {
  const all = (prediction.extension ?? [])
    .filter(({ url }) => url === CONTRIBUTION)
    .map(({ extension }) => Object.fromEntries(extension.map((part) => [part.url, part])))
    .map((parts) => ({
      name: titles[parts.feature.valueString] ?? parts.feature.valueString,
      value: parts.value?.valueQuantity,
      logOdds: parts.logOdds.valueDecimal,
    }))
    .toSorted((a, b) => Math.abs(b.logOdds) - Math.abs(a.logOdds));
  if (!all.length) return null;
  const strongest = all.slice(0, STRONGEST);
  const widest = Math.abs(strongest[0].logOdds) || 1;
  const rest = all.slice(STRONGEST).reduce((sum, { logOdds }) => sum + logOdds, 0);
  return element(
    "figure",
    { class: "contributions" },
    element("figcaption", {}, "What moved the estimate, in log-odds"),
    element(
      "ul",
      {},
      strongest.map((share) => contribution(share, widest)),
      all.length > STRONGEST && element("li", { class: "rest" }, element("span", {}, `${all.length - STRONGEST} more, together`), element("span", { class: "share" }, signed(rest))),
    ),
  );
}

function contribution({ name, value, logOdds }, widest) {
  const bar = element("span", { class: logOdds < 0 ? "bar lowers" : "bar" });
  // Through the DOM, not as a style attribute: the page's policy allows no inline styles.
  bar.style.width = `${(Math.abs(logOdds) / widest) * 50}%`;
  return element(
    "li",
    {},
    element("span", { class: "feature" }, name, " ", element("small", {}, quantityText(value))),
    element("span", { class: "track", "aria-hidden": "true" }, bar),
    element("span", { class: "share" }, signed(logOdds)),
  );
}

function quantityText(quantity) {
  if (!quantity) return "not recorded";
  // Unit 1: a category, whose number says nothing to a reader.
  return quantity.unit === "1" ? "" : `${quantity.value} ${quantity.unit === "a" ? "years" : unitText(quantity.unit)}`;
}

function signed(logOdds) {
  return `${logOdds < 0 ? "−" : "+"}${Math.abs(logOdds).toFixed(2)}`;
}

function json(resource) {
  return element("pre", { class: "json", tabindex: "0" }, JSON.stringify(resource, null, 2));
}
