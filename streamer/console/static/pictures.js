// Pictures of model health: histograms side by side, a reliability diagram, a confusion matrix. Each is a table, or has
// one for who does not see it.

import { el, number, svg, table } from "./dom.js";
import { count, percent, short } from "./format.js";

const MATRIX = 24;
const SIDE = 10;
const FEW = 10; // answers: a point of fewer is hollow, and the line leaves it out
const LEGEND = [["before", "baseline"], ["after", "now"]];

/** What a monitor says, with both histograms. */
export function sides({ monitor, kind, state, bars, left_out: more, what }) {
  const heading = el("h4", {}, `${capital(monitor.replaceAll("_", " "))}${state === "drift" ? " ▲ drifts" : state === "insufficient" ? ": too few to tell" : ""}`);
  const shown = kind === "ratio" ? ratio(bars) : kind === "histogram" ? [legend(), columns(monitor, bars), asTable(monitor, bars)] : [legend(), rows(monitor, bars)];
  return el("section", { "data-monitor": monitor }, heading, el("p", { class: "quiet" }, capital(what)), shown,
    more ? el("p", { class: "quiet" }, `${count(more)} more are not shown.`) : null);
}

function legend() {
  return el("p", { class: "legend", "aria-hidden": "true" }, LEGEND.map(([side, name]) => el("span", {}, el("i", { class: `swatch ${side}` }), name)));
}

function ratio(bars) {
  return el("dl", { class: "facts" }, bars.flatMap(([, before, after]) => [el("dt", {}, "baseline"), el("dd", {}, short(before)), el("dt", {}, "now"), el("dd", {}, short(after))]));
}

/** Categories: a row each, whose bars stand one above the other. */
function rows(monitor, bars) {
  const most = Math.max(...bars.flatMap(([, before, after]) => [before, after]), 0.01);
  return el("div", { class: "scroll tall", tabindex: "0" }, withClass("sides", table(`${monitor}: shares in the baseline and now`, [monitor.replaceAll("_", " "), "", "#baseline", "#now"],
    bars.map(([name, before, after]) => el("tr", {}, el("th", { scope: "row" }, name),
      el("td", { class: "pair" }, svg("svg", { class: "picture", viewBox: "0 0 100 18", preserveAspectRatio: "none", "aria-hidden": "true" },
        svg("rect", { class: "before", x: 0, y: 1, width: (100 * before) / most, height: 7 }), svg("rect", { class: "after", x: 0, y: 10, width: (100 * after) / most, height: 7 }))),
      number(percent(before)), number(percent(after)))))));
}

/** Numbers: two columns for each bin. */
function columns(monitor, bars) {
  const [width, height, foot] = [520, 150, 18];
  const most = Math.max(...bars.flatMap(([, before, after]) => [before, after]), 0.01);
  const wide = width / Math.max(bars.length, 1);
  const each = Math.min(wide * 0.4, 18);
  const parts = bars.flatMap(([name, before, after], at) => {
    const middle = (at + 0.5) * wide;
    const bar = (side, share, x) => svg("rect", { class: side, x: x.toFixed(1), width: each.toFixed(1), y: (height * (1 - share / most)).toFixed(1), height: ((height * share) / most).toFixed(1) },
      svg("title", {}, `up to ${name}: ${percent(share)} ${side === "before" ? "in the baseline" : "now"}`));
    const told = at % Math.ceil(bars.length / 9) === 0;
    return [bar("before", before, middle - each), bar("after", after, middle),
      told ? svg("text", { x: middle.toFixed(1), y: height + 14, "text-anchor": "middle" }, name) : null];
  });
  return svg("svg", { class: "picture", viewBox: `${-SIDE} 0 ${width + 2 * SIDE} ${height + foot}`, role: "img", "aria-label": `Histograms of ${monitor} in the baseline and now; the numbers are in the table below` },
    parts, svg("line", { class: "axis", x1: -SIDE, x2: width + SIDE, y1: height, y2: height }));
}

function asTable(monitor, bars) {
  return lazily("As a table", () => table(`${monitor}: shares in the baseline and now`, [monitor.replaceAll("_", " "), "#baseline", "#now"],
    bars.map(([name, before, after]) => el("tr", {}, el("th", { scope: "row" }, name), number(percent(before)), number(percent(after))))));
}

/** A table that is made when somebody opens it. */
export function lazily(summary, make) {
  const holder = el("div", { class: "scroll tall", tabindex: "0" });
  return el("details", { ontoggle: (event) => { if (event.target.open && !holder.childElementCount) holder.append(make()); } },
    el("summary", {}, summary), holder);
}

/** Confidence against accuracy, with the line of a model that keeps what it promises; below, how many answers. */
export function reliability(bins) {
  const [left, size, top] = [44, 300, 10];
  const foot = top + size + 46;
  const x = (share) => left + size * share;
  const y = (share) => top + size * (1 - share);
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  const grid = [0, 0.2, 0.4, 0.6, 0.8, 1].flatMap((share) => [
    svg("line", { class: "axis", x1: left, x2: left + size, y1: y(share), y2: y(share) }),
    svg("text", { x: left - 8, y: y(share) + 4, "text-anchor": "end" }, share.toFixed(1)),
    svg("text", { x: x(share), y: foot + 16, "text-anchor": "middle" }, share.toFixed(1))]);
  const points = bins.flatMap((bin) => {
    const told = `confidence ${bin.confidence.toFixed(3)}, right ${bin.accuracy.toFixed(3)}, ${count(bin.count)} answers`;
    const high = Math.max(1, (36 * bin.count) / most);
    return [svg("circle", { class: bin.count < FEW ? "point few" : "point", cx: x(bin.confidence), cy: y(bin.accuracy), r: 4 }, svg("title", {}, told)),
      svg("rect", { class: "soft", x: x(bin.confidence) - 5, y: foot - high, width: 10, height: high }, svg("title", {}, told))];
  });
  return [svg("svg", { class: "picture square", viewBox: `0 0 ${left + size + 14} ${foot + 36}`, role: "img", "aria-label": "Reliability diagram: the share of right answers by their confidence; the numbers are in the table below" },
    grid, svg("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    svg("polyline", { class: "curve", points: bins.filter((bin) => bin.count >= FEW).map((bin) => `${x(bin.confidence)},${y(bin.accuracy)}`).join(" ") }), points,
    svg("text", { x: left + size / 2, y: foot + 32, "text-anchor": "middle" }, "confidence"),
    svg("text", { transform: `translate(11 ${top + size / 2}) rotate(-90)`, "text-anchor": "middle" }, "share right")),
  lazily("As a table", () => table("Share of right answers by confidence", ["confidence", "#mean", "#right", "#answers"], bins.map((bin) => el("tr", {},
    el("th", { scope: "row" }, `${bin.low.toFixed(2)} to ${bin.high.toFixed(2)}`), number(bin.confidence.toFixed(3)), number(bin.accuracy.toFixed(3)), number(count(bin.count))))))];
}

/** What is taken for what: a row is what texts are, a column what they were called; colours are shares of a row. Of many
 * labels, the most frequent confusions. */
export function confusion(cells) {
  const labels = [...new Set([...Object.keys(cells), ...Object.values(cells).flatMap((row) => Object.keys(row))])].sort();
  if (labels.length > MATRIX) {
    const wrong = Object.entries(cells).flatMap(([truth, row]) => Object.entries(row).filter(([given]) => given !== truth).map(([given, texts]) => [texts, truth, given]));
    return table("The most frequent confusions", ["true", "called", "#texts"], wrong.sort((a, b) => b[0] - a[0]).slice(0, MATRIX)
      .map(([texts, truth, given]) => el("tr", {}, el("th", { scope: "row" }, truth), el("td", {}, given), number(count(texts)))));
  }
  const body = labels.map((truth) => {
    const row = labels.map((given) => cells[truth]?.[given] ?? 0);
    const total = row.reduce((a, b) => a + b, 0) || 1;
    return el("tr", {}, el("th", { scope: "row" }, truth), row.map((texts, at) => {
      const share = texts / total;
      const cell = el("td", { class: `${labels[at] === truth ? "right" : "wrong"}${share > 0.55 ? " strong" : ""}`, title: percent(share) }, count(texts));
      cell.style.setProperty("--share", share.toFixed(3));
      return cell;
    }));
  });
  return withClass("heat", table("Confusion matrix", ["true \\ called", ...labels], body));
}

/** With a capital. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function withClass(name, node) {
  node.classList.add(name);
  return node;
}
