// Orders for dead letters: a dry run first, then the same for good, after what it does was said.

import { send, setToken } from "./api.js";
import { dialog, el, field, number, problem, prose, setText, table } from "./dom.js";
import { count, plural } from "./format.js";

const KINDS = {
  replay: {
    heading: "Replay", execute: "Execute: move", does: (what) => `Send ${what} back to the topics that they came from.`,
    after: (number) => `${number} will be written to the topics above, in transactions, and the pipeline answers them again. They are no open dead letters any more then. It can be cancelled: what was moved by then stays moved.`,
  },
  edit: {
    heading: "Edit and replay", execute: "Execute: move", does: (what) => `Change the value of ${what}, and send it back to the topic that it came from.`,
    after: () => "The changed value will be written to the topic above with the old key, id and headers, and the pipeline answers it. The dead letter is closed; it keeps its old value until its topic's retention deletes it.",
  },
  discard: {
    heading: "Discard", execute: "Execute: discard", does: (what) => `Close ${what} for good, without an answer.`,
    after: (number) => `${number} will be closed: nobody lists or replays them any more, and their events never get a result. The records stay in their topic until its retention takes them. \`streamer dlq reopen\` with the job's name takes it back.`,
  },
};

/** Open the dialog. `what` names the dead letters for a person; `causes`, `codes`, `pipelines`, `since_ms`, `until_ms`
 * and `places` choose them, `value` is the one to edit, and `job` with its `settings` one to go on with. */
export function openOrder({ action, about, what, value = "", job = "", settings = {}, ...chosen }) {
  const kind = KINDS[action];
  const single = chosen.places?.length === 1;
  const rate = field("Records a second", { type: "number", min: "0.1", step: "any", placeholder: "as fast as possible", value: settings.rate });
  const most = field("At most", { type: "number", min: "1", step: "1", placeholder: "all", value: settings.most });
  const attempts = field("Leave those that failed", { type: "number", min: "1", step: "1", value: settings.max_attempts ?? 5 }, "times or more");
  const to = field("To another topic", { type: "text", placeholder: "where each came from", pattern: "[A-Za-z0-9._\\-]{1,249}", value: settings.to });
  const addressee = field("For another pipeline", { type: "text", placeholder: "the one that failed", value: settings.for }, "E.g. after it was renamed.");
  const name = field("Job", { type: "text", placeholder: "a name is made up", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,99}", value: job },
    "The name of a job that was stopped continues it.");
  const reason = field("Why", { type: "text", required: true, maxlength: 500, value: settings.reason }, "Kept with each, and in the audit.");
  const text = field("Value", { tag: "textarea", rows: 12, spellcheck: "false", class: "mono" });
  text.input.value = value;
  text.node.classList.add("wide");
  reason.node.classList.add("wide");
  const token = field("Token", { type: "password", autocomplete: "off" }, "Kept in this page until it is closed.");
  const asks = { replay: [rate, most, attempts, to, addressee, name], edit: [text, attempts, to, addressee], discard: [reason, most, name] }[action]
    .filter((each) => !single || ![rate, most].includes(each));
  const found = el("div", { role: "status" });
  const dry = el("button", { type: "submit", class: "primary" }, "Dry run");
  const execute = el("button", { type: "button", class: "primary danger", disabled: true }, "Execute");
  const form = el("form", {}, el("div", { class: "fields" }, asks.map((each) => each.node)), about.token ? token.node : "",
    about.replay ? "" : el("p", { class: "quiet" }, prose("This console only reads. Start it with `--allow-replay` and a token, or use `streamer dlq`.")),
    found, el("div", { class: "tools end" }, dry, execute));
  const shown = dialog(kind.heading, { class: "order" }, el("p", {}, kind.does(what)), form);

  let prepared = null;
  const forget = () => {
    prepared = null;
    execute.disabled = true;
    setText(execute, "Execute");
    found.replaceChildren();
  };
  for (const each of asks) each.input.addEventListener("input", forget);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forget();
    dry.disabled = true;
    if (about.token && token.input.value) setToken(token.input.value);
    found.replaceChildren(el("p", { class: "quiet" }, "looking…"));
    try {
      prepared = await send("api/orders/survey", {
        ...chosen, action, rate: numeric(rate), most: numeric(most), job: name.input.value.trim() || null,
        ...(action === "discard" ? { reason: reason.input.value.trim() }
          : { to: to.input.value.trim(), for: addressee.input.value.trim(), max_attempts: numeric(attempts) ?? 5 }),
        ...(action === "edit" ? { value: text.input.value } : {}),
      });
      found.replaceChildren(...survey(prepared, kind, action === "edit" && spoiled(value, text.input.value)));
      execute.disabled = !about.replay || prepared.total === 0;
      setText(execute, prepared.total ? `${kind.execute} ${count(prepared.total)}` : "Nothing to move");
      execute.scrollIntoView({ block: "nearest" });
    } catch (failure) {
      found.replaceChildren(problem(failure, "The dry run failed"));
      if (failure.status === 401) token.input.focus();
    } finally {
      dry.disabled = false;
    }
  });

  execute.addEventListener("click", async () => {
    execute.disabled = true;
    if (token.input.value) setToken(token.input.value);
    try {
      await send("api/orders/execute", { digest: prepared.digest });
      shown.close();
      location.hash = "#/jobs";
    } catch (failure) {
      found.querySelector(".notice.bad")?.remove();
      found.append(problem(failure, "Nothing was moved"));
      execute.disabled = false;
      if (failure.status === 401) token.input.focus();
    }
  });
}

function survey(found, kind, spoils) {
  const rows = found.moves.map((move) => el("tr", {}, number(count(move.count)),
    el("td", { class: "mono" }, move.from), el("td", { class: "mono" }, move.to === null ? "closed" : `${move.to}/${move.partition}`)));
  const notes = [
    spoils ? "The value was JSON, and no longer is." : null,
    found.resumed ? `Job ${found.job} goes on: it moved ${count(found.closed_by_this_job)} before.` : null,
    ...found.refused.map((each) => `${plural(each.count, "stays", "stay")}: ${each.why} (e.g. ${each.example})`),
    ...found.same_model.map((each) => `${count(each.count)} of them failed with ${each.model.replace(/@(.{12}).*/, "@$1")}, which ${each.pipeline} runs now: they may well fail again.`),
    found.closed ? `${plural(found.closed, "was", "were")} replayed or discarded before.` : null,
    found.order_lost_in.length ? `Dead letters of ${found.order_lost_in.slice(0, 5).join(", ")} are on several partitions: their order is kept only within each.` : null,
  ].filter(Boolean);
  const verb = found.action === "discard" ? "would be closed" : "would move";
  return [
    el("h3", {}, `Dry run: ${plural(found.total, "record")} ${verb}`),
    el("p", { class: "quiet" }, "Nothing was written. Job ", el("code", {}, found.job), ", digest ", el("code", {}, found.digest)),
    rows.length ? el("div", { class: "scroll" }, table("Moves", ["#records", "from", "to"], rows)) : "",
    notes.length ? el("ul", { class: "notes" }, notes.map((note) => el("li", {}, note))) : "",
    found.total ? el("p", { class: "notice" }, el("b", {}, "If you execute this: "), prose(kind.after(plural(found.total, "record")))) : "",
  ];
}

function spoiled(before, after) {
  const isJson = (text) => { try { JSON.parse(text); return true; } catch { return false; } };
  return isJson(before) && !isJson(after);
}

function numeric({ input }) {
  return input.value.trim() === "" ? null : Number(input.value);
}
