// One dead letter whole, in a dialog, and what may be done with it.

import { read } from "./api.js";
import { dialog, el, problem, prose } from "./dom.js";
import { bytes, count, moment } from "./format.js";
import { openOrder } from "./orders.js";

/** Show one; `place` is TOPIC/PARTITION/OFFSET. */
export async function showLetter(place, about, onClose) {
  const content = el("div", {}, el("p", { class: "quiet" }, "looking…"));
  const shown = dialog(place, { class: "letter", onclose: onClose }, content);
  try {
    const path = place.split("/").map(encodeURIComponent).join("/");
    const found = await read(`api/letters/${path}`);
    content.replaceChildren(...letter(found, place), actions(found, place, about, () => shown.close()));
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
    state: state ? `${state.state} ${state.time} by ${state.by}, job ${state.job}${state.edited ? ", edited" : ""}${state.reason ? `: ${state.reason}` : ""}` : "open",
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

function actions(found, place, about, close) {
  const order = (action, more = {}) => () => {
    close();
    openOrder({ action, about, what: `the dead letter ${place}`, places: [place],
      since_ms: found.timestamp_ms, until_ms: found.timestamp_ms, ...more });
  };
  const { value } = found;
  const editable = value?.text !== undefined && !value.cut;
  const why = found.state ? `It was ${found.state.state} already: \`streamer dlq reopen ${found.state.job}\` opens it again.`
    : editable ? "" : about.shows_text ? "Its value is not text, or too long to edit here: use `streamer dlq edit`." : "To edit it, start the console with `--show-text`.";
  const button = (label, disabled, onclick) => el("button", { type: "button", disabled, onclick }, label);
  return el("div", { class: "tools end" }, why ? el("span", { class: "quiet" }, prose(why)) : null,
    button("Replay…", found.state, order("replay")), button("Edit and replay…", found.state || !editable, order("edit", { value: value?.text })),
    button("Discard…", found.state, order("discard")));
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
