// What went over the wire: one tab for each step, with its status, its time and its JSON.

import { element, fill, moveFocusByArrows } from "./elements.js";

/** A step is {label, method, url, status, ms, content}; the tabs keep the order of the steps. */
export class ExchangeView {
  #node;
  #steps = [];
  #selected = 0;

  constructor(node) {
    this.#node = node;
    moveFocusByArrows(node, () => [...node.querySelectorAll("[role=tab]")], ["ArrowLeft", "ArrowRight"], (tab) => tab.click());
  }

  clear() {
    this.#steps = [];
    this.#selected = 0;
    this.#node.replaceChildren();
  }

  /** A step of the same label is replaced. `select` brings it to the front. */
  show(step, { select = false } = {}) {
    const known = this.#steps.findIndex(({ label }) => label === step.label);
    const at = known < 0 ? this.#steps.length : known;
    this.#steps[at] = step;
    if (select) this.#selected = at;
    this.#render();
  }

  #render() {
    const tabs = this.#steps.map((step, n) => this.#tab(step, n));
    fill(this.#node, element("div", { class: "tabs", role: "tablist", "aria-labelledby": "exchange-title" }, tabs), this.#panel());
  }

  #tab(step, n) {
    const isSelected = n === this.#selected;
    const select = () => {
      this.#selected = n;
      this.#render();
      this.#node.querySelector("[aria-selected=true]").focus();
    };
    return element(
      "button",
      {
        type: "button",
        role: "tab",
        id: `exchange-tab-${n}`,
        "aria-selected": String(isSelected),
        "aria-controls": "exchange-panel",
        tabindex: isSelected ? "0" : "-1",
        onclick: select,
      },
      step.label,
      step.ms !== undefined && element("small", {}, milliseconds(step.ms)),
    );
  }

  #panel() {
    const step = this.#steps[this.#selected];
    return element(
      "div",
      { role: "tabpanel", id: "exchange-panel", "aria-labelledby": `exchange-tab-${this.#selected}` },
      element(
        "p",
        { class: "request-line" },
        element("b", {}, step.method),
        " ",
        element("code", {}, step.url),
        step.status !== undefined &&
          element("span", { class: step.status >= 200 && step.status < 300 ? "status" : "status status-bad" }, String(step.status || "no answer")),
        step.ms !== undefined && element("span", { class: "time" }, milliseconds(step.ms)),
        step.note && element("span", { class: "note" }, step.note),
      ),
      element("pre", { class: "json", tabindex: "0", "aria-label": `${step.label} as JSON` }, coloured(step.content)),
    );
  }
}

export function milliseconds(ms) {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

const JSON_TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** JSON as text nodes and spans: keys, strings and numbers in colours of their own. */
function coloured(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value ?? null, null, 2);
  const nodes = [];
  let at = 0;
  for (const found of text.matchAll(JSON_TOKEN)) {
    const [all, string, colon] = found;
    const kind = colon ? "json-key" : string ? "json-string" : "json-number";
    nodes.push(text.slice(at, found.index), element("span", { class: kind }, string ?? all), colon ?? "");
    at = found.index + all.length;
  }
  return [...nodes, text.slice(at)];
}
