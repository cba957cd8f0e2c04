// All pipelines, a row each, in the order that the console tells: the one that needs attention first.

import { el, prose, setText, svg } from "./dom.js";
import { UNKNOWN, count, ms, percent, plural, rate, seconds } from "./format.js";

export const SIGNS = { bad: "✖", warn: "▲", ok: "✓", unknown: "?" };
const WORDS = { bad: "too high", warn: "high" };
const COLUMNS = ["Pipeline", "State", "Time behind", "Records behind", "Results a second", "Dead letters, 5\u00a0min", "Latency p50 / p99", "Partitions / members"];
const FILTER_FROM = 8;

/** The overview. */
export class Overview {
  constructor(node) {
    this.rows = new Map();
    this.summary = el("p", { class: "quiet", role: "status" });
    this.filter = el("input", { type: "search", autocomplete: "off", placeholder: "part of a name", "aria-label": "Show pipelines by name", hidden: true,
      oninput: () => this.#hide() });
    this.empty = el("p", { class: "empty" }, "Waiting for the first answer of the console.");
    this.table = el("table", { class: "overview" }, el("caption", { class: "hidden" }, "Pipelines, the one that needs attention first"),
      el("thead", {}, el("tr", {}, COLUMNS.map((text, index) => el("th", { scope: "col", class: index > 1 ? "number" : null }, text)))));
    this.holder = el("div", { class: "card list", hidden: true }, this.table);
    node.append(el("header", { class: "view" }, el("h2", {}, "Pipelines"), this.summary, this.filter), this.empty, this.holder);
  }

  /** Take in what the console tells. */
  update({ pipelines }) {
    const none = pipelines.length === 0;
    this.holder.hidden = none;
    this.empty.hidden = !none;
    if (none) setText(this.empty, "The configuration has no pipeline, and no report names one. Write one with `streamer init`.");
    this.filter.hidden = pipelines.length < FILTER_FROM;
    setText(this.summary, summary(pipelines));
    const names = new Set(pipelines.map((each) => each.name));
    for (const [name, row] of this.rows) {
      if (names.has(name)) continue;
      row.node.remove();
      this.rows.delete(name);
    }
    for (const each of pipelines) {
      if (!this.rows.has(each.name)) this.rows.set(each.name, new Row(each.name));
      this.rows.get(each.name).update(each);
    }
    this.#order(pipelines);
    this.#hide();
  }

  /** Put the focus on a pipeline. */
  focus(name) {
    this.rows.get(name)?.link.focus({ preventScroll: true });
  }

  /** Move only the rows that stand elsewhere now, and leave the focus where it is. */
  #order(pipelines) {
    const focused = document.activeElement;
    let at = this.table.tHead.nextElementSibling;
    for (const { name } of pipelines) {
      const { node } = this.rows.get(name);
      if (node === at) at = at.nextElementSibling;
      else this.table.insertBefore(node, at);
    }
    if (focused !== document.activeElement && this.table.contains(focused)) focused.focus({ preventScroll: true });
  }

  #hide() {
    const part = this.filter.hidden ? "" : this.filter.value.trim().toLowerCase();
    for (const [name, row] of this.rows) row.node.hidden = !name.toLowerCase().includes(part);
  }
}

class Row {
  constructor(name) {
    this.state = el("span", { class: "state" });
    this.age = el("small", { class: "quiet" });
    this.cells = Object.fromEntries(["lag", "records", "rate", "dead", "latency", "members"].map((key) => [key, el("span")]));
    this.spark = svg("path", { "vector-effect": "non-scaling-stroke" });
    this.why = el("td", { colspan: COLUMNS.length });
    this.whyRow = el("tr", { class: "why", hidden: true }, this.why);
    const spark = svg("svg", { class: "spark", viewBox: "0 0 29 18", preserveAspectRatio: "none", "aria-hidden": "true" }, this.spark);
    this.link = el("a", { href: `#/pipelines/${encodeURIComponent(name)}` }, name);
    const cell = (label, key, ...more) => el("td", { class: "number", "data-label": label }, ...more, this.cells[key]);
    this.node = el("tbody", { "data-pipeline": name },
      el("tr", {}, el("th", { scope: "row" }, this.link),
        el("td", { class: "word" }, this.state, this.age), cell("Behind", "lag"), cell("Records behind", "records"),
        cell("Results a second", "rate", spark), cell("Dead, 5 min", "dead"), cell("p50 / p99", "latency"),
        cell("Parts / members", "members")),
      this.whyRow);
  }

  update(row) {
    this.node.dataset.level = row.level;
    this.node.classList.toggle("old", row.stale_s > 0);
    setState(this.state, row);
    setText(this.age, row.stale_s > 0 ? ` ${seconds(row.stale_s)} ago` : "");
    level(this.cells.lag, row.lag_level, seconds(row.lag_s));
    setText(this.cells.records, count(row.lag_records));
    setText(this.cells.rate, rate(row.results_per_s));
    level(this.cells.dead, row.dead_level, percent(row.dead_share));
    setText(this.cells.latency, row.p50_ms === null ? UNKNOWN : `${ms(row.p50_ms)} / ${ms(row.p99_ms)}`);
    setText(this.cells.members, `${count(row.partitions)} / ${count(row.members)}`);
    const line = path(row.spark);
    if (this.line !== line) this.spark.setAttribute("d", this.line = line);
    this.#why(row);
  }

  #why({ problems: [first, ...rest], silent_s: silentS }) {
    const silent = !first && silentS > 0 ? { what: `A driver has not answered for ${seconds(silentS)}`, fix: "" } : null;
    const told = first ?? silent;
    this.whyRow.hidden = !told;
    if (!told) return;
    const parts = [...advice(told), rest.length ? `And ${plural(rest.length, "more problem")}.` : ""];
    const text = parts.map((part) => part.textContent ?? part).join("");
    if (this.why.textContent !== text) this.why.replaceChildren(...parts);
  }
}

/** Show a pipeline's state as a word with a sign. */
export function setState(node, { state, level: how }) {
  node.dataset.level = how;
  setText(node, `${SIGNS[how]} ${state}`);
}

/** A value, with a sign and a word where it is over its threshold: colour alone tells nobody everything. */
function level(node, how, text) {
  const marked = WORDS[how] ? `${SIGNS[how]} ${text}` : text;
  node.dataset.level = how;
  setText(node, marked);
  if (WORDS[how]) node.title = WORDS[how];
  else node.removeAttribute("title");
}

/** What is wrong, and what to do about it. */
export function advice({ what, fix }) {
  return [...prose(sentence(what)), " ", ...(fix ? [el("b", {}, "Fix:"), " ", ...prose(sentence(fix)), " "] : [])];
}

/** A text with its full stop. */
export function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function summary(pipelines) {
  const states = new Map();
  for (const { state } of pipelines) states.set(state, (states.get(state) ?? 0) + 1);
  return `${plural(pipelines.length, "pipeline")}: ${[...states].map(([state, number]) => `${number} ${state}`).join(", ")}`;
}

/** A line through the known values, from nothing to the most. */
function path(values) {
  const most = Math.max(...values.map((value) => value ?? 0)) || 1;
  let pen = "M";
  return values.map((value, index) => {
    if (value === null) {
      pen = "M";
      return "";
    }
    const step = `${pen}${index} ${(17 - (value / most) * 16).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
}
