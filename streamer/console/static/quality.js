// Quality from feedback: how right answers were, of how many there is feedback, and where they go wrong.

import { el, number, prose, table } from "./dom.js";
import { UNKNOWN, count, percent, seconds } from "./format.js";
import { capital, confusion, reliability } from "./pictures.js";

const SHARES = ["accuracy", "exact match"];

/** What there is of each revision that has feedback, which comes from this topic. */
export function quality(revisions, topic) {
  if (!revisions.length) {
    return [el("p", { class: "quiet" }, ...prose(`No feedback yet. To know how right the answers are, write what people say of them to the topic \`${topic}\`: docs/health.md says how.`))];
  }
  return revisions.flatMap((each) => one(each, revisions.length > 1));
}

function one({ revision, labels, days, confusion: cells, reliability: bins }, several) {
  const since = new Date(days.at(-1).start_ms).toLocaleDateString("sv-SE", { timeZone: "UTC" });
  return [
    several ? el("h4", {}, revision.slice(0, 12)) : null,
    el("p", { class: "quiet" }, `${count(labels)} results have feedback since ${since}.${labels < 100 ? " That is few: the numbers may be far off." : ""}`),
    el("div", { class: "scroll" }, byDay(days)),
    cells || bins?.length ? el("div", { class: "pictures" },
      bins?.length ? el("section", {}, el("h4", {}, "Can its confidence be trusted?"),
        el("p", { class: "quiet" }, "On the dashed line a model is right as often as it says; below it, it promises more than it keeps. A hollow point is of fewer than ten answers."), ...reliability(bins)) : null,
      cells ? el("section", { class: Object.keys(cells).length > 4 ? "broad" : null }, el("h4", {}, "What is taken for what?"),
        el("p", { class: "quiet" }, "A row is what texts are, a column what they were called. Colours are shares of a row."), el("div", { class: "scroll", tabindex: "0" }, confusion(cells))) : null) : null];
}

function byDay(days) {
  const names = [...new Set(days.flatMap((day) => Object.keys(day.metrics)))];
  return table("Quality by day (UTC)", ["day (UTC)", "#labels", "#of all results", "#label lag, half", "#90 %", ...names.map((name) => `#${capital(name)}`)],
    days.map((day) => el("tr", {}, el("th", { scope: "row" }, new Date(day.start_ms).toISOString().slice(0, 10)), number(count(day.labels)),
      number(percent(day.coverage)), number(seconds(day.lag_p50_s)), number(seconds(day.lag_p90_s)), names.map((name) => number(told(name, day))))));
}

function told(name, { metrics, interval }) {
  const value = metrics[name];
  if (value === undefined) return UNKNOWN;
  if (!SHARES.includes(name)) return value.toFixed(3);
  return `${(value * 100).toFixed(1)} %${name === "accuracy" && interval ? ` (${(interval[0] * 100).toFixed(1)}–${(interval[1] * 100).toFixed(1)})` : ""}`;
}
