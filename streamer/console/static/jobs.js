// What was done to dead letters, by whom, and how far it is: the jobs of all consoles and of the command line.

import { read, send, setToken } from "./api.js";
import { dialog, el, field, problem, prose, setText } from "./dom.js";
import { count, moment, plural, rate, seconds } from "./format.js";
import { openOrder } from "./orders.js";
import { sentence } from "./overview.js";

const BUSY_MS = 1_000;
const QUIET_MS = 4_000;
const MOST = 30;
const WORDS = { running: ["running", "busy"], done: ["✓ done", "ok"], stopped: ["▲ stopped", "warn"], failed: ["✖ failed", "bad"], silent: ["▲ no sign of life", "warn"] };
const FILTERS = new Set(["causes", "codes", "pipelines", "places", "since", "until"]);

/** The view; `onEnd` is called when a job has ended, or is seen for the first time and has. */
export class Jobs {
  constructor(node, about, onEnd) {
    this.about = about;
    this.onEnd = onEnd;
    this.shown = false;
    this.rows = new Map();
    this.summary = el("p", { class: "quiet", role: "status" });
    this.failed = el("div");
    this.list = el("ul", { class: "jobs card", hidden: true });
    this.empty = el("p", { class: "empty" }, "looking…");
    this.all = el("button", { type: "button", hidden: true, onclick: () => { this.most = Infinity; this.#show(this.told); } });
    this.most = MOST;
    node.append(el("header", { class: "view" }, el("h2", {}, "Replays, edits and discards"), this.summary), this.failed, this.empty, this.list, this.all);
  }

  /** Look again and again while the view is shown. */
  async follow(shown) {
    const began = shown && !this.shown;
    this.shown = shown;
    if (!began || this.following) return;
    this.following = true;
    while (this.shown) {
      let running = false;
      if (!document.hidden) {
        try {
          this.#show(await read("api/jobs"));
          this.failed.replaceChildren();
          running = this.told.some((each) => each.state === "running");
        } catch (failure) {
          this.failed.replaceChildren(problem(failure, "What was done can't be read"));
          if (!this.told) this.empty.hidden = true;
        }
      }
      const again = performance.now() + (running ? BUSY_MS : QUIET_MS);
      while (this.shown && performance.now() < again && !this.hurry) await new Promise((done) => { setTimeout(done, 100); });
      this.hurry = false;
    }
    this.following = false;
  }

  #show(told) {
    this.told = told;
    setText(this.summary, told.length ? `${plural(told.length, "job")}, ${told.filter((each) => each.state === "running").length || "none"} running; from the topics streamer.audit and streamer.dlq.state` : "");
    this.empty.hidden = told.length > 0;
    this.list.hidden = told.length === 0;
    if (told.length === 0) this.empty.replaceChildren(...prose("Nobody has replayed, edited or discarded a dead letter yet. Start under Dead letters, or with `streamer dlq replay`."));
    this.all.hidden = told.length <= this.most;
    setText(this.all, `Show all ${count(told.length)}`);
    const ended = [];
    const newest = new Set();
    const nodes = told.slice(0, this.most).map((job) => {
      job.newest = !newest.has(job.job); // only the newest start of a job can be gone on with
      newest.add(job.job);
      const key = `${job.job} ${job.began}`;
      if (!this.rows.has(key)) this.rows.set(key, new JobRow(job, this.about, () => { this.hurry = true; }));
      const row = this.rows.get(key);
      if (row.update(job)) ended.push(job);
      return row.node;
    });
    if (nodes.length !== this.list.childElementCount || nodes.some((node, index) => this.list.children[index] !== node)) this.list.replaceChildren(...nodes);
    if (ended.length) this.onEnd();
  }
}

class JobRow {
  constructor(job, about, changed) {
    this.about = about;
    this.changed = changed;
    this.state = el("span", { class: "state" });
    this.figures = el("span", { class: "number" });
    this.bar = el("progress", { "aria-label": `Progress of ${job.job}` });
    this.pace = el("span", { class: "quiet" });
    this.note = el("p", { class: "quiet" });
    this.outcome = el("p", { role: "status" });
    this.ask = el("button", { type: "button", onclick: () => this.#tell(job.job) }, "What became of them?");
    this.cancel = el("button", { type: "button", onclick: () => this.#cancel() }, "Cancel…");
    this.goOn = el("button", { type: "button", onclick: () => this.#goOn() }, "Go on…");
    const asked = el("details", {}, el("summary", {}, "What was asked for"), el("dl", { class: "facts" }, facts(job).flatMap(([name, text]) =>
      [el("dt", {}, name), el("dd", { class: "mono" }, text)])));
    this.node = el("li", { "data-job": job.job },
      el("div", { class: "headline" }, el("b", {}, job.action), " ", el("code", {}, job.job), this.state),
      el("div", { class: "progress" }, this.bar, this.figures, this.pace), this.note,
      el("div", { class: "tools" }, this.cancel, this.goOn, this.ask), this.outcome, asked);
  }

  update(job) {
    this.job = job;
    const ended = job.state !== "running" && job.state !== this.last; // a short one is never seen to run
    this.last = job.state;
    const [word, level] = WORDS[job.state];
    setText(this.state, job.cancelled_by && job.state === "running" ? "stopping" : word);
    this.state.dataset.level = level;
    const total = Math.max(job.total ?? 0, job.moved);
    this.bar.hidden = job.state !== "running";
    this.bar.max = total || 1;
    if (job.total) this.bar.value = job.moved;
    else this.bar.removeAttribute("value");
    const verb = job.action === "discard" ? "closed" : job.action === "reopen" ? "reopened" : "moved";
    setText(this.figures, job.total ? `${count(job.moved)} of ${count(total)} ${verb}` : `${count(job.moved)} ${verb}`);
    const pace = [job.per_s === null ? "" : `${rate(job.per_s)}/s`, job.limit_per_s ? `limit ${rate(job.limit_per_s)}/s` : "", job.eta_s === null ? "" : `${seconds(Math.ceil(job.eta_s))} left`];
    setText(this.pace, job.state === "running" ? pace.filter(Boolean).join(" · ") : "");
    setText(this.note, note(job));
    const mayWrite = this.about.replay;
    this.cancel.hidden = job.state !== "running" || !job.here || !mayWrite;
    this.cancel.disabled = Boolean(job.cancelled_by);
    this.goOn.hidden = !mayWrite || !job.newest || !["stopped", "silent", "failed"].includes(job.state) || again(job) === null;
    this.ask.hidden = !job.newest || !["replay", "edit"].includes(job.action) || job.moved === 0;
    return ended;
  }

  #cancel() {
    const { job, moved, total } = this.job;
    const token = field("Token", { type: "password", autocomplete: "off" }, "Kept in this page until it is closed.");
    const failed = el("div", { role: "status" });
    const form = el("form", {}, this.about.token ? token.node : "", failed,
      el("div", { class: "tools end" }, el("button", { type: "submit", class: "primary danger" }, "Cancel the job")));
    const left = Math.max((total ?? 0) - moved, 0);
    const shown = dialog(`Cancel ${job}?`, { class: "order" },
      el("p", {}, `It stops after the transaction that is open. ${plural(moved, "record was", "records were")} moved by now: they stay moved, and their pipeline answers them. ${total ? `The other ${count(left)} stay` : "The others stay"} open dead letters. “Go on” moves them later.`), form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (token.input.value) setToken(token.input.value);
      try {
        await send(`api/jobs/${encodeURIComponent(job)}/cancel`, {});
        shown.close();
        this.changed();
      } catch (failure) {
        failed.replaceChildren(problem(failure, "It was not cancelled"));
        if (failure.status === 401) token.input.focus();
      }
    });
  }

  #goOn() {
    const { job, action } = this.job;
    openOrder({ action, about: this.about, what: `what job ${job} has left`, job, ...again(this.job) });
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
      this.outcome.replaceChildren(problem(failure, "The outcome can't be shown"));
    } finally {
      this.ask.disabled = false;
    }
  }
}

function note({ by, began, ended, state, outcome, refused, here, cancelled_by: cancelled }) {
  const from = Date.parse(began);
  const took = ended ? ` It took ${seconds((Date.parse(ended) - from) / 1000)}.` : "";
  const stayed = refused ? ` ${plural(refused, "was", "were")} refused and stayed.` : "";
  const end = cancelled && state === "running" ? ` ${cancelled} cancelled it.` : outcome && outcome !== "done" ? ` It stopped: ${sentence(outcome)}` : "";
  const else_ = state === "running" && !here ? " To stop it, press Ctrl-C where it runs." : "";
  const dead = state === "silent" ? " It began and did not end: it was killed, or its machine is away. What it moved stays moved." : "";
  return `${by} began it ${moment(from)}.${took}${stayed}${end}${else_}${dead}`;
}

function facts({ wanted, digest, began, ended }) {
  const { topics = [], filter = {}, ...rest } = wanted;
  const all = { began, ended: ended ?? "", topics: topics.join(", "), ...filter, ...rest, digest };
  return Object.entries(all).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]).filter(([, text]) => text);
}

/** What goes on with a job, in the words of an order; null where the page can't say the same again. */
function again({ action, wanted, limit_per_s: limit }) {
  const { filter = {}, topics, ...settings } = wanted;
  const known = Object.keys(filter).every((name) => FILTERS.has(name)) && !settings.patch_sha256 && !settings.value_sha256;
  const { since, until, ...chosen } = filter;
  const at = (time) => (time === undefined ? null : Date.parse(time));
  if (!["replay", "discard"].includes(action) || !known || Number.isNaN(at(since)) || Number.isNaN(at(until))) return null;
  return { ...chosen, since_ms: at(since), until_ms: at(until), settings: { ...settings, rate: limit } };
}
