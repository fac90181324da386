// A safe part of GitHub-flavoured Markdown, enough for a card's detail: paragraphs, headings, lists,
// tables, quotes, rules; bold, italic, code, links. Raw HTML is text. Anything else is text too.

import { element, outsideLink } from "./elements.js";

/** Markdown → a fragment of DOM nodes. */
export function renderMarkdown(markdown) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(markdown.replace(/\r\n?/g, "\n").split("\n")));
  return fragment;
}

const BLANK = /^\s*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const BULLET = /^( {0,3})[-*+]\s+(.*)$/;
const NUMBER = /^( {0,3})(\d{1,9})[.)]\s+(.*)$/;
const QUOTE = /^ {0,3}>\s?(.*)$/;
const TABLE_RULE = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

function blocks(lines) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (BLANK.test(line)) {
      at += 1;
    } else if (HEADING.test(line)) {
      const [, marks, text] = HEADING.exec(line);
      // The card's summary is an h3, so its detail starts one level below.
      nodes.push(element(`h${Math.min(marks.length + 3, 6)}`, {}, ...inline(text)));
      at += 1;
    } else if (RULE.test(line)) {
      nodes.push(element("hr"));
      at += 1;
    } else {
      const [node, next] = longBlock(lines, at);
      nodes.push(node);
      at = next;
    }
  }
  return nodes;
}

function longBlock(lines, at) {
  if (isTable(lines, at)) return table(lines, at);
  if (BULLET.test(lines[at]) || NUMBER.test(lines[at])) return list(lines, at);
  if (QUOTE.test(lines[at])) return quote(lines, at);
  return paragraph(lines, at);
}

function isTable(lines, at) {
  return lines[at].includes("|") && TABLE_RULE.test(lines[at + 1] ?? "") && lines[at + 1].includes("-");
}

function table(lines, start) {
  const alignments = cells(lines[start + 1]).map((rule) =>
    rule.endsWith(":") ? (rule.startsWith(":") ? "align-center" : "align-right") : null,
  );
  const row = (tag, line) =>
    element("tr", {}, ...alignments.map((align, n) => element(tag, { class: align }, ...inline(cells(line)[n] ?? ""))));
  let end = start + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const head = cells(lines[start]).some((cell) => cell) ? element("thead", {}, row("th", lines[start])) : null;
  const body = element("tbody", {}, ...lines.slice(start + 2, end).map((line) => row("td", line)));
  const scroll = element("div", { class: "table-scroll" }, element("table", {}, head, body));
  return [scroll, end];
}

/** Cells of a table row; `\|` is a pipe within a cell. */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, "|"));
}

function list(lines, start) {
  const ordered = NUMBER.test(lines[start]);
  const marker = ordered ? NUMBER : BULLET;
  const items = [];
  let at = start;
  while (at < lines.length) {
    const found = marker.exec(lines[at]);
    if (found && !RULE.test(lines[at])) items.push([found.at(-1)]);
    else if (/^\s{2,}\S/.test(lines[at])) items.at(-1).push(lines[at].replace(/^\s{2,4}/, ""));
    else break;
    at += 1;
  }
  const nodes = items.map((item) => element("li", {}, ...itemContent(item)));
  return [element(ordered ? "ol" : "ul", {}, ...nodes), at];
}

/** The item's own text, then whatever is nested under it. */
function itemContent(item) {
  const nested = item.findIndex((line, n) => n > 0 && (BULLET.test(line) || NUMBER.test(line)));
  const own = nested < 0 ? item : item.slice(0, nested);
  return [...inline(own.join("\n")), ...(nested < 0 ? [] : blocks(item.slice(nested)))];
}

function quote(lines, start) {
  let end = start;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inside = lines.slice(start, end).map((line) => QUOTE.exec(line)[1]);
  return [element("blockquote", {}, ...blocks(inside)), end];
}

function paragraph(lines, start) {
  let end = start + 1;
  while (end < lines.length && !BLANK.test(lines[end]) && !interrupts(lines, end)) end += 1;
  return [element("p", {}, ...inline(lines.slice(start, end).join("\n"))), end];
}

function interrupts(lines, at) {
  return [HEADING, RULE, BULLET, QUOTE].some((start) => start.test(lines[at])) || isTable(lines, at);
}

// Tried in this order at every position; what none of them matches is text.
const INLINE = [
  [/^\\([!-/:-@[-`{-~])/, ([, character]) => character],
  [/^(`+)([\s\S]*?[^`])\1(?!`)/, ([, , code]) => element("code", {}, code.trim())],
  [/^&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w+);/, ([text, name]) => entity(name) ?? text],
  [/^!?\[((?:\\.|[^[\]\\])*)\]\(\s*<?([^\s()<>]*)>?(?:\s+"[^"]*")?\s*\)/, ([, text, url]) => outsideLink(url, ...inline(text))],
  [/^<(https?:\/\/[^\s<>]+)>/, ([, url]) => outsideLink(url, url)],
  [/^\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/, ([, text]) => element("strong", {}, ...inline(text))],
  [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, ([, text]) => element("strong", {}, ...inline(text))],
  [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, ([, text]) => element("em", {}, ...inline(text))],
  [/^_(?=[^\s_])([\s\S]*?[^\s_])_(?!\w)/, ([, text]) => element("em", {}, ...inline(text))],
  [/^(?: {2,}|\\)\n/, () => element("br")],
  // A date is not broken at its hyphens.
  [/^\d{4}-\d\d-\d\d(?!\w)/, ([date]) => element("time", {}, date)],
  // A run of words, up to a date or a hard break.
  [/^(?:(?! {2,}\n|\d{4}-\d)[\w\s])+/, ([text]) => text],
];

function inline(text) {
  const nodes = [];
  let rest = text;
  while (rest) {
    const [consumed, node] = firstInline(rest);
    nodes.push(node);
    rest = rest.slice(consumed);
  }
  return nodes;
}

function firstInline(text) {
  for (const [pattern, make] of INLINE) {
    const found = pattern.exec(text);
    if (found) return [found[0].length, make(found)];
  }
  return [1, text[0]];
}

const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

function entity(name) {
  if (!name.startsWith("#")) return ENTITIES[name];
  const hexadecimal = /^#[xX]/.test(name);
  const codePoint = parseInt(name.slice(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10);
  return codePoint <= 0x10ffff ? String.fromCodePoint(codePoint) : undefined;
}
