// Build elements. Text goes in as text nodes and nothing else: no string ever becomes markup.

/** An element with these properties (`class`, `on…` handlers, attributes) and children (nodes, texts, null). */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same in SVG. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

/** Change a text only where it differs, so that nothing is announced or selected anew each second. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

let ids = 0;

/** An id that no other element has. */
export function newId() {
  ids += 1;
  return `e${ids}`;
}

/** A table; headings that begin with # stand over numbers. */
export function table(caption, headings, rows) {
  const heads = headings.map((text) => el("th", { scope: "col", class: text.startsWith("#") ? "number" : null }, text.replace("#", "")));
  return el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

/** A cell of a number. */
export function number(text) {
  return el("td", { class: "number" }, text);
}

/** Replace the content only where its text differs: a selection or focus in it stays. */
export function replace(node, content) {
  if (node.textContent === (content?.textContent ?? "") && node.childElementCount === (content ? 1 : 0)) return;
  node.replaceChildren(...(content ? [content] : []));
}

/** A text with what is between backticks as code. */
export function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/** A failure as a person reads it; what is no answer of the console's is thrown on. */
export function problem(failure, what) {
  if (failure.status === undefined) throw failure;
  return el("p", { class: "notice bad", role: "alert" }, `${what}: ${failure.message}.`);
}

/** A dialog with a heading and a button that closes it; it is gone when it is closed. */
export function dialog(heading, properties, ...children) {
  const { onclose = () => {}, ...rest } = properties;
  const node = el("dialog", { "aria-label": heading, ...rest, onclose: () => { node.remove(); onclose(); } },
    el("header", {}, el("h2", {}, heading), el("button", { type: "button", onclick: () => node.close() }, "Close")), ...children);
  document.body.append(node);
  node.showModal();
  return node;
}

/** A field of a form: its input, and a node with the label and a hint. */
export function field(label, properties, hint) {
  const id = newId();
  const { tag = "input", options = [], ...rest } = properties;
  const input = el(tag, { id, autocomplete: "off", ...rest }, ...options.map(([value, text]) => el("option", { value }, text)));
  return { input, node: el("div", { class: "field" }, el("label", { for: id }, label), input, hint ? el("small", {}, hint) : null) };
}
