// DOM nodes are built, never parsed from text: nothing that a record or a card says can become
// markup.

/** `element("p", {class: "note"}, "text", otherNode)`; a null or false child is left out. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  append(node, children);
  return node;
}

/** Empties `node` and fills it anew. */
export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

function append(node, children) {
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== undefined));
}

/** Links from cards and records lead to the web or nowhere: no `javascript:`, no `data:`. */
export function safeUrl(url) {
  try {
    const parsed = new URL(url);
    return ["http:", "https:"].includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

/** A link that opens beside the chart and tells the other page nothing; text where it is unsafe. */
export function outsideLink(url, ...children) {
  const href = safeUrl(url);
  if (!href) return element("span", {}, ...children);
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children);
}

/** Arrow keys, Home and End move the focus among `items()`; `keys` are [back, forward]. */
export function moveFocusByArrows(container, items, keys = ["ArrowUp", "ArrowDown"], moved = () => {}) {
  container.addEventListener("keydown", (event) => {
    const all = items();
    const here = all.indexOf(document.activeElement);
    const next = {
      [keys[0]]: (here - 1 + all.length) % all.length,
      [keys[1]]: (here + 1) % all.length,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (here < 0 || next === undefined) return;
    event.preventDefault();
    for (const item of all) item.tabIndex = -1;
    all[next].tabIndex = 0;
    all[next].focus();
    moved(all[next]);
  });
}
