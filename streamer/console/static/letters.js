// Dead letters: why there are any, which, and one of them whole.

import { Failure, read } from "./api.js";
import { el, svg } from "./dom.js";
import { bytes, clock, count, moment, plural, seconds } from "./format.js";
import { number, table } from "./pipelines.js";

/** The view; `onReplay` is told the cause to replay, null for all. */
export class DeadLetters {
  constructor(node, onReplay, jobs) {
    this.onReplay = onReplay;
    this.looks = 0;
    this.summary = el("p", { class: "quiet", role: "status" });
    this.news = el("p", { class: "notice", hidden: true });
    this.closed = el("input", { type: "checkbox", onchange: () => this.look() });
    this.refresh = el("button", { type: "button", onclick: () => this.look() }, "Look again");
    this.replayAll = el("button", { type: "button", onclick: () => onReplay(null) }, "Replay all…");
    this.sought = el("input", { type: "search", autocomplete: "off", placeholder: "key, event id or trace id",
      "aria-label": "Find dead letters by key, event id or trace id" });
    this.found = el("div", { role: "status" });
    const find = el("form", { class: "tools" }, this.sought, el("button", { type: "submit" }, "Find"));
    find.addEventListener("submit", (event) => { event.preventDefault(); this.#find(); });
    this.list = el("div", { "aria-busy": "false" });
    node.append(
      el("header", { class: "view" }, el("h2", {}, "Dead letters"), this.summary,
        el("div", { class: "tools" }, el("label", { class: "check" }, this.closed, "replayed and discarded too"),
          this.refresh, this.replayAll)),
      find, this.found, this.news, this.list, jobs);
  }

  async #find() {
    const text = this.sought.value.trim();
    if (!text) return this.found.replaceChildren();
    this.found.replaceChildren(el("p", { class: "quiet" }, "looking…"));
    try {
      const letters = await read(`api/find?text=${encodeURIComponent(text)}`);
      this.found.replaceChildren(letters.length ? el("div", { class: "scroll card" }, exampleTable(letters))
        : el("p", { class: "empty" }, "No dead letter has that key, event id or trace id."));
    } catch (failure) {
      this.found.replaceChildren(problem(failure, "Dead letters can't be read"));
    }
    return undefined;
  }

  /** Look at the topics now; of looks that overlap the last one is shown. */
  async look() {
    this.looks += 1;
    const mine = this.looks;
    this.list.setAttribute("aria-busy", "true");
    this.summary.textContent = "looking…";
    let found = null;
    let failed = null;
    try {
      found = await read(`api/causes?closed=${this.closed.checked ? 1 : 0}`);
    } catch (failure) {
      failed = failure;
    }
    if (mine !== this.looks) return;
    this.list.setAttribute("aria-busy", "false");
    this.news.hidden = true;
    if (found) this.#show(found);
    else {
      this.summary.textContent = "";
      this.list.replaceChildren(problem(failed, "Dead letters can't be read"));
    }
  }

  /** Say when the pipelines made more since the last look. */
  note(state) {
    const last = state.pipelines.map((each) => each.now?.dead_letters_per_s ?? 0).reduce((a, b) => a + b, 0);
    if (last > 0 && this.lookedMs && state.now_ms - this.lookedMs > 12_000) {
      this.news.textContent = "There are new dead letters since this was read: look again.";
      this.news.hidden = false;
    }
  }

  #show(found) {
    this.lookedMs = found.looked_ms;
    const where = found.topics.join(", ");
    const all = found.total ? `${plural(found.total, "dead letter")} of ${plural(found.causes.length, "cause")}` : "none";
    this.summary.textContent = `${all} in ${where || "no topic"}`
      + ` · as of ${clock(found.looked_ms)}, read in ${seconds(found.took_s)}`;
    this.replayAll.disabled = found.total === 0;
    const rows = found.causes.map((cause) => this.#cause(cause));
    const missing = found.missing.length ? el("p", { class: "quiet below" }, `Not there yet: ${found.missing.join(", ")}.`) : null;
    this.list.replaceChildren(...[rows.length ? el("ul", { class: "causes" }, rows) : nothing(this.closed.checked), missing].filter(Boolean));
  }

  #cause(cause) {
    const examples = el("div", { class: "examples", hidden: true });
    const open = el("button", { type: "button", "aria-expanded": "false" }, "Examples");
    open.addEventListener("click", () => this.#toggle(cause, open, examples));
    const exception = cause.exception === cause.code ? null : cause.exception;
    const what = cause.withheld ? "message withheld: see --show-text" : cause.message;
    return el("li", { class: "card cause", "data-cause": cause.fingerprint },
      el("b", { class: "number amount" }, count(cause.count)),
      el("div", { class: "what" }, el("span", { class: "code mono" }, cause.code), " ", el("span", { class: "mono quiet" }, cause.fingerprint),
        el("p", {}, exception ? el("span", { class: "mono" }, exception) : null, exception && what ? ": " : "", what ?? "")),
      el("div", { class: "when quiet" }, spark(cause.timeline),
        el("span", {}, `${moment(cause.first_ms)} – ${moment(cause.last_ms)}`), el("span", {}, cause.pipelines.join(", "))),
      el("div", { class: "tools" }, open, el("button", { type: "button", onclick: () => this.onReplay(cause) }, "Replay…")),
      examples);
  }

  async #toggle(cause, button, node) {
    node.hidden = !node.hidden;
    button.setAttribute("aria-expanded", String(!node.hidden));
    if (node.hidden) return;
    node.replaceChildren(el("p", { class: "quiet" }, "looking…"));
    try {
      const letters = await read(`api/examples?cause=${encodeURIComponent(cause.fingerprint)}&closed=${this.closed.checked ? 1 : 0}`);
      node.replaceChildren(el("div", { class: "scroll" }, exampleTable(letters)),
        letters.length < cause.count ? el("p", { class: "quiet" }, `The first ${letters.length} of ${count(cause.count)}.`) : "");
    } catch (failure) {
      node.replaceChildren(problem(failure, "Examples can't be read"));
    }
  }
}

/** Show one dead letter in a dialog; `place` is TOPIC/PARTITION/OFFSET. */
export async function showLetter(place, onClose) {
  const content = el("div", {}, el("p", { class: "quiet" }, "looking…"));
  const dialog = el("dialog", { class: "letter", "aria-label": `Dead letter ${place}`, onclose: () => { dialog.remove(); onClose(); } },
    el("header", {}, el("h2", { class: "mono" }, place), el("button", { type: "button", onclick: () => dialog.close() }, "Close")), content);
  document.body.append(dialog);
  dialog.showModal();
  try {
    const path = place.split("/").map(encodeURIComponent).join("/");
    content.replaceChildren(...letter(await read(`api/letters/${path}`), place));
  } catch (failure) {
    content.replaceChildren(problem(failure, "It can't be shown"));
  }
}

function letter(found, place) {
  const { error, state, value } = found;
  const facts = {
    cause: [error.exception, error.withheld ? "(message withheld: see --show-text)" : error.message].filter(Boolean).join(": "),
    code: error.code,
    class: error.failure_class,
    attempts: count(error.attempts),
    "came from": found.origin,
    written: moment(found.timestamp_ms),
    by: error.family,
    pipeline: error.pipeline,
    model: error.model,
    key: found.key,
    "event id": found.event_id,
    "trace id": found.trace_id,
    omitted: error.omitted?.join(", "),
    state: state ? `${state.state} ${state.time} by ${state.by}, job ${state.job}${state.reason ? `: ${state.reason}` : ""}` : "open",
  };
  const terms = Object.entries(facts).filter(([, fact]) => fact)
    .flatMap(([name, fact]) => [el("dt", {}, name), el("dd", { class: "mono" }, String(fact))]);
  return [
    el("dl", { class: "facts" }, terms),
    el("h3", {}, "Value"), ...valueOf(value),
    el("h3", {}, "Headers"),
    found.headers === null ? el("p", { class: "quiet" }, "They can't be read: a header's name is not UTF-8.")
      : el("div", { class: "scroll" }, el("dl", { class: "facts headers" }, found.headers.flatMap((header) => [
        el("dt", { class: "mono" }, header.name),
        el("dd", { class: "mono" }, header.size_bytes === undefined ? header.value ?? "null" : `${bytes(header.size_bytes)}, withheld: may quote the event`)]))),
    el("p", { class: "quiet" }, "In a terminal: ", el("code", {}, `streamer dlq show ${place}`)),
  ];
}

function valueOf(value) {
  if (value === null) return [el("p", { class: "quiet" }, "null")];
  const size = el("p", { class: "quiet" }, `${bytes(value.size_bytes)} · SHA-256 `, el("code", {}, value.sha256));
  if (value.text === undefined && value.hex === undefined) {
    return [size, el("p", { class: "quiet" }, "Its text is not shown: start the console with --show-text.")];
  }
  const cut = value.cut ? el("p", { class: "quiet" }, "Only its beginning is shown.") : "";
  return [size, el("pre", { tabindex: "0", "aria-label": "The value" }, value.text === undefined ? value.hex : pretty(value.text)), cut];
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function exampleTable(letters) {
  const rows = letters.map((each) => el("tr", {},
    el("th", { scope: "row", class: "mono" }, el("a", { href: `#/dead-letters/${each.place}` }, each.place)),
    el("td", {}, moment(each.timestamp_ms)), number(count(each.error.attempts)),
    el("td", { class: "mono" }, each.origin), el("td", { class: "mono" }, each.key ?? ""),
    el("td", {}, each.state ? `${each.state.state} by ${each.state.job}` : "open")));
  return table("Dead letters", ["dead letter", "written", "#attempts", "came from", "key", "state"], rows);
}

/** Counts over time as bars. */
function spark(counts) {
  const most = Math.max(...counts, 1);
  const bars = counts.map((each, index) => svg("rect", { x: index * 5, width: 4, y: 18 - (each ? Math.max((each / most) * 18, 2) : 0),
    height: each ? Math.max((each / most) * 18, 2) : 0 }));
  const told = `over time: ${counts.join(", ")}`;
  return svg("svg", { viewBox: `0 0 ${counts.length * 5} 18`, class: "spark", role: "img", "aria-label": told }, bars);
}

function nothing(withClosed) {
  return el("p", { class: "empty" }, withClosed ? "No dead letters, and none were replayed or discarded."
    : "No open dead letters. Those that were replayed or discarded are hidden.");
}

/** A failure as a person reads it. */
export function problem(failure, what) {
  if (!(failure instanceof Failure)) throw failure;
  return el("p", { class: "notice bad", role: "alert" }, `${what}: ${failure.message}`);
}
