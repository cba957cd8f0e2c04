// The pipelines: state, figures of now, charts, drivers, partitions.

import { Chart } from "./charts.js";
import { el, newId, setText } from "./dom.js";
import { UNKNOWN, bytes, count, moment, ms, percent, plural, rate, seconds, short } from "./format.js";

const FIGURES = [
  ["results", "Results a second"], ["dead", "Dead letters a second"], ["lag", "Records behind"],
  ["age", "Time behind"], ["latency", "Latency, p50"], ["settle", "Records a settle"],
  ["cache", "Cache hits"], ["workers", "Workers ready"],
];
const RESTARTS = { exit: "ended", killed: "killed", hung: "hung", device: "device", code: "code" };

/** All pipelines, in the order that the console tells. */
export class Pipelines {
  constructor(node) {
    this.node = node;
    this.cards = new Map();
    this.empty = el("p", { class: "empty" }, "Waiting for the first word of the console.");
    node.append(el("h2", { class: "hidden" }, "Pipelines"), this.empty);
  }

  /** Take in what the console tells; `range` is in seconds. */
  update(state, range) {
    this.empty.hidden = true;
    for (const each of state.pipelines) {
      if (!this.cards.has(each.name)) {
        const card = new Card(each.name);
        this.cards.set(each.name, card);
        this.node.append(card.node);
      }
      this.cards.get(each.name).update(each, state, range);
    }
  }

  /** Draw the charts over this stretch of time. */
  draw(range) {
    for (const card of this.cards.values()) card.draw(range);
  }

  /** Draw the charts anew, in the colours of now. */
  restyle() {
    for (const card of this.cards.values()) card.charts.forEach((chart) => chart.restyle());
  }
}

class Card {
  constructor(name) {
    const id = newId();
    this.points = { fine: new Map(), coarse: new Map() };
    this.untilMs = 0;
    this.state = el("span", { class: "state" });
    this.why = el("span", { class: "why" });
    this.about = el("p", { class: "about quiet" });
    this.figures = Object.fromEntries(FIGURES.map(([key]) => [key, [el("b"), el("small")]]));
    const tiles = FIGURES.map(([key, label]) =>
      el("div", { "data-figure": key }, el("dt", {}, label), el("dd", {}, ...this.figures[key])));
    this.charts = charts(name);
    this.drivers = el("div", { class: "scroll" });
    this.partitions = el("div", { class: "scroll" });
    this.details = el("details", {}, el("summary", {}, "Partitions and offsets"), this.partitions);
    this.node = el("article", { class: "card pipeline", "aria-labelledby": id, "data-pipeline": name },
      el("header", {}, el("h3", { id }, name), this.state, this.why), this.about,
      el("dl", { class: "figures" }, tiles),
      el("div", { class: "charts" }, this.charts.map((chart) => chart.node)), this.drivers, this.details);
  }

  update(pipeline, state, range) {
    this.untilMs = state.until_ms;
    for (const kind of ["fine", "coarse"]) {
      if (state.anew) this.points[kind].clear();
      for (const point of pipeline.points[kind]) this.points[kind].set(point[0], point);
    }
    this.columns = state.columns;
    this.#prune();
    setText(this.state, pipeline.state);
    this.state.dataset.state = pipeline.state;
    setText(this.why, pipeline.why);
    setText(this.about, about(pipeline));
    this.#figures(pipeline, state);
    replace(this.drivers, driverTable(pipeline.replicas));
    this.details.hidden = !pipeline.lag && !pipeline.lag_error;
    if (this.details.open || pipeline.lag_error) replace(this.partitions, partitionTable(pipeline));
    this.draw(range);
  }

  draw(range) {
    if (!this.columns) return;
    const kind = range > 900 ? this.points.coarse : this.points.fine;
    const end = this.untilMs / 1000;
    const points = [...kind.values()].filter((point) => point[0] >= end - range).sort((a, b) => a[0] - b[0]);
    const columns = Object.fromEntries(this.columns.map((name, index) => [name, points.map((point) => point[index])]));
    for (const chart of this.charts) chart.set(columns, [end - range, end]);
  }

  #figures(pipeline, state) {
    const { now, lag, replicas } = pipeline;
    const away = !state.kafka.reached;
    const ready = replicas.filter((each) => each.workers_ready !== null);
    const forward = replicas.map((each) => each.forward_records).filter((mean) => mean !== null);
    const restarts = replicas.flatMap((each) => Object.values(each.restarts)).reduce((a, b) => a + b, 0);
    const put = (key, value, small = "") => {
      setText(this.figures[key][0], value);
      setText(this.figures[key][1], small);
    };
    put("results", rate(now?.results_per_s), now ? `${rate(now.tokens_per_s)} tokens/s` : away ? "" : "no reports read");
    const outcomes = now ? now.results_per_s + now.dead_letters_per_s : 0;
    put("dead", rate(now?.dead_letters_per_s), outcomes ? `${percent(now.dead_letters_per_s / outcomes)} of outcomes` : "");
    this.figures.dead[0].classList.toggle("bad", (now?.dead_letters_per_s ?? 0) > 0);
    put("lag", count(lag?.records), lag ? `${rate(lag.rate_in)} in a second` : away ? "" : "offsets not read");
    const last = pipeline.last_settled_ms ? `last settle ${moment(pipeline.last_settled_ms)}` : "";
    put("age", seconds(lag?.seconds), lag?.records && lag.drain_s !== null ? `drains in ${seconds(lag.drain_s)}` : last);
    put("latency", ms(now?.p50_ms), now?.p99_ms ? `p95 ${ms(now.p95_ms)} · p99 ${ms(now.p99_ms)}`.replace(" ms ·", " ·") : "");
    put("settle", rate(now?.settle_records), forward.length ? `${rate(mean(forward))} a forward batch` : "");
    put("cache", percent(now?.cached_share), tiers(replicas));
    put("workers", ready.length ? count(ready.reduce((sum, each) => sum + each.workers_ready, 0)) : "unknown",
      ready.length ? (restarts ? plural(restarts, "restart") : "no restarts") : state.drivers.asked ? "no driver answers" : "no --metrics URL");
    this.figures.workers[0].classList.toggle("bad", ready.some((each) => each.workers_ready === 0));
  }

  /** Forget what no range shows. */
  #prune() {
    for (const [kind, keep] of [["fine", 960], ["coarse", 22_000]]) {
      for (const time of this.points[kind].keys()) {
        if (time >= this.untilMs / 1000 - keep) break;
        this.points[kind].delete(time);
      }
    }
  }
}

function charts(pipeline) {
  const sync = `cursor-${pipeline}`;
  const make = (title, lines, format, more = {}) => new Chart({ title, lines, format, sync, pipeline, ...more });
  return [
    make("Outcomes a second", [["results_per_s", "results", "blue"], ["dead_letters_per_s", "dead letters", "red"]], rate),
    make("Lag", [["lag_records", "records behind", "amber"]], count),
    make("Latency", [["p50_ms", "p50", "green"], ["p95_ms", "p95", "blue"], ["p99_ms", "p99", "violet"]], ms, { log: true }),
    make("Records a settle", [["settle_records", "mean", "violet"]], rate),
    make("Cache hits", [["cached_share", "of results", "green"]], percent, { top: 1 }),
    make("Tokens a second", [["tokens_per_s", "tokens", "blue"]], rate),
  ];
}

function about({ task, model, topics }) {
  const parts = [task, model && `${model.name}@${model.revision.slice(0, 12)}`];
  if (topics) parts.push(`${topics.input.join(", ")} → ${topics.output}`, topics.guarantee.replaceAll("_", " "));
  else parts.push("not in this configuration: known by its reports");
  return parts.filter(Boolean).join(" · ");
}

function tiers(replicas) {
  const sum = (name) => replicas.reduce((total, each) => total + (each.cache_lookups[name] ?? 0), 0);
  if (replicas.some((each) => each.cache_available === false)) return "shared cache is bypassed";
  const hits = [["memory", sum("memory.hit")], ["shared", sum("shared.hit")]].filter(([, number]) => number > 0);
  return hits.map(([tier, number]) => `${short(number)} ${tier}`).join(" · ");
}

function driverTable(replicas) {
  if (!replicas.length) return null;
  const rows = replicas.map((each) => el("tr", {},
    el("th", { scope: "row", class: "mono" }, each.slot),
    el("td", {}, each.ready === null ? UNKNOWN : each.ready ? "ready" : "not ready"),
    number(count(each.workers_ready)),
    el("td", {}, restarts(each.restarts)),
    el("td", {}, each.device || UNKNOWN),
    number(bytes(each.in_flight_bytes)),
    number(seconds(each.head_of_line_s)),
    el("td", {}, each.held === null ? UNKNOWN : each.held ? "holds" : "takes"),
    el("td", {}, each.cache_available === null ? UNKNOWN : each.cache_available ? "asked" : "bypassed")));
  return table("Drivers", ["driver", "state", "#workers", "restarts", "device", "#in flight", "#oldest in flight", "source", "shared cache"], rows);
}

function restarts(reasons) {
  const found = Object.entries(reasons).filter(([, number]) => number > 0);
  return found.length ? found.map(([reason, number]) => `${number} ${RESTARTS[reason] ?? reason}`).join(", ") : "none";
}

function partitionTable({ lag, lag_error: error }) {
  if (error) return el("p", { class: "bad" }, error);
  const rows = lag.partitions.map((each) => el("tr", {},
    el("th", { scope: "row", class: "mono" }, `${each.topic}/${each.partition}`),
    number(count(each.settled)), number(count(each.end)), number(count(each.records)), number(seconds(each.seconds))));
  return table("Partitions", ["partition", "#settled", "#end", "#records behind", "#time behind"], rows);
}

/** A table; headings that begin with # stand over numbers. */
export function table(caption, headings, rows) {
  const heads = headings.map((text) => el("th", { scope: "col", class: text.startsWith("#") ? "number" : null }, text.replace("#", "")));
  return el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

/** A cell of a number. */
export function number(text) {
  return el("td", { class: "number" }, text);
}

/** Replace the content only where its text differs: a selection or focus in it stays. */
function replace(node, content) {
  if (node.textContent === (content?.textContent ?? "") && node.childElementCount === (content ? 1 : 0)) return;
  node.replaceChildren(...(content ? [content] : []));
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
