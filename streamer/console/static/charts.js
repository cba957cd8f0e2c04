// Charts over time, drawn by uPlot: they slide with the clock, share a cursor, and read out values by mouse or arrows.

import { el, newId, setText } from "./dom.js";
import { clock, day, moment, short } from "./format.js";

const HEIGHT = 116;
const POWERS = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
const SPARSE = ["lag_records", "lag_seconds"]; // looked at every few seconds: a look counts until the next one, for so many points at most
const HOLD_POINTS = 25;
const DAYS_S = 2 * 86_400; // over more, the axis shows days

/** A chart of one pipeline. `lines` are [column, label, colour variable, dashes]; `format` is for values, `tick` for
 * those of the axis, `log` for the scale; `stacked` lines are shares of one, the first on top. */
export class Chart {
  constructor({ title, lines, format, log = false, top = null, unit = "", stacked = false, tick = null, sync, pipeline }) {
    this.title = title;
    this.lines = lines;
    this.format = format;
    this.log = log;
    this.top = top;
    this.unit = unit;
    this.stacked = stacked;
    this.tick = tick;
    this.sync = sync;
    this.pipeline = pipeline;
    this.window = [0, 1];
    this.data = [[], ...lines.map(() => [])];
    this.values = lines.map(() => el("b"));
    this.time = el("span", { class: "quiet" });
    this.nothing = el("p", { class: "nothing", hidden: true }, "no values in this time");
    this.caption = newId();
    this.holder = el("div", { class: "plot", tabindex: "0", role: "img", "aria-describedby": this.caption,
      onkeydown: (event) => this.#key(event), onblur: () => this.plot?.setCursor({ left: -10, top: -10 }) }, this.nothing);
    const keys = lines.map(([, label, colour, dashes], index) => el("span", { class: "key" },
      el("i", { class: `dot ${colour}${stacked ? " block" : ""}${dashes ? " dashed" : ""}` }), label, " ", this.values[index]));
    this.node = el("figure", {},
      el("figcaption", { id: this.caption }, el("span", { class: "title" }, title), keys, this.time), this.holder);
    new ResizeObserver(() => this.#fit()).observe(this.holder);
  }

  /** Show these points, given by column, over this stretch of time (seconds). */
  set(columns, window) {
    this.window = window;
    this.data = [columns.time_s, ...this.lines.map(([column]) => (SPARSE.includes(column) ? held(columns[column]) : columns[column]))];
    if (this.log) this.data = [this.data[0], ...this.data.slice(1).map((values) => values.map(atLeastOne))];
    this.nothing.hidden = this.data.slice(1).some((values) => values.some((value) => value !== null));
    this.plot?.setData(this.#drawn());
    this.#read();
  }

  /** Draw anew, in the colours of now. */
  restyle() {
    this.plot?.destroy();
    this.plot = null;
    this.#fit();
  }

  /** Of stacked lines, what each and all below it add up to. */
  #drawn() {
    if (!this.stacked) return this.data;
    const [times, ...shares] = this.data;
    const sums = shares.map((values, line) => values.map((value, index) => (value === null ? null
      : shares.slice(line).reduce((sum, each) => sum + (each[index] ?? 0), 0))));
    return [times, ...sums];
  }

  #fit() {
    const width = Math.floor(this.holder.clientWidth);
    if (width === 0) return;
    if (this.plot) this.plot.setSize({ width, height: HEIGHT });
    else this.#draw(width);
  }

  #draw(width) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: colour("muted"), font: "11px system-ui, sans-serif", ticks: { show: false },
      grid: { stroke: colour("line"), width: 1 } };
    this.plot = new uPlot({
      width,
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 14, 0, 0],
      cursor: { sync: { key: this.sync }, drag: { x: false, y: false }, y: false,
        points: { size: 6, width: 1 } },
      scales: {
        x: { time: true, range: () => this.window },
        y: this.log
          ? { distr: 3, range: (_, low, high) => [1, Math.max(100, 10 ** Math.ceil(Math.log10(high || 1)))] }
          : { range: (_, low, high) => [0, this.top ?? ceiling(high)] },
      },
      axes: [
        { ...axis, size: 22, space: 48, values: (_, ticks) => ticks.map((tick) => this.#when(tick)) },
        { ...axis, size: 44, space: 28, values: (_, ticks) => ticks.map((tick) => this.#tick(tick)),
          ...(this.log ? { splits: (plot) => POWERS.filter((power) => power <= plot.scales.y.max), filter: (_, ticks) => ticks } : {}) },
      ],
      series: [{}, ...this.lines.map(([, label, name, dash], index) => ({
        label, stroke: colour(this.stacked ? "surface" : name), width: this.stacked ? 1 : 1.5, dash,
        points: { show: true, size: 3, width: 0, fill: colour(name), filter: (plot, line) => alone(plot.data[line]) },
        fill: this.stacked ? colour(name) : index === 0 && this.lines.length < 3 ? `${colour(name)}1f` : undefined,
      }))],
      hooks: { setCursor: [() => this.#read()] },
    }, this.#drawn(), this.holder);
  }

  #when(tick) {
    if (this.window[1] - this.window[0] > DAYS_S) return day(tick * 1000);
    return tick % 60 ? "" : clock(tick * 1000).slice(0, 5);
  }

  #tick(value) {
    if (this.tick) return this.tick(value);
    return this.top === 1 ? `${Math.round(value * 100)} %` : this.log ? logTick(value) : `${short(value)}${value ? this.unit : ""}`;
  }

  /** The values under the cursor, or the newest ones. */
  #read() {
    const under = this.plot?.cursor.idx ?? null;
    const index = under ?? this.data[0].length - 1;
    this.lines.forEach((_, line) => setText(this.values[line], this.format(this.data[line + 1][index] ?? null)));
    setText(this.time, under === null ? "" : moment(this.data[0][index] * 1000));
    const told = this.lines.map(([, label], line) => `${label} ${this.values[line].textContent}`).join(", ");
    this.holder.setAttribute("aria-label", `${this.title} of ${this.pipeline}: ${told}. Arrow keys read other times.`);
  }

  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (!step || !this.plot || this.data[0].length === 0) return;
    event.preventDefault();
    const last = this.data[0].length - 1;
    const index = Math.min(Math.max((this.plot.cursor.idx ?? last) + step, 0), last);
    this.plot.setCursor({ left: this.plot.valToPos(this.data[0][index], "x"), top: 0 });
  }
}

function held(values) {
  let known = -Infinity;
  return values.map((value, index) => {
    if (value !== null) known = index;
    return index - known <= HOLD_POINTS ? values[known] : null;
  });
}

/** The points without a neighbour, which no line shows. */
function alone(values) {
  const known = (index) => (values[index] ?? null) !== null;
  return values.flatMap((_, index) => (known(index) && !known(index - 1) && !known(index + 1) ? [index] : []));
}

function atLeastOne(value) {
  return value === null ? null : Math.max(value, 1);
}

function logTick(value) {
  return value < 1000 ? `${value} ms` : `${short(value / 1000)} s`;
}

/** A round number above, so that the scale does not jump with every point. */
function ceiling(high) {
  if (!high || high <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(high));
  return [1, 2, 5, 10].find((step) => step * size >= high * 1.05) * size || high * 1.2;
}
