// A model over time: charts with a line for each revision, the shares of its answers, and all of it as a table.

import { Chart } from "./charts.js";
import { el, number, replace, setText, table } from "./dom.js";
import { capital } from "./pictures.js";
import { UNKNOWN, moment, ms, percent, plural, rate, short } from "./format.js";

const COLOURS = ["s1", "s2", "s3", "s4", "s5", "s6"];
const DASHES = [undefined, [6, 4], [2, 3], [8, 3, 2, 3], [4, 2]];
const MOST_SHARES = 2;
const FACTS = [
  ["rate", "Results a second", { format: rate }],
  ["dead_letter_share", "Dead letters", { format: percent, tick: (value) => `${short(value * 100)} %` }],
  ["confidence", "Confidence, mean", { format: decimal, top: 1, tick: decimal }],
  ["p50_ms", "Latency, p50", { format: ms, log: true }],
  ["p99_ms", "Latency, p99", { format: ms, log: true }],
  ["chars", "Text length, characters", { format: rate }],
];

const QUALITY = [
  ["realised", "From feedback", { format: decimal }],
  ["estimated_accuracy", "Accuracy, estimated", { format: percent }],
  ["coverage", "Results with feedback", { format: percent }],
];

/** All charts of a pipeline; `grades` are those of quality. They are made anew where its revisions or labels change. */
export class Course {
  constructor(name) {
    this.name = name;
    this.charts = [];
    this.facts = el("div", { class: "charts" });
    this.shares = el("div", { class: "charts shares" });
    this.grades = el("div", { class: "charts" });
    this.note = el("p", { class: "quiet" });
    this.rows = el("div", { class: "scroll tall", tabindex: "0" });
    this.details = el("details", { ontoggle: () => this.#table() }, el("summary", {}, "All of it as a table"), this.rows);
    this.heading = el("h3", {}, "Answers");
    this.node = el("div", {}, el("h3", {}, "Over time"), this.note, this.facts, this.heading, this.shares, this.details);
  }

  /** Show a picture. */
  update(picture) {
    this.picture = picture;
    const { series, time_s: times, length_ms: length, left_out: left } = picture;
    const shape = JSON.stringify([length, series.map((each) => [each.revision, Object.keys(each.labels), each.metric, some(each.columns.estimated_accuracy), some(each.columns.coverage)])]);
    if (shape !== this.shape) this.#make(picture);
    this.shape = shape;
    setText(this.note, series.length ? `Means of ${length === 300_000 ? "five minutes" : "an hour"}.${series.length > 1 ? " A line for each revision of the model." : ""}${left ? ` ${plural(left, "older revision is", "older revisions are")} left out.` : ""}`
      : "Nothing was settled in this time.");
    const window = [times[0] ?? 0, (times.at(-1) ?? 0) + length / 1000];
    for (const { chart, columns } of this.charts) chart.set({ time_s: times, ...columns(series) }, window);
    this.#table();
  }

  restyle() {
    for (const { chart } of this.charts) chart.restyle();
  }

  #make({ series, length_ms: length }) {
    const sync = `health ${this.name} ${length}`;
    const facts = FACTS.filter(([key]) => series.some((each) => some(each.columns[key])));
    const made = facts.map(([key, title, options]) => ({
      chart: new Chart({ title, ...options, sync, pipeline: this.name,
        lines: series.map((each, at) => [each.revision, name(each, series), COLOURS[at], DASHES[at]]) }),
      columns: (all) => Object.fromEntries(all.map((each) => [each.revision, each.columns[key]])),
    }));
    const answering = series.filter((each) => Object.keys(each.labels).length).slice(0, MOST_SHARES);
    const shares = answering.map((one) => ({
      chart: new Chart({ title: answering.length > 1 ? `Shares of answers, ${name(one, series)}` : "Shares of answers", format: percent, top: 1, stacked: true, sync, pipeline: this.name,
        lines: Object.keys(one.labels).map((label, at) => [label, label || "others", label ? COLOURS[at] : "rest"]) }),
      columns: (all) => all.find((each) => each.revision === one.revision)?.labels ?? {},
    }));
    const grades = this.#grades(series, sync);
    this.charts = [...made, ...shares, ...grades];
    this.grades.replaceChildren(...grades.map(({ chart }) => chart.node));
    this.facts.replaceChildren(...made.map(({ chart }) => chart.node));
    this.shares.replaceChildren(...shares.map(({ chart }) => chart.node));
    this.heading.hidden = !shares.length;
  }

  /** What feedback says beside what confidence lets one expect, and how much feedback there is. */
  #grades(series, sync) {
    const told = series.filter(({ columns }) => [columns.realised, columns.estimated_accuracy].some(some)).slice(0, MOST_SHARES);
    const made = told.map((one) => {
      const isShare = ["", "accuracy"].includes(one.metric);
      const lines = [["realised", "from feedback", "s1"], ["estimated_accuracy", "estimated without labels", "s2", DASHES[1]]];
      const shown = lines.filter(([key]) => some(one.columns[key]) && (isShare || key === "realised"));
      return {
        chart: new Chart({ title: `${capital(one.metric || "accuracy")}${told.length > 1 ? `, ${name(one, series)}` : ""}`, lines: shown,
          ...(isShare ? { format: percent, top: 1 } : { format: decimal }), sync, pipeline: this.name }),
        columns: (all) => all.find((each) => each.revision === one.revision)?.columns ?? {},
      };
    });
    const covered = series.filter((each) => some(each.columns.coverage));
    if (covered.length) {
      made.push({
        chart: new Chart({ title: "Results with feedback", format: percent, tick: (value) => `${short(value * 100)} %`, sync, pipeline: this.name,
          lines: covered.map((each) => [each.revision, name(each, series), COLOURS[series.indexOf(each)], DASHES[series.indexOf(each)]]) }),
        columns: (all) => Object.fromEntries(all.map((each) => [each.revision, each.columns.coverage])),
      });
    }
    return made;
  }

  /** The newest windows first; only while it is open. */
  #table() {
    if (!this.details.open || !this.picture) return;
    const { series, time_s: times } = this.picture;
    const facts = [...FACTS, ...QUALITY].filter(([key]) => series.some((each) => some(each.columns[key])));
    const labels = [...new Set(series.flatMap((each) => Object.keys(each.labels)))];
    const rows = times.flatMap((time, at) => series.filter((each) => each.columns.rate[at] !== null).map((each) => el("tr", {},
      el("th", { scope: "row" }, moment(time * 1000)), el("td", { class: "mono" }, each.revision.slice(0, 8)),
      facts.map(([key, , { format }]) => number(format(each.columns[key][at]))),
      labels.map((label) => number(percent(each.labels[label]?.[at] ?? null)))))).reverse();
    replace(this.rows, table(`Model health of ${this.name} over time`, ["from", "revision", ...facts.map(([, title]) => `#${title}`), ...labels.map((label) => `#${label || "others"}`)], rows));
  }
}

/** A revision's short name; the model's too where there are several. */
function name({ model, revision }, series) {
  const digest = revision.slice(0, 8);
  return new Set(series.map((each) => each.model)).size > 1 ? `${model.split("/").at(-1)}@${digest}` : digest;
}

function some(column) {
  return column.some((value) => value !== null);
}

function decimal(value) {
  return (value ?? null) === null ? UNKNOWN : value.toFixed(value === 0 || value === 1 ? 0 : 2);
}
