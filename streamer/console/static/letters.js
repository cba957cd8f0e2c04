// Dead letters: why there are any, which, found by a search and by filters.

import { read } from "./api.js";
import { el, field, number, problem, svg, table } from "./dom.js";
import { clock, count, moment, plural, seconds } from "./format.js";
import { openOrder } from "./orders.js";

const TIMES = [["", "any time"], ["900", "last 15 min"], ["3600", "last hour"], ["86400", "last day"], ["604800", "last 7 days"], ["range", "from … to …"]];

/** The view. */
export class DeadLetters {
  constructor(node, about) {
    this.about = about;
    this.looks = 0;
    this.codes = new Set();
    this.summary = el("p", { class: "quiet", role: "status" });
    this.news = el("p", { class: "notice", hidden: true });
    const changed = { onchange: () => this.look() };
    this.pipeline = field("Pipeline", { tag: "select", options: [["", "all"]], ...changed });
    this.code = field("Code", { tag: "select", options: [["", "all"]], ...changed });
    this.time = field("Written", { tag: "select", options: TIMES, onchange: () => this.#chose() });
    this.from = field("From", { type: "datetime-local", step: "1", ...changed });
    this.until = field("To", { type: "datetime-local", step: "1", ...changed });
    this.closed = el("input", { type: "checkbox", onchange: () => this.look() });
    this.sought = field("Search", { type: "search", placeholder: "key, event id, trace id or place", title: "A place is TOPIC/PARTITION/OFFSET, of the dead letter or of where it came from." });
    const find = el("form", { class: "filters card" }, this.sought.node, el("button", { type: "submit" }, "Find"),
      this.pipeline.node, this.code.node, this.time.node, this.from.node, this.until.node,
      el("label", { class: "check" }, this.closed, "replayed and discarded too"));
    find.addEventListener("submit", (event) => { event.preventDefault(); this.look(); });
    this.sought.node.classList.add("search");
    this.replayAll = el("button", { type: "button", onclick: () => this.#order("replay", {}, this.total) }, "Replay all…");
    this.discardAll = el("button", { type: "button", onclick: () => this.#order("discard", {}, this.total) }, "Discard all…");
    this.found = el("div", { role: "status" });
    this.list = el("div", { "aria-busy": "false" });
    node.append(
      el("header", { class: "view" }, el("h2", {}, "Dead letters"), this.summary,
        el("div", { class: "tools" }, el("button", { type: "button", onclick: () => this.look() }, "Refresh"), this.replayAll, this.discardAll)),
      find, this.found, this.news, this.list);
    this.#chose(false);
  }

  /** Narrow it to a pipeline, "" for all, and look. */
  show(pipeline) {
    this.#choices(this.pipeline.input, [pipeline]);
    this.pipeline.input.value = pipeline;
    this.look();
  }

  /** Look at the topics now; of looks that overlap the last one is shown. */
  async look() {
    this.looks += 1;
    const mine = this.looks;
    this.list.setAttribute("aria-busy", "true");
    this.summary.textContent = "looking…";
    const text = this.sought.input.value.trim();
    const ask = (path, more) => read(`${path}?${new URLSearchParams([...this.#query(), ...more])}`).catch((failure) => failure);
    const [found, letters] = await Promise.all([ask("api/causes", []), text ? ask("api/letters", [["text", text]]) : null]);
    if (mine !== this.looks) return;
    this.list.setAttribute("aria-busy", "false");
    this.news.hidden = true;
    if (letters === null) this.found.replaceChildren();
    else if (letters instanceof Error) this.found.replaceChildren(problem(letters, "The search failed"));
    else this.found.replaceChildren(el("div", { class: "card found" }, el("h3", {}, `Found by “${text}”`), ...letterList(letters, "No dead letter with these filters has that key, id or place.")));
    if (found instanceof Error) {
      this.summary.textContent = "";
      this.list.replaceChildren(problem(found, "Dead letters can't be read"));
    } else this.#show(found);
  }

  /** Say when the pipelines made more since the last look. */
  note(state) {
    const more = state.pipelines.some((each) => each.dead_share > 0 && (this.shares?.get(each.name) ?? 0) < each.dead_share);
    this.shares = new Map(state.pipelines.map((each) => [each.name, each.dead_share]));
    if (more && this.lookedMs && state.now_ms - this.lookedMs > 12_000) {
      this.news.textContent = "There are new dead letters since this was read. Refresh to see them.";
      this.news.hidden = false;
    }
  }

  #chose(look = true) {
    const range = this.time.input.value === "range";
    this.from.node.hidden = this.until.node.hidden = !range;
    if (look && (!range || this.from.input.value || this.until.input.value)) this.look();
  }

  /** The filter in the words of an order. */
  #filter() {
    const time = this.time.input.value;
    const at = ({ input }) => (time === "range" && input.value ? new Date(input.value).getTime() : null);
    return {
      pipelines: [this.pipeline.input.value].filter(Boolean), codes: [this.code.input.value].filter(Boolean),
      since_ms: Number(time) ? Date.now() - Number(time) * 1000 : at(this.from), until_ms: at(this.until),
    };
  }

  #query() {
    const { pipelines, codes, since_ms: since, until_ms: until } = this.#filter();
    return [...pipelines.map((each) => ["pipelines", each]), ...codes.map((each) => ["codes", each]),
      ...(since === null ? [] : [["since_ms", since]]), ...(until === null ? [] : [["until_ms", until]]), ["closed", this.closed.checked ? 1 : 0]];
  }

  #order(action, more, number) {
    const filter = this.#filter();
    const words = [filter.pipelines[0], filter.codes[0], filter.since_ms || filter.until_ms ? "of this time" : ""].filter(Boolean);
    const what = more.causes ? `${plural(number, "dead letter")} of cause ${more.causes[0]}` : `all ${plural(number, "open dead letter")}`;
    openOrder({ action, about: this.about, what: what + (words.length ? ` (${words.join(", ")})` : ""), ...filter, ...more });
  }

  #show(found) {
    this.lookedMs = found.looked_ms;
    this.total = found.total;
    found.causes.forEach((cause) => this.codes.add(cause.code));
    this.#choices(this.code.input, [...this.codes].sort());
    this.#choices(this.pipeline.input, found.pipelines);
    const where = plural(found.topics.length, "topic");
    const all = found.total ? `${plural(found.total, "dead letter")} of ${plural(found.causes.length, "cause")}` : "none";
    this.summary.textContent = `${all} in ${where} · as of ${clock(found.looked_ms)}, read in ${seconds(found.took_s)}`;
    this.summary.title = found.topics.join(", ");
    this.replayAll.disabled = this.discardAll.disabled = found.total === 0;
    const rows = found.causes.map((cause) => this.#cause(cause));
    const missing = found.missing.length ? el("p", { class: "quiet below" }, `Not there yet: ${found.missing.join(", ")}.`) : "";
    this.list.replaceChildren(rows.length ? el("ul", { class: "causes" }, rows) : this.#nothing(), missing);
  }

  /** Add what there is to choose, and keep what is chosen. */
  #choices(select, values) {
    const known = new Set([...select.options].map((option) => option.value));
    for (const value of values) if (!known.has(value)) select.append(el("option", { value }, value));
  }

  #cause(cause) {
    const examples = el("div", { class: "examples", hidden: true });
    const open = el("button", { type: "button", "aria-expanded": "false" }, "Examples");
    open.addEventListener("click", () => this.#toggle(cause, open, examples));
    const exception = cause.exception === cause.code ? null : cause.exception;
    const what = cause.withheld ? "message withheld: see --show-text" : cause.message;
    const order = (action) => () => this.#order(action, { causes: [cause.fingerprint] }, cause.count);
    return el("li", { class: "card cause", "data-cause": cause.fingerprint },
      el("b", { class: "number amount" }, count(cause.count)),
      el("div", { class: "what" }, el("span", { class: "code mono" }, cause.code), " ", el("span", { class: "mono quiet" }, cause.fingerprint),
        el("p", {}, exception ? el("span", { class: "mono" }, exception) : null, exception && what ? ": " : "", what ?? "")),
      el("div", { class: "when quiet" }, spark(cause.timeline),
        el("span", {}, `${moment(cause.first_ms)} – ${moment(cause.last_ms)}`), el("span", { class: "names", title: cause.pipelines.join(", ") }, cause.pipelines.join(", "))),
      el("div", { class: "tools" }, open, el("button", { type: "button", onclick: order("replay") }, "Replay…"),
        el("button", { type: "button", onclick: order("discard") }, "Discard…")),
      examples);
  }

  async #toggle(cause, button, node) {
    node.hidden = !node.hidden;
    button.setAttribute("aria-expanded", String(!node.hidden));
    if (node.hidden) return;
    node.replaceChildren(el("p", { class: "quiet" }, "looking…"));
    try {
      const query = new URLSearchParams([...this.#query(), ["causes", cause.fingerprint]]);
      node.replaceChildren(...letterList(await read(`api/letters?${query}`), "None is left."));
    } catch (failure) {
      node.replaceChildren(problem(failure, "Examples can't be read"));
    }
  }

  #nothing() {
    const { pipelines, codes, since_ms: since, until_ms: until } = this.#filter();
    const narrowed = pipelines.length || codes.length || since !== null || until !== null;
    const words = this.closed.checked ? "No dead letters, and none were replayed or discarded." : "No open dead letters. Those that were replayed or discarded are hidden.";
    return el("p", { class: "empty" }, narrowed ? `${words} The filters narrow this.` : words);
  }
}

function letterList({ letters, more }, none) {
  if (!letters.length) return [el("p", { class: "empty" }, none)];
  const rows = letters.map((each) => el("tr", {},
    el("th", { scope: "row", class: "mono" }, el("a", { href: `#/dead-letters/${each.place.split("/").map(encodeURIComponent).join("/")}` }, each.place)),
    el("td", {}, moment(each.timestamp_ms)), el("td", { class: "mono" }, each.error.code), number(count(each.error.attempts)),
    el("td", { class: "mono" }, each.origin), el("td", { class: "mono" }, each.key ?? ""),
    el("td", {}, each.state ? `${each.state.state} by ${each.state.job}` : "open")));
  return [el("div", { class: "scroll" }, table("Dead letters", ["dead letter", "written", "code", "#attempts", "came from", "key", "state"], rows)),
    more ? el("p", { class: "quiet" }, `The first ${letters.length}. Narrow it by the filters.`) : ""];
}

/** Counts over time as bars. */
function spark(counts) {
  const most = Math.max(...counts, 1);
  const bars = counts.map((each, index) => svg("rect", { x: index * 5, width: 4, y: 18 - (each ? Math.max((each / most) * 18, 2) : 0),
    height: each ? Math.max((each / most) * 18, 2) : 0 }));
  const told = `over time: ${counts.join(", ")}`;
  return svg("svg", { viewBox: `0 0 ${counts.length * 5} 18`, class: "bars", role: "img", "aria-label": told }, bars);
}
