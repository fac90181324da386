// The EHR's side of the wire. Each call is kept as an Exchange, so that the page can show it:
// {method, url, status, ms, request?, body}. A call that fails throws a Failure, never returns "no
// cards".

const FHIR = "demo/fhir/";
const DISCOVERY = "cds-services";

/** A call that was not answered with a 2xx: the exchange, and the service's reasons in words. */
export class Failure extends Error {
  constructor(exchange) {
    super(exchange.status ? `${exchange.status} ${exchange.statusText}`.trim() : "No answer");
    this.exchange = exchange;
    this.reasons = reasonsIn(exchange);
  }
}

export function patients() {
  return call("GET", "demo/patients");
}

export function discover() {
  return call("GET", DISCOVERY);
}

/** A search on the demo EHR's own FHIR server: the resources found. */
export async function search(query) {
  const { body } = await call("GET", FHIR + query);
  return (body.entry ?? []).map((entry) => entry.resource);
}

/**
 * Answers the templates of a service as the public CDS Hooks Sandbox does: a key whose token is
 * not known, or whose query fails, is left out.
 */
export async function resolvePrefetch(templates, context) {
  const answered = await Promise.all(
    Object.entries(templates).map(async ([key, template]) => {
      const query = fillTokens(template, context);
      if (query === null) return { key, template };
      try {
        return { key, template, exchange: await call("GET", FHIR + query) };
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure;
        return { key, template, exchange: failure.exchange, failed: true };
      }
    }),
  );
  const usable = answered.filter(({ exchange, failed }) => exchange && !failed);
  const prefetch = Object.fromEntries(usable.map(({ key, exchange }) => [key, exchange.body]));
  return { prefetch, queries: answered };
}

/** `Patient/{{context.patientId}}` → `Patient/x`; null where a token cannot be filled in. */
export function fillTokens(template, context) {
  let known = true;
  const query = template.replace(/{{([^{}]*)}}/g, (_, token) => {
    const field = token.trim().replace(/^context\./, "");
    known &&= Object.hasOwn(context, field);
    return encodeURIComponent(context[field]);
  });
  return known ? query : null;
}

export function callHook(service, context, prefetch) {
  const request = { hook: service.hook, hookInstance: uuid(), context };
  // An empty object may not be sent (CDS Hooks, "Use of JSON").
  if (Object.keys(prefetch).length) request.prefetch = prefetch;
  return call("POST", `${DISCOVERY}/${encodeURIComponent(service.id)}`, request);
}

export function sendFeedback(serviceId, feedback) {
  const dated = { ...feedback, outcomeTimestamp: new Date().toISOString() };
  return call("POST", `${DISCOVERY}/${encodeURIComponent(serviceId)}/feedback`, { feedback: [dated] });
}

export function storedAssessments(patientId) {
  return call("GET", `fhir/RiskAssessment?patient=${encodeURIComponent(patientId)}`);
}

/** Feature name → title, as the manifest has them; names speak for themselves without it. */
export async function featureTitles() {
  try {
    const { body } = await call("GET", "model-card", undefined, "application/json");
    return Object.fromEntries((body.features ?? []).map(({ name, title }) => [name, title]));
  } catch {
    return {};
  }
}

async function call(method, url, request, accept = "*/*") {
  const exchange = { method, url: `/${url}`, request, status: 0, statusText: "" };
  const started = performance.now();
  try {
    const response = await fetch(url, {
      method,
      headers: { Accept: accept, ...(request && { "Content-Type": "application/json" }) },
      body: request && JSON.stringify(request),
    });
    const text = await response.text();
    exchange.status = response.status;
    exchange.statusText = response.statusText;
    exchange.body = parsed(text);
    if (!response.ok) throw new Failure(exchange);
    return exchange;
  } catch (fault) {
    if (fault instanceof Failure) throw fault;
    throw new Failure(exchange);
  } finally {
    exchange.ms = performance.now() - started;
  }
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : undefined;
  } catch {
    return text;
  }
}

function reasonsIn({ status, body }) {
  if (!status) return ["The service could not be reached."];
  const issues = body?.resourceType === "OperationOutcome" ? body.issue ?? [] : [];
  return issues.map((issue) => {
    const where = (issue.expression ?? []).join(", ");
    const text = issue.diagnostics ?? issue.details?.text ?? issue.code;
    return where ? `${text} (${where})` : text;
  });
}

/** randomUUID exists on https and loopback only; a demo on another host needs it too. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
