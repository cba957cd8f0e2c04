// One pipeline: its state, figures, charts, drivers and partitions.

import { read } from "./api.js";
import { Chart } from "./charts.js";
import { el, number, problem, replace, setText, table } from "./dom.js";
import { UNKNOWN, bytes, count, moment, ms, percent, plural, rate, seconds, short } from "./format.js";
import { advice, sentence, setState } from "./overview.js";

const FIGURES = [
  ["results", "Results a second"], ["dead", "Dead letters a second"], ["lag", "Records behind"],
  ["age", "Time behind"], ["latency", "Latency, p50"], ["settle", "Records a settle"],
  ["cache", "Cache hits"], ["workers", "Workers ready"],
];
const RESTARTS = { exit: "ended", killed: "killed", hung: "hung", device: "device", code: "code" };
const TICK_MS = 1_000;
const AGAIN_MS = 16_000; // a point is the mean of ten seconds, and reports may be five late
const RANGES = [[300, "5 min"], [900, "15 min"], [21_600, "6 h"]];

/** The view of one pipeline: it asks while it is shown. */
export class Detail {
  constructor(node, about) {
    this.node = node;
    this.about = about;
    this.range = 300;
    this.name = null;
  }

  /** Show this pipeline; null shows none, and asks no more. */
  show(name) {
    if (name === this.name) return;
    this.name = name;
    this.card = null;
    if (name === null) return;
    this.card = new Card(name, this.range);
    const choose = el("fieldset", { class: "segments", onchange: (event) => { this.card.range = this.range = Number(event.target.value); this.card.draw(); } },
      el("legend", { class: "hidden" }, "Time shown in the charts"),
      RANGES.map(([value, label]) => el("label", {}, el("input", { type: "radio", name: "range", value, checked: value === this.range }), el("span", {}, label))));
    this.failed = el("div");
    this.node.replaceChildren(el("header", { class: "view" }, el("a", { href: "#/pipelines", class: "back" }, "← All pipelines"),
      el("div", { class: "tools" }, el("a", { href: `#/dead-letters?pipeline=${encodeURIComponent(name)}` }, "Its dead letters"), el("a", { href: `#/health/${encodeURIComponent(name)}` }, "Its model's health"), choose, longer(this.about, name))),
    this.failed, this.card.node);
    this.#follow(name);
  }

  /** Draw the charts anew, in the colours of now. */
  restyle() {
    this.card?.charts.forEach((chart) => chart.restyle());
  }

  async #follow(name) {
    let since = 0;
    let reading = null;
    const { card, failed } = this;
    while (this.card === card) {
      try {
        let told = await read(`api/pipeline?name=${encodeURIComponent(name)}&since=${since}`);
        if (since && told.reading !== reading) told = await read(`api/pipeline?name=${encodeURIComponent(name)}&since=0`);
        if (this.card !== card) return;
        const anew = told.reading !== reading;
        ({ reading } = told);
        since = Math.max(told.until_ms - AGAIN_MS, 1);
        card.update(told, anew);
        failed.replaceChildren();
      } catch (failure) {
        if (this.card !== card) return;
        card.node.classList.add("old");
        if (failure.status === 404) {
          card.node.remove();
          failed.replaceChildren(el("p", { class: "empty" }, sentence(failure.message)));
          return;
        }
        if (failure.status) failed.replaceChildren(problem(failure, "The state of this pipeline is unknown"));
      }
      await new Promise((done) => { setTimeout(done, TICK_MS); });
      while (document.hidden && this.card === card) await new Promise((done) => { setTimeout(done, TICK_MS); });
    }
  }
}

/** Where longer times are looked at. */
function longer({ prometheus_url: url }, name) {
  if (!url) return el("span", { class: "quiet" }, "More than 6 h: Prometheus, see deploy/prometheus");
  return el("a", { href: url.replaceAll("{pipeline}", encodeURIComponent(name)), target: "_blank", rel: "noreferrer" }, "More than 6 h: Prometheus ↗");
}

class Card {
  constructor(name, range) {
    this.range = range;
    this.points = { fine: new Map(), coarse: new Map() };
    this.untilMs = 0;
    this.state = el("span", { class: "state" });
    this.age = el("span", { class: "quiet" });
    this.problems = el("div");
    this.about = el("p", { class: "about quiet" });
    this.figures = Object.fromEntries(FIGURES.map(([key]) => [key, [el("b"), el("small")]]));
    const tiles = FIGURES.map(([key, label]) =>
      el("div", { "data-figure": key }, el("dt", {}, label), el("dd", {}, ...this.figures[key])));
    this.charts = charts(name);
    this.drivers = el("div", { class: "scroll" });
    this.partitions = el("div", { class: "scroll" });
    this.details = el("details", {}, el("summary", {}, "Partitions and offsets"), this.partitions);
    this.means = el("p", { class: "quiet means" });
    this.node = el("article", { class: "card pipeline", "data-pipeline": name },
      el("header", {}, el("h2", {}, name), this.state, this.age), this.about, this.problems,
      el("dl", { class: "figures" }, tiles), this.means,
      el("div", { class: "charts" }, this.charts.map((chart) => chart.node)), this.drivers, this.details);
  }

  /** Take in what the console tells; `anew` forgets the points of before. */
  update(pipeline, anew) {
    this.untilMs = pipeline.until_ms;
    for (const kind of ["fine", "coarse"]) {
      if (anew) this.points[kind].clear();
      for (const point of pipeline.points[kind]) this.points[kind].set(point[0], point);
    }
    this.columns = pipeline.columns;
    this.pipeline = pipeline;
    this.#prune();
    setState(this.state, pipeline);
    setText(this.age, pipeline.stale_s > 0 ? `the figures are ${seconds(pipeline.stale_s)} old` : "");
    this.node.classList.toggle("old", pipeline.stale_s > 0);
    setText(this.about, about(pipeline));
    replace(this.problems, pipeline.problems.length ? el("ul", { class: "problems" }, pipeline.problems.map((each) => el("li", {}, advice(each)))) : null);
    replace(this.drivers, driverTable(pipeline));
    this.details.hidden = !pipeline.lag && !pipeline.lag_error;
    if (this.details.open) replace(this.partitions, partitionTable(pipeline));
    this.draw();
  }

  /** Draw the charts, and write the figures of their newest points. */
  draw() {
    if (!this.columns) return;
    const coarse = this.range > 900;
    const kind = coarse ? this.points.coarse : this.points.fine;
    const end = this.untilMs / 1000;
    const points = [...kind.values()].filter((point) => point[0] >= end - this.range).sort((a, b) => a[0] - b[0]);
    const columns = Object.fromEntries(this.columns.map((name, index) => [name, points.map((point) => point[index])]));
    for (const chart of this.charts) chart.set(columns, [end - this.range, end]);
    setText(this.means, `Figures and points are means of ${coarse ? "30" : "10"} seconds; the figures are the newest points.`);
    this.#figures(Object.fromEntries(this.columns.map((name) => [name, newest(columns[name], name)])));
  }

  #figures(now) {
    const { pipeline } = this;
    const { lag, drivers, metrics } = pipeline;
    const ready = drivers.filter((each) => each.workers_ready !== null);
    const forward = drivers.map((each) => each.forward_records).filter((mean) => mean !== null);
    const restarts = drivers.flatMap((each) => Object.values(each.restarts)).reduce((a, b) => a + b, 0);
    const put = (key, value, small = "", bad = false) => {
      setText(this.figures[key][0], value);
      setText(this.figures[key][1], small);
      this.figures[key][0].classList.toggle("bad", bad);
    };
    put("results", rate(now.results_per_s), now.results_per_s === null ? "no reports read" : `${rate(now.tokens_per_s)} tokens/s`);
    put("dead", rate(now.dead_letters_per_s), pipeline.dead_share === null ? "" : `${percent(pipeline.dead_share)} in 5 min`, now.dead_letters_per_s > 0);
    put("lag", count(now.lag_records), lag ? lag.rate_in === null ? "" : `${rate(lag.rate_in)}/s come in` : "offsets not read");
    const last = pipeline.last_settled_ms ? `last settle ${moment(pipeline.last_settled_ms)}` : "nothing settled yet";
    put("age", seconds(now.lag_seconds), lag?.records && lag.drain_s !== null ? `drains in ${seconds(lag.drain_s)}` : last);
    put("latency", ms(now.p50_ms), now.p99_ms ? `p95 ${ms(now.p95_ms)} · p99 ${ms(now.p99_ms)}`.replace(" ms ·", " ·") : "no results");
    put("settle", rate(now.settle_records), forward.length ? `${rate(mean(forward))} a forward batch` : "");
    put("cache", percent(now.cached_share), tiers(drivers));
    const silent = Math.max(0, ...drivers.map((each) => each.silent_s));
    put("workers", ready.length ? count(ready.reduce((sum, each) => sum + each.workers_ready, 0)) : "unknown",
      silent ? `${seconds(silent)} old` : ready.length ? (restarts ? plural(restarts, "restart") : "no restarts") : metrics.asked ? "no driver answers" : "no --metrics URL",
      ready.some((each) => each.workers_ready === 0));
    this.figures.workers[0].parentElement.classList.toggle("old", silent > 0);
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
    make("Records behind", [["lag_records", "records", "amber"]], count),
    make("Time behind", [["lag_seconds", "oldest", "amber"]], seconds, { unit: " s" }),
    make("Latency", [["p50_ms", "p50", "green"], ["p95_ms", "p95", "blue"], ["p99_ms", "p99", "violet"]], ms, { log: true }),
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

/** The newest value; of the lag, which is not looked at every second, the last one known. */
function newest(values, name) {
  const known = name.startsWith("lag_") ? values.findLast((value) => value !== null) : values.at(-1);
  return known ?? null;
}

function tiers(replicas) {
  const sum = (name) => replicas.reduce((total, each) => total + (each.cache_lookups[name] ?? 0), 0);
  if (replicas.some((each) => each.cache_available === false)) return "shared cache is bypassed";
  const hits = [["memory", sum("memory.hit")], ["shared", sum("shared.hit")]].filter(([, number]) => number > 0);
  return hits.map(([tier, number]) => `${short(number)} ${tier}`).join(" · ");
}

function driverTable({ drivers, metrics }) {
  if (!drivers.length) {
    const silent = Object.values(metrics.silent)[0];
    return el("p", { class: "quiet" }, silent ? `No driver's metrics are read: ${silent}.` : "No driver's metrics are read: name them with --metrics URL.");
  }
  const rows = drivers.map((each) => el("tr", { class: each.silent_s > 0 ? "old" : null },
    el("th", { scope: "row", class: "mono" }, each.slot),
    el("td", {}, each.silent_s > 0 ? `silent for ${seconds(each.silent_s)}` : each.ready === null ? UNKNOWN : each.ready ? "ready" : "not ready"),
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

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
