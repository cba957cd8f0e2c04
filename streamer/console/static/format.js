// Numbers and times as people read them; what is unknown is a dash.

export const UNKNOWN = "–";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** A count, with thousands apart. */
export function count(value) {
  return known(value) ? whole.format(value) : UNKNOWN;
}

/** A rate or mean: more digits the smaller it is. */
export function rate(value) {
  if (!known(value)) return UNKNOWN;
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(value < 1 ? 2 : 1);
  return whole.format(value);
}

/** Short, for the axes: 1.2k, 3M. */
export function short(value) {
  if (!known(value)) return "";
  for (const [size, sign] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${sign}`;
  }
  return String(Number(value.toPrecision(3)));
}

/** Milliseconds with their unit. */
export function ms(value) {
  if (!known(value)) return UNKNOWN;
  return value < 1000 ? `${whole.format(value)} ms` : seconds(value / 1000);
}

/** Seconds with their unit, the two largest parts. */
export function seconds(value) {
  if (!known(value)) return UNKNOWN;
  if (value < 1) return value === 0 ? "0 s" : `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => Math.round(value) >= size);
  let left = Math.round(value);
  const texts = [];
  for (const [unit, size] of parts.slice(first, first + 2)) {
    if (Math.floor(left / size) > 0) texts.push(`${Math.floor(left / size)} ${unit}`);
    left %= size;
  }
  return texts.join(" ");
}

/** A share of one as a percentage. */
export function percent(value) {
  if (value > 0 && value < 0.0005) return "<0.1 %";
  return known(value) ? `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %` : UNKNOWN;
}

/** Bytes in decimal units. */
export function bytes(value) {
  if (!known(value)) return UNKNOWN;
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${whole.format(value)} bytes`;
}

/** The time of day here. */
export function clock(timeMs) {
  return known(timeMs) ? new Date(timeMs).toLocaleTimeString("en-GB") : UNKNOWN;
}

/** The day here, without its year. */
export function day(timeMs) {
  return known(timeMs) ? new Date(timeMs).toLocaleDateString("en-GB", { day: "numeric", month: "short" }) : UNKNOWN;
}

/** Day and time here; today's without the day. */
export function moment(timeMs) {
  if (!known(timeMs)) return UNKNOWN;
  const date = new Date(timeMs);
  const today = date.toDateString() === new Date().toDateString();
  return today ? clock(timeMs) : `${date.toLocaleDateString("sv-SE")} ${clock(timeMs)}`;
}

/** One of these, or more of those. */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

function known(value) {
  return value !== null && value !== undefined && Number.isFinite(value);
}
