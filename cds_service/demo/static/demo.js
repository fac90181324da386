// The demo EHR: a patient list, a chart, and what an EHR does when a chart is opened.

import { ageOf, markUsed, nameOf, initialsOf, renderBanner, renderRecord } from "./chart.js";
import { failureNote, nothingToSay, renderCard, storedAssessment } from "./decision-support.js";
import * as ehr from "./ehr.js";
import { element, fill, moveFocusByArrows } from "./elements.js";
import { ExchangeView, milliseconds } from "./exchange.js";

const USER = "Practitioner/demo-clinician";
const MARKS = { info: "Information", warning: "Warning", critical: "Critical", none: "No card", failed: "No answer" };

const byId = (id) => document.getElementById(id);
const exchange = new ExchangeView(byId("exchange"));
const titles = ehr.featureTitles();
// The chart that is open. Answers that arrive for an older one are dropped.
let visit = 0;

start();

async function start() {
  try {
    const { body } = await ehr.patients();
    fill(byId("patient-list"), body.map(listEntry));
  } catch (failure) {
    fill(byId("welcome"), failureNote("The patient list could not be read.", failure));
    return;
  }
  moveFocusByArrows(byId("patient-list"), listLinks);
  byId("back").addEventListener("click", () => (location.hash = ""));
  window.addEventListener("hashchange", openFromHash);
  openFromHash();
}

function listEntry({ patient, story }, n) {
  const sex = { female: "F", male: "M" }[patient.gender] ?? "";
  return element(
    "li",
    {},
    element(
      "a",
      { href: `#patient/${patient.id}`, id: `open-${patient.id}`, tabindex: n === 0 ? "0" : "-1" },
      element("span", { class: "avatar", "aria-hidden": "true" }, initialsOf(patient)),
      element(
        "span",
        { class: "list-name" },
        element("span", {}, nameOf(patient)),
        element("span", { class: "mark", role: "img", hidden: true }),
        element("span", { class: "list-age" }, `${ageOf(patient)} ${sex}`),
      ),
      element("span", { class: "story" }, story),
    ),
  );
}

function listLinks() {
  return [...byId("patient-list").querySelectorAll("a")];
}

function openFromHash() {
  const id = /^#patient\/([A-Za-z0-9.-]{1,64})$/.exec(location.hash)?.[1];
  const link = id && byId(`open-${id}`);
  for (const other of listLinks()) {
    other.toggleAttribute("aria-current", false);
    if (link) other.tabIndex = other === link ? 0 : -1;
  }
  visit += 1;
  document.body.dataset.view = link ? "chart" : "list";
  byId("welcome").hidden = Boolean(link);
  byId("open-chart").hidden = !link;
  if (!link) {
    document.title = "Demo EHR";
    // Back from a chart, to where it was opened.
    if (visit > 1) listLinks().find(({ tabIndex }) => tabIndex === 0)?.focus();
    return;
  }
  link.setAttribute("aria-current", "page");
  // On a narrow screen the list is gone, and with it the focus.
  if (link.offsetParent === null) byId("chart").focus();
  openChart(id, visit);
}

/** Opens the chart: the record and the hook call run side by side, as in an EHR. */
async function openChart(id, thisVisit) {
  const isOpen = () => thisVisit === visit;
  exchange.clear();
  fill(byId("support"));
  fill(byId("record"));
  fill(byId("banner"));
  byId("support-status").textContent = "Asking the service…";
  byId("open-chart").setAttribute("aria-busy", "true");
  const record = showRecord(id, isOpen);
  const assessment = await askForSupport(id, isOpen);
  await record;
  if (!isOpen()) return;
  markUsed(byId("record"), assessment);
  byId("open-chart").setAttribute("aria-busy", "false");
}

async function showRecord(id, isOpen) {
  try {
    const [[patient], observations, conditions, medications] = await Promise.all([
      ehr.search(`Patient?_id=${id}`),
      ehr.search(`Observation?patient=${id}&_sort=-date`),
      ehr.search(`Condition?patient=${id}`),
      ehr.search(`MedicationRequest?patient=${id}`),
    ]);
    if (!isOpen()) return;
    document.title = `${nameOf(patient)} · Demo EHR`;
    renderBanner(byId("banner"), patient);
    renderRecord(byId("record"), { observations, conditions, medications });
  } catch (failure) {
    if (isOpen()) fill(byId("record"), failureNote("The chart could not be read.", failure));
  }
}

/** Discovery, prefetch, call, cards; then the stored RiskAssessment, which is returned. */
async function askForSupport(id, isOpen) {
  const context = { userId: USER, patientId: id };
  let services;
  try {
    const discovery = await ehr.discover();
    if (!isOpen()) return undefined;
    exchange.show({ ...discovery, label: "Discovery", content: discovery.body });
    services = discovery.body.services.filter(({ hook }) => hook === "patient-view");
  } catch (failure) {
    if (isOpen()) {
      markInList(id, ["failed"]);
      showFailure("The service could not be discovered.", "Discovery", failure);
    }
    return undefined;
  }
  if (!services.length) {
    byId("support-status").textContent = "No service on offer listens to the opening of a chart.";
    return undefined;
  }
  const outcomes = await Promise.all(services.map((service) => askService(service, context, isOpen)));
  if (!isOpen()) return undefined;
  markInList(id, outcomes);
  if (outcomes.every((outcome) => outcome === "none")) byId("support").append(nothingToSay());
  return showStored(id, isOpen, { failed: outcomes.includes("failed"), titles: await titles });
}

/** Resolves to the most urgent indicator shown, "none", or "failed". */
async function askService(service, context, isOpen) {
  try {
    const { prefetch, queries } = await ehr.resolvePrefetch(service.prefetch ?? {}, context);
    if (!isOpen()) return "none";
    exchange.show(prefetchStep(queries));
    const answer = await ehr.callHook(service, context, prefetch);
    if (!isOpen()) return "none";
    showCall(answer);
    byId("support-status").textContent = `${service.title ?? service.id} answered in ${milliseconds(answer.ms)}.`;
    const cards = answer.body.cards.map((card) => renderCard(card, (feedback) => respond(service, feedback)));
    byId("support").append(...cards);
    return mostUrgent(answer.body.cards);
  } catch (failure) {
    if (isOpen()) {
      if (failure.exchange) showCall(failure.exchange);
      showFailure("The service could not answer.", "Answer", failure);
    }
    return "failed";
  }
}

function prefetchStep(queries) {
  const ms = Math.max(0, ...queries.map(({ exchange: made }) => made?.ms ?? 0));
  const content = Object.fromEntries(
    queries.map(({ key, template, exchange: made }) => [
      key,
      {
        template,
        ...(made
          ? { query: made.url.replace("/demo/fhir/", ""), status: made.status, found: countOf(made.body) }
          : { leftOut: "a token of this template could not be filled in" }),
      },
    ]),
  );
  return { label: "Prefetch", method: `${queries.length} ×`, url: "GET from the EHR’s own FHIR server", ms, content };
}

function countOf(body) {
  return body?.resourceType === "Bundle" ? `${body.entry?.length ?? 0} of ${body.total}` : body?.resourceType;
}

function showCall(made) {
  const { method, url, status, ms } = made;
  exchange.show({ label: "Request", method, url, note: "hookInstance is new with every call", content: made.request });
  exchange.show({ label: "Answer", method, url, status, ms, content: made.body }, { select: true });
}

function mostUrgent(cards) {
  return ["critical", "warning", "info"].find((indicator) => cards.some((card) => card.indicator === indicator)) ?? "none";
}

function showFailure(title, label, failure) {
  byId("support-status").textContent = "";
  byId("support").append(failureNote(title, failure));
  const made = failure.exchange;
  if (made) exchange.show({ ...made, label, content: made.body }, { select: true });
}

function markInList(id, outcomes) {
  const rank = ["failed", "critical", "warning", "info", "none"];
  const kind = rank.find((candidate) => outcomes.includes(candidate)) ?? "none";
  const mark = byId(`open-${id}`).querySelector(".mark");
  mark.dataset.kind = kind;
  mark.title = MARKS[kind];
  mark.setAttribute("aria-label", MARKS[kind]);
  mark.hidden = false;
}

async function showStored(id, isOpen, about) {
  try {
    const stored = await ehr.storedAssessments(id);
    if (!isOpen()) return undefined;
    const newest = (stored.body.entry ?? [])
      .map((entry) => entry.resource)
      .toSorted((a, b) => (b.occurrenceDateTime ?? "").localeCompare(a.occurrenceDateTime ?? ""))[0];
    exchange.show({ ...stored, label: "RiskAssessment", content: newest ?? stored.body });
    byId("support").append(storedAssessment(newest, about));
    return newest;
  } catch (failure) {
    if (isOpen()) byId("support").append(failureNote("The stored RiskAssessment could not be read.", failure));
    return undefined;
  }
}

async function respond(service, feedback) {
  const sent = await ehr.sendFeedback(service.id, feedback);
  exchange.show({ ...sent, label: "Feedback", content: sent.request }, { select: true });
}
