// Model health: a line for each pipeline that a person understands first, then the pictures of one.

import { read } from "./api.js";
import { Course } from "./course.js";
import { el, problem, prose, setText } from "./dom.js";
import { count, moment } from "./format.js";
import { setState, sentence } from "./overview.js";
import { capital, sides } from "./pictures.js";
import { quality } from "./quality.js";

const TICK_MS = 1_000;
const EVERY_MS = 5_000; // windows come once a minute, states too
const LENGTHS = [["5m", "24 h"], ["1h", "14 days"]];
const LATELY = 6; // windows: who answers in none of them is out of service
const RULES = { ok: "ok", pending: "warn", firing: "bad", insufficient: "unknown" };

/** The view: the pipelines in a line each, and one of them whole. */
export class Health {
  constructor(node) {
    this.length = "5m";
    this.shown = false;
    this.chosen = null;
    this.empty = el("p", { class: "empty" });
    this.list = el("ul", { class: "card health-list", hidden: true });
    this.heading = el("h2", {}, "Model health");
    this.back = el("a", { href: "#/health", class: "back", hidden: true }, "← All pipelines");
    this.range = el("fieldset", { class: "segments", hidden: true, onchange: (event) => { this.length = event.target.value; this.next?.(); } },
      el("legend", { class: "hidden" }, "Time shown in the charts"),
      LENGTHS.map(([value, label]) => el("label", {}, el("input", { type: "radio", name: "length", value, checked: value === this.length }), el("span", {}, label))));
    this.failed = el("div");
    this.one = el("div");
    node.append(el("header", { class: "view" }, this.back, this.heading, el("div", { class: "tools" }, this.range)), this.empty, this.list, this.failed, this.one);
  }

  /** Whether the view is shown, and which pipeline of it. */
  show(shown, name) {
    this.shown = shown;
    this.chosen = name;
    if (shown) scrollTo(0, 0);
    this.#choose();
  }

  /** Take in what the console tells. */
  update({ error, topic, feedback, pipelines }) {
    this.feedback = feedback;
    this.names = pipelines.map((each) => each.name);
    const texts = error === null ? [`Reading the topic ${topic} …`]
      : error ? [`No word on model health: ${error}. `, "Start it with `streamer health run`, beside the pipelines."]
        : [`The topic ${topic} is there, and empty. `, "Is the health app running? It writes there 5 s after the first minute in which a pipeline settles: run one, and start the app with `streamer health run`."];
    const told = texts.join("");
    if (this.empty.dataset.told !== told) this.empty.replaceChildren(...prose(told));
    this.empty.dataset.told = told;
    this.empty.hidden = pipelines.length > 0;
    this.#rows(pipelines);
    this.#choose();
  }

  /** Draw the charts anew, in the colours of now. */
  restyle() {
    this.card?.restyle();
  }

  #rows(pipelines) {
    const told = JSON.stringify(pipelines);
    if (told === this.told) return;
    this.told = told;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.textContent : null;
    this.list.replaceChildren(...pipelines.map((each) => {
      const state = el("span", { class: "state" });
      setState(state, each);
      return el("li", { "data-pipeline": each.name }, state, el("a", { href: `#/health/${encodeURIComponent(each.name)}` }, each.name), el("p", {}, sentence(capital(each.what))));
    }));
    if (focused !== null) [...this.list.querySelectorAll("a")].find((link) => link.textContent === focused)?.focus({ preventScroll: true });
  }

  /** A single pipeline needs no list. */
  #choose() {
    const only = this.names?.length === 1 ? this.names[0] : null;
    const name = this.shown ? this.chosen ?? only : null;
    this.list.hidden = name !== null || !this.names?.length;
    this.back.hidden = name === null || name === only;
    this.heading.hidden = !this.back.hidden;
    this.range.hidden = name === null;
    if (name === this.name) return;
    this.name = name;
    this.card = null;
    this.one.replaceChildren();
    this.failed.replaceChildren();
    if (name !== null) this.#follow(this.card = new Card(name));
  }

  async #follow(card) {
    while (this.card === card) {
      try {
        const told = await read(`api/health?name=${encodeURIComponent(card.name)}&length=${this.length}`);
        if (this.card !== card) return;
        card.update(told, this.feedback);
        if (!card.node.isConnected) this.one.replaceChildren(card.node);
        this.failed.replaceChildren();
      } catch (failure) {
        if (this.card !== card) return;
        if (failure.status === 404) this.failed.replaceChildren(el("p", { class: "empty" }, sentence(failure.message)));
        else if (failure.status) this.failed.replaceChildren(problem(failure, "The state of this model can't be shown"));
      }
      await new Promise((done) => { this.next = done; setTimeout(done, EVERY_MS); });
      while (document.hidden && this.card === card) await new Promise((done) => { setTimeout(done, TICK_MS); });
    }
  }
}

/** One pipeline: its sentence, then everything over time, drift, quality and the rules. */
class Card {
  constructor(name) {
    this.name = name;
    this.told = {};
    this.state = el("span", { class: "state" });
    this.heard = el("span", { class: "quiet" });
    this.says = el("p", { class: "says" });
    this.course = new Course(name);
    this.parts = { drift: el("div"), quality: el("div"), rules: el("div") };
    this.before = el("div", {}, el("h3", {}, "Quality"), this.course.grades);
    this.node = el("article", { class: "card pipeline health", "data-pipeline": name },
      el("header", {}, el("h2", {}, name), this.state, this.heard), this.says, this.course.node,
      this.parts.drift, this.before, this.parts.quality, this.parts.rules);
  }

  update(picture, feedback) {
    setState(this.state, picture.headline);
    setText(this.says, sentence(capital(picture.headline.what)));
    setText(this.heard, `as of ${moment(picture.heard_ms)}`);
    this.course.update(picture);
    this.#part("drift", [picture.whole, picture.cut, picture.drift, picture.baselines, picture.series.map((each) => each.revision)], () => drift(picture, this.name));
    this.#part("quality", picture.quality, () => quality(picture.quality, feedback));
    this.#part("rules", picture.rules, () => rules(picture.rules));
  }

  restyle() {
    this.course.restyle();
  }

  /** Make a part anew only where something of it has changed: what is open or selected in it stays. */
  #part(name, of, make) {
    const told = JSON.stringify(of);
    if (told === this.told[name]) return;
    this.told[name] = told;
    const open = [...this.parts[name].querySelectorAll("details")].map((each) => each.open);
    this.parts[name].replaceChildren(...make().filter((each) => each !== null));
    this.parts[name].querySelectorAll("details").forEach((each, at) => { each.open = open[at] ?? false; });
  }
}

function drift({ drift: monitors, baselines, series, whole, cut }, name) {
  const without = series.filter(({ revision, columns }) => !(revision in baselines) && columns.rate.slice(-LATELY).some((value) => value !== null));
  const hints = !whole ? [el("p", { class: "quiet hint" }, "What was said before the last day is still being read.")] : without.map(({ revision, model }) => el("p", { class: "quiet hint" },
    ...prose(cut ? `No baseline of ${model}@${revision.slice(0, 12)} was found in what is read here, which does not go back to the topic's beginning. This reads all: \`streamer health baseline show ${name}\``
      : `There is no baseline of ${model}@${revision.slice(0, 12)}. Once all is as usual, save one: \`streamer health baseline save ${name}\``)));
  const saved = Object.entries(baselines).map(([revision, each]) => `the baseline of ${revision.slice(0, 12)}, ${count(each.records)} results up to ${moment(each.until_ms)}${each.covers_a_week ? "" : ", less than a week"}`);
  if (monitors.some((each) => each.against === "season")) saved.push("the same hour of the days before");
  const moved = monitors.filter((each) => each.state === "drift");
  const others = monitors.filter((each) => each.state !== "drift");
  const several = new Set(monitors.map((each) => each.revision)).size > 1;
  const shown = (each) => sides(several ? { ...each, what: `${each.revision.slice(0, 12)}: ${each.what}` } : each);
  const more = el("div", { class: "pictures" });
  const few = others.filter((each) => each.state === "insufficient").length;
  const words = few === others.length ? "too few texts to tell" : few ? `nothing has moved there, of ${few} too few texts to tell` : "nothing has moved there";
  return [el("h3", {}, "Drift"),
    saved.length ? el("p", { class: "quiet" }, `Held against ${saved.join("; ")}.`) : null, ...hints,
    moved.length ? el("div", { class: "pictures" }, moved.map(shown))
      : monitors.length ? el("p", {}, "No monitor says drift.") : null,
    others.length ? el("details", { class: "others", ontoggle: (event) => { if (event.target === event.currentTarget && event.target.open && !more.childElementCount) more.append(...others.map(shown)); } },
      el("summary", {}, `What ${count(others.length)} other monitors see: ${words}`), more) : null];
}

function rules(states) {
  if (!states.length) return [];
  return [el("h3", {}, "Rules"), el("dl", { class: "standing" }, states.flatMap((each) => {
    const state = el("dt", { class: "state" });
    setState(state, { state: each.state, level: each.state === "firing" && each.severity === "ticket" ? "warn" : RULES[each.state] });
    return [state, el("dd", {}, el("b", {}, each.rule), ` since ${moment(each.since_ms)}: ${each.what.replace(`${each.pipeline}: `, "")}`)];
  }))];
}
