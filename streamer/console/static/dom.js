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
