// Figures, lengths of time and moments, as farense writes them on a terminal.

export const NONE = "–";

export function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function figure(value, digits = 4) {
  if (value === null || value === undefined) return NONE;
  return number(value) === null ? String(value) : value.toFixed(digits);
}

export function counted(value, noun) {
  return `${value.toLocaleString("en")} ${noun}${value === 1 ? "" : "s"}`;
}

export function whole(value) {
  return number(value) === null ? NONE : value.toLocaleString("en");
}

export function length(seconds) {
  if (number(seconds) === null) return NONE;
  const all = Math.max(0, Math.round(seconds));
  const two = (value) => String(value).padStart(2, "0");
  if (all >= 86400) return `${Math.floor(all / 86400)}d ${two(Math.floor((all % 86400) / 3600))}h`;
  if (all >= 3600) return `${Math.floor(all / 3600)}h ${two(Math.floor((all % 3600) / 60))}m`;
  if (all >= 60) return `${Math.floor(all / 60)}m ${two(all % 60)}s`;
  return `${all}s`;
}

export function size(bytes) {
  if (number(bytes) === null) return NONE;
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(bytes >= 1e11 ? 0 : 1)} GB` : `${(bytes / 1e6).toFixed(0)} MB`;
}

export function rate(value) {
  return number(value) === null ? NONE : value.toExponential(1).replace("e", "e");
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const WHOLE = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

// A moment in the zone of who looks: the time of day, and the day where it is another one.
export function moment(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return String(text);
  const today = new Date().toDateString() === at.toDateString();
  return today ? CLOCK.format(at) : `${DAY.format(at)} ${CLOCK.format(at)}`;
}

export function momentInFull(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? String(text) : WHOLE.format(at);
}
