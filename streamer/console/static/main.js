// The page: views by address, the live state once a second, and what to say when something is away.

import { Failure, onTokenWanted, read, wantToken } from "./api.js";
import { Detail } from "./detail.js";
import { el, newId, setText } from "./dom.js";
import { clock } from "./format.js";
import { Health } from "./health.js";
import { Jobs } from "./jobs.js";
import { showLetter } from "./letter.js";
import { DeadLetters } from "./letters.js";
import { states } from "./live.js";
import { Overview, SIGNS } from "./overview.js";

const SILENCE_MS = 8_000;
const RETRY_MS = 2_000;
const VIEWS = { pipelines: "Pipelines", "dead-letters": "Dead letters", jobs: "Replays", health: "Model health" };
const find = (id) => document.getElementById(id);

let state = null;
let lost = false;
let left = null; // the pipeline that was opened from the overview, and how far down that was

onTokenWanted(askForToken);
const about = await patiently(() => read("api/about"));
const overview = new Overview(find("pipelines"));
const detail = new Detail(find("pipeline"), about);
const letters = new DeadLetters(find("dead-letters"), about);
const jobs = new Jobs(find("jobs"), about, () => { if (letters.lookedMs) letters.look(); });
const health = new Health(find("health"));

find("footer").append(`streamer ${about.version} · ${about.replay ? "may replay, with the token" : "only reads"}`
  + ` · ${about.shows_text ? "shows texts of events" : "shows no text of events"}`);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { detail.restyle(); health.restyle(); });
addEventListener("hashchange", route);
history.scrollRestoration = "manual";
route();
follow();

/** Show the view that the address names; a dead letter's address opens it over its view. */
function route() {
  const [path, query = ""] = location.hash.split("?");
  const [, view, ...rest] = path.split("/").map(decodeURIComponent);
  const shown = view in VIEWS ? view : "pipelines";
  const name = shown === "pipelines" && rest[0] ? rest[0] : null;
  if (name !== null && !find("pipelines").hidden) left = { name, scrollY };
  for (const each of Object.keys(VIEWS)) find(each).hidden = each !== shown || name !== null;
  find("pipeline").hidden = name === null;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown === "pipelines") move(name);
  document.title = `${name ?? VIEWS[shown]} · streamer`;
  for (const dialog of document.querySelectorAll("dialog.letter, dialog.order")) dialog.close();
  detail.show(name);
  jobs.follow(shown === "jobs");
  health.show(shown === "health", rest[0] ?? null);
  if (shown !== "dead-letters") return;
  const pipeline = new URLSearchParams(query).get("pipeline");
  if (pipeline !== null) letters.show(pipeline);
  else if (!letters.lookedMs) letters.look();
  if (rest.length === 3) {
    const address = location.hash;
    showLetter(rest.join("/"), about, () => {
      if (location.hash === address) history.replaceState(null, "", "#/dead-letters");
    });
  }
}

/** Begin at the top of a pipeline; back in the overview, be where it was left. */
function move(name) {
  if (name !== null) {
    scrollTo(0, 0);
    if (left) find("main").focus({ preventScroll: true });
  } else if (left) {
    scrollTo(0, left.scrollY);
    overview.focus(left.name);
    left = null;
  }
}

/** Take in the live state for ever. */
async function follow() {
  for (;;) {
    try {
      for await (const next of states(SILENCE_MS)) {
        lost = false;
        state = next;
        show();
      }
    } catch (failure) {
      if (failure instanceof Failure && failure.status === 401) {
        await wantToken();
        continue;
      }
    }
    lost = true;
    show();
    await new Promise((done) => setTimeout(done, RETRY_MS));
  }
}

function show() {
  if (state) {
    setText(find("cluster"), state.kafka.address);
    if (!lost) {
      overview.update(state);
      letters.note(state);
      health.update(state.health);
      const worst = ["bad", "warn"].find((level) => state.health.pipelines.some((each) => each.level === level));
      setText(document.querySelector('nav a[data-view="health"]'), worst ? `${VIEWS.health} ${SIGNS[worst]}` : VIEWS.health);
    }
  }
  const [word, kind] = lost ? ["no connection", "lost"] : state?.kafka.reached ? ["live", "live"] : state?.kafka.reached === false ? ["brokers away", "lost"] : ["connecting", "connecting"];
  setText(find("status"), word);
  find("status").dataset.state = kind;
  document.body.classList.toggle("stale", kind === "lost");
  banners();
}

function banners() {
  const texts = [];
  const asOf = state?.kafka.answered_ms ? ` What is shown is as of ${clock(state.kafka.answered_ms)}.` : "";
  if (lost) texts.push(["bad", `The console does not answer. This page keeps trying.${state ? ` What is shown is as of ${clock(state.now_ms)}.` : ""}`]);
  else if (state?.kafka.error) texts.push(["bad", `${state.kafka.error}. The console keeps trying.${asOf}`]);
  if (!lost && state && !state.kafka.error) {
    if (state.reports.topic === null) texts.push(["", "Reports are off (telemetry.reports = \"\"): throughput, latency and cache hits are not known."]);
    else if (state.reports.error) texts.push(["", `Reports can't be read: ${state.reports.error}`]);
  }
  const told = JSON.stringify(texts);
  if (find("banners").dataset.told === told) return;
  find("banners").dataset.told = told;
  find("banners").replaceChildren(...texts.map(([kind, text]) => el("p", { class: `banner ${kind}` }, text)));
}

/** Ask for the token in a dialog that stays until there is one. */
function askForToken(wasWrong) {
  return new Promise((done) => {
    const id = newId();
    const input = el("input", { id, type: "password", autocomplete: "off", required: true });
    const form = el("form", {}, el("div", { class: "field" }, el("label", { for: id }, "Token"), input,
      el("small", {}, "The console was started with it. Kept in this page until it is closed.")),
    wasWrong ? el("p", { class: "notice bad", role: "alert" }, "That token is wrong.") : null, el("div", { class: "tools end" }, el("button", { type: "submit", class: "primary" }, "Go on")));
    const dialog = el("dialog", { "aria-label": "Token", oncancel: (event) => event.preventDefault() },
      el("header", {}, el("h2", {}, "This console needs its token")), form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.remove();
      done(input.value);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Try until it works. */
async function patiently(ask) {
  for (;;) {
    try {
      return await ask();
    } catch {
      lost = true;
      show();
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
}
