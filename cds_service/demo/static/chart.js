// The chart as a clinician reads it: who this is, what was measured, what is known.

import { element, fill } from "./elements.js";

const DAY_MS = 86_400_000;
const VOID = ["entered-in-error", "cancelled"];
const UNITS = {
  "mm[Hg]": "mmHg",
  "kg/m2": "kg/m²",
  "10*3/uL": "10³/µL",
  "10*9/L": "10⁹/L",
  "umol/L": "µmol/L",
};
const MONTH = { month: "short", year: "numeric" };
const NOUNS = { female: ["girl", "woman"], male: ["boy", "man"] };

export function nameOf(patient) {
  const name = patient.name[0];
  return `${name.given.join(" ")} ${name.family}`;
}

export function initialsOf(patient) {
  const name = patient.name[0];
  return name.given[0][0] + name.family[0];
}

/** Whole years, up to death where there is one. */
export function ageOf(patient, today = new Date()) {
  const born = new Date(patient.birthDate);
  const until = patient.deceasedDateTime ? new Date(patient.deceasedDateTime) : today;
  const birthdayToCome =
    until.getMonth() < born.getMonth() ||
    (until.getMonth() === born.getMonth() && until.getDate() < born.getDate());
  return until.getFullYear() - born.getFullYear() - (birthdayToCome ? 1 : 0);
}

export function describe(patient) {
  const age = ageOf(patient);
  const noun = (NOUNS[patient.gender] ?? ["child", "adult"])[age < 18 ? 0 : 1];
  return `${age}-year-old ${noun}`;
}

/** As a person writes the unit: `mm[Hg]` is mmHg. */
export function unitText(unit) {
  return UNITS[unit] ?? unit;
}

export function dateText(date) {
  return new Date(date).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function renderBanner(node, patient) {
  const facts = [
    describe(patient),
    `born ${dateText(patient.birthDate)}`,
    `MRN ${patient.identifier[0].value}`,
  ];
  return fill(
    node,
    element("span", { class: "avatar avatar-large", "aria-hidden": "true" }, initialsOf(patient)),
    element(
      "div",
      {},
      element("h1", {}, nameOf(patient)),
      element("p", { class: "facts" }, facts.map((fact) => element("span", {}, fact))),
    ),
    patient.deceasedDateTime &&
      element("p", { class: "flag" }, `Died ${dateText(patient.deceasedDateTime)}`),
  );
}

export function renderRecord(node, { observations, conditions, medications }) {
  const inCategory = (code) =>
    observations.filter((found) => found.category[0].coding[0].code === code);
  return fill(
    node,
    section("Problems", conditions, problemList),
    section("Medications", medications, medicationList),
    section("Vital signs", inCategory("vital-signs"), resultTable),
    section("Laboratory", inCategory("laboratory"), resultTable),
    element("p", { class: "legend", id: "legend", hidden: true }, usedMark(), " reached the model."),
  );
}

/** Marks the rows whose Observation is in the RiskAssessment's basis. */
export function markUsed(node, assessment) {
  const used = new Set((assessment?.basis ?? []).map(({ reference }) => reference));
  let any = false;
  for (const row of node.querySelectorAll("[data-observations]")) {
    const isUsed = row.dataset.observations.split(" ").some((id) => used.has(`Observation/${id}`));
    row.querySelector(".used").replaceChildren(...(isUsed ? [usedMark()] : []));
    any ||= isUsed;
  }
  node.querySelector("#legend").hidden = !any;
}

function usedMark() {
  return element("span", { class: "used-mark", role: "img", "aria-label": "Used:", title: "This value reached the model" });
}

function section(title, items, render) {
  return element(
    "section",
    { class: "panel" },
    element("h2", { class: "panel-title" }, title),
    items.length ? render(items) : element("p", { class: "nothing" }, "Nothing on file."),
  );
}

function problemList(conditions) {
  return element(
    "ul",
    { class: "facts-list" },
    conditions.map((condition) =>
      element(
        "li",
        {},
        element("b", {}, condition.code.text),
        element("span", { class: "codes" }, condition.code.coding.map(({ code }) => element("code", {}, code))),
        element("span", { class: "since" }, `since ${new Date(condition.onsetDateTime).getFullYear()}`),
      ),
    ),
  );
}

function medicationList(requests) {
  return element(
    "ul",
    { class: "facts-list" },
    requests.map((request) =>
      element(
        "li",
        {},
        element("b", {}, request.medicationCodeableConcept.text),
        element("span", { class: "since" }, request.dosageInstruction[0].text),
      ),
    ),
  );
}

/** One row for each test: the latest valid result, and the earlier ones beside it. */
function resultTable(observations) {
  const byTest = new Map();
  for (const observation of observations) {
    const label = observation.code.text;
    byTest.set(label, [...(byTest.get(label) ?? []), observation]);
  }
  const head = ["Used", "Test", "Result", "Reference", "Date", "Earlier"];
  return element(
    "div",
    { class: "table-scroll" },
    element(
      "table",
      { class: "results" },
      element("thead", {}, element("tr", {}, head.map(columnHead))),
      element("tbody", {}, [...byTest].map(([label, found]) => resultRow(label, found))),
    ),
  );
}

function resultRow(label, observations) {
  const newestFirst = observations.toSorted((a, b) => b.effectiveDateTime.localeCompare(a.effectiveDateTime));
  const latest = newestFirst.find(({ status }) => !VOID.includes(status)) ?? newestFirst[0];
  const earlier = newestFirst.filter((observation) => observation !== latest);
  return element(
    "tr",
    { "data-observations": latest.id },
    element("td", { class: "used" }),
    element("th", { scope: "row" }, label),
    element("td", { class: "result" }, valueText(latest), flag(latest)),
    element("td", { class: "reference" }, referenceText(latest)),
    element("td", { class: "date" }, dateText(latest.effectiveDateTime), element("small", {}, agoText(latest.effectiveDateTime))),
    element("td", { class: "earlier" }, earlier.map(earlierResult)),
  );
}

function earlierResult(observation) {
  const when = new Date(observation.effectiveDateTime).toLocaleDateString("en-GB", MONTH);
  if (!VOID.includes(observation.status)) {
    return element("span", {}, element("b", {}, numberText(observation)), ` ${when}`);
  }
  return element("span", { class: "void" }, element("s", {}, numberText(observation)), ` ${observation.status.replaceAll("-", " ")}`);
}

function valueText(observation) {
  const { unit } = observation.valueQuantity ?? observation.component[0].valueQuantity;
  return [element("b", {}, numberText(observation)), " ", element("span", { class: "unit" }, unitText(unit))];
}

function numberText({ valueQuantity, component }) {
  if (valueQuantity) return String(valueQuantity.value);
  return component.map((part) => part.valueQuantity.value).join("/");
}

function flag(observation) {
  const code = observation.interpretation?.[0].coding[0].code;
  const words = { H: "high", L: "low" }[code];
  return words && element("abbr", { class: "abnormal", title: words }, code);
}

function referenceText({ referenceRange }) {
  const { low, high } = referenceRange?.[0] ?? {};
  if (low && high) return `${low.value}–${high.value}`;
  if (high) return `≤ ${high.value}`;
  return low ? `≥ ${low.value}` : "";
}

function agoText(date) {
  const days = Math.floor((Date.now() - new Date(date)) / DAY_MS);
  if (days < 60) return `${days} d ago`;
  return days < 730 ? `${Math.round(days / 30.4)} mo ago` : `${Math.round(days / 365.25)} y ago`;
}

function columnHead(title) {
  const text = title === "Used" ? element("span", { class: "visually-hidden" }, title) : title;
  return element("th", { scope: "col", class: title.toLowerCase() }, text);
}
