// Replay: a dry run first, then the same again for good, as a job whose progress comes with the live state.

import { read, send, setToken } from "./api.js";
import { el, newId, setText } from "./dom.js";
import { count, moment, plural, seconds } from "./format.js";
import { problem } from "./letters.js";
import { number, table } from "./pipelines.js";

/** Open the dialog for a cause, or for all with null. */
export function openReplay(cause, about) {
  const field = (label, properties, hint) => {
    const id = newId();
    const input = el("input", { id, autocomplete: "off", ...properties });
    return { input, node: el("div", { class: "field" }, el("label", { for: id }, label), input, hint ? el("small", {}, hint) : null) };
  };
  const rate = field("Records a second", { type: "number", min: "0.1", step: "any", placeholder: "as fast as it goes" });
  const most = field("At most", { type: "number", min: "1", step: "1", placeholder: "all" });
  const attempts = field("Leave those that failed", { type: "number", min: "1", step: "1", value: "5" }, "times or more");
  const to = field("To another topic", { type: "text", placeholder: "where each came from", pattern: "[A-Za-z0-9._\\-]{1,249}" });
  const addressee = field("For another pipeline", { type: "text", placeholder: "the one that failed" }, "E.g. after it was renamed.");
  const job = field("Job", { type: "text", placeholder: "a name is made up", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]{0,99}" },
    "An interrupted job's name goes on with it.");
  const token = field("Token", { type: "password", autocomplete: "off" }, "Kept in this page until it is closed.");
  const found = el("div", { role: "status" });
  const dry = el("button", { type: "submit", class: "primary" }, "Dry run");
  const execute = el("button", { type: "button", class: "primary danger", disabled: true }, "Execute");
  const permit = [about.token ? token.node : "", about.replay ? ""
    : el("p", { class: "quiet" }, "This console only reads. Start it with --allow-replay and a token, or use streamer dlq replay.")];
  const form = el("form", {}, el("div", { class: "fields" }, rate.node, most.node, attempts.node, to.node, addressee.node, job.node), ...permit, found,
    el("div", { class: "tools end" }, dry, execute));
  const what = cause ? `${plural(cause.count, "dead letter")} of cause ${cause.fingerprint} (${cause.code})` : "all open dead letters";
  const dialog = el("dialog", { class: "replay", "aria-label": "Replay", onclose: () => dialog.remove() },
    el("header", {}, el("h2", {}, "Replay"), el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    el("p", {}, `Send ${what} back to the topics that they came from.`), form);
  document.body.append(dialog);
  dialog.showModal();

  let prepared = null;
  const forget = () => {
    prepared = null;
    execute.disabled = true;
    setText(execute, "Execute");
    found.replaceChildren();
  };
  for (const each of [rate, most, attempts, to, addressee, job]) each.input.addEventListener("input", forget);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    forget();
    dry.disabled = true;
    if (about.token && token.input.value) setToken(token.input.value);
    found.replaceChildren(el("p", { class: "quiet" }, "looking…"));
    try {
      prepared = await send("api/replay/survey", {
        causes: cause ? [cause.fingerprint] : [],
        to: to.input.value.trim(), for: addressee.input.value.trim(),
        rate: numeric(rate), most: numeric(most), max_attempts: numeric(attempts) ?? 5,
        job: job.input.value.trim() || null,
      });
      found.replaceChildren(...survey(prepared));
      execute.disabled = !about.replay || prepared.total === 0;
      execute.scrollIntoView({ block: "nearest" });
      setText(execute, prepared.total ? `Execute: move ${count(prepared.total)}` : "Nothing to move");
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
      await send("api/replay/execute", { digest: prepared.digest });
      dialog.close();
      document.getElementById("jobs")?.focus();
    } catch (failure) {
      found.querySelector(".notice")?.remove();
      found.append(problem(failure, "Nothing was moved"));
      execute.disabled = false;
      if (failure.status === 401) token.input.focus();
    }
  });
}

function survey(found) {
  const rows = found.moves.map((move) => el("tr", {}, number(count(move.count)),
    el("td", { class: "mono" }, move.from), el("td", { class: "mono" }, `${move.to}/${move.partition}`)));
  const notes = [
    found.resumed ? `Job ${found.job} goes on: it moved ${count(found.closed_by_this_job)} before.` : null,
    ...found.refused.map((each) => `${plural(each.count, "stays", "stay")}: ${each.why} (e.g. ${each.example})`),
    ...found.same_model.map((each) => `${count(each.count)} of them failed with ${each.model}, which ${each.pipeline} runs now: they may well fail again.`),
    found.closed ? `${plural(found.closed, "was", "were")} replayed or discarded before.` : null,
    found.order_lost_in.length ? `Dead letters of ${found.order_lost_in.slice(0, 5).join(", ")} lie on several partitions: their order is kept only within each.` : null,
  ].filter(Boolean);
  return [
    el("h3", {}, `Dry run: ${plural(found.total, "record")} would move`),
    el("p", { class: "quiet" }, "Nothing was written. Job ", el("code", {}, found.job), ", digest ", el("code", {}, found.digest)),
    rows.length ? el("div", { class: "scroll" }, table("Moves", ["#records", "from", "to"], rows)) : "",
    notes.length ? el("ul", { class: "notes" }, notes.map((note) => el("li", {}, note))) : "",
  ];
}

/** The jobs of this console, with their progress. */
export class Jobs {
  constructor() {
    this.list = el("ul", { class: "jobs" });
    this.node = el("section", { id: "jobs", class: "card", tabindex: "-1", hidden: true, "aria-label": "Replays of this console" },
      el("h3", {}, "Replays"), this.list);
    this.rows = new Map();
  }

  /** Take in the jobs; returns whether one has ended since. */
  update(jobs) {
    this.node.hidden = jobs.length === 0;
    let ended = false;
    for (const job of jobs) {
      if (!this.rows.has(job.job)) {
        this.rows.set(job.job, new JobRow(job));
        this.list.prepend(this.rows.get(job.job).node);
      }
      ended = this.rows.get(job.job).update(job) || ended;
    }
    return ended;
  }
}

class JobRow {
  constructor(job) {
    this.state = el("span", { class: "state" });
    this.figures = el("span", { class: "number" });
    this.bar = el("progress", { max: job.total, "aria-label": `Progress of ${job.job}` });
    this.note = el("p", { class: "quiet" });
    this.outcome = el("span", { role: "status" });
    this.ask = el("button", { type: "button", onclick: () => this.#tell(job.job) }, "What became of them?");
    this.node = el("li", { "data-job": job.job }, el("code", {}, job.job), this.state, this.bar, this.figures, this.note,
      el("p", {}, this.ask, " ", this.outcome));
  }

  async #tell(job) {
    this.ask.disabled = true;
    setText(this.outcome, "looking…");
    try {
      const found = await read(`api/jobs/${encodeURIComponent(job)}/outcome`);
      const parts = [[found.answered, "answered"], [found.failed_again, "failed again"], [found.not_yet, "not yet"],
        [found.skipped, "skipped"], [found.elsewhere, "sent elsewhere"], [found.gone, "gone by retention"]];
      setText(this.outcome, `Of ${count(found.sent)} sent: ${parts.filter(([some]) => some).map(([some, word]) => `${count(some)} ${word}`).join(", ") || "none is to be found yet"}.`);
    } catch (failure) {
      this.outcome.replaceChildren(problem(failure, "It can't be told"));
    } finally {
      this.ask.disabled = false;
    }
  }

  update(job) {
    const ended = this.last === "running" && job.state !== "running";
    this.last = job.state;
    this.state.dataset.state = job.state;
    this.bar.max = job.total;
    this.bar.value = job.moved;
    setText(this.state, job.state);
    setText(this.figures, `${count(job.moved)} of ${count(job.total)}`);
    const took = job.ended_ms ? `, took ${seconds((job.ended_ms - job.began_ms) / 1000)}` : "";
    const mend = job.state === "failed" || job.state === "interrupted" ? " A dry run with this job's name goes on with the rest." : "";
    setText(this.note, `${job.by} began it ${moment(job.began_ms)}${took}. ${job.error}${mend}`);
    return ended;
  }
}

function numeric({ input }) {
  return input.value.trim() === "" ? null : Number(input.value);
}
