// What several views are made of: states, names, figures, buttons, pages of a list.

import { h, icon } from "./dom.js";
import { NONE, figure, length, moment, momentInFull, number, whole } from "./format.js";

const SHAPES = {
  running: "M5 3.500v9l7.500-4.500z",
  completed: "M3 8.500l3.200 3.200L13 4.800",
  early_stopped: "M3 8.500l3.200 3.200L13 4.800",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M3.500 8h9",
  interrupted: "M8 3v6M8 12.200v.1",
  paused: "M5.500 3.500v9M10.500 3.500v9",
  queued: "M3 5h10M3 8h10M3 11h6",
  scheduled: "M8 3.500V8l3 2M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12z",
  waiting: "M3.500 8h.1M8 8h.1M12.500 8h.1",
};

export function stateOf(job) {
  const word = String(job.state).replaceAll("_", " ");
  return h("span", { class: `state ${job.state}` }, icon(SHAPES[job.state] ?? SHAPES.queued), word);
}

export function titleOf(job) {
  const preset = job.evaluates ? `evaluate ${job.preset}` : job.preset;
  return job.name ? job.name : preset;
}

export const addressOf = (id) => `/job/${encodeURIComponent(id)}`;

export function jobLink(job) {
  return h("div", { class: "job" },
    h("a", { href: addressOf(job.id), class: "title" }, titleOf(job)),
    h("span", { class: "id" }, job.id),
    job.where ? h("span", { class: "id" }, `on ${job.where}`) : null);
}

// The end of an id is what a person tells a job by.
export const shortId = (id) => String(id).split("-").slice(2).join("-");

export function when(text) {
  return text ? h("time", { datetime: text, title: momentInFull(text) }, moment(text)) : NONE;
}

export function gap(job) {
  if (job.word === "SEM APRENDIZAGEM") return h("span", { class: "gap bad" }, job.word);
  if (number(job.gap) === null) return NONE;
  const kind = { EXCELENTE: "ok", BOM: "ok", MODERADO: "warn", "CRÍTICO": "bad" }[job.word] ?? "";
  return h("span", { class: `gap ${kind}` }, figure(job.gap, 3), " ", h("span", { class: "word" }, job.word ?? ""));
}

export function steps(job) {
  return job.total ? `${whole(job.step)} / ${whole(job.total)}` : whole(job.step);
}

export function progress(job) {
  return h("progress", {
    max: job.total || 1, value: job.total ? Math.min(job.step, job.total) : 0,
    class: job.state, "aria-label": `Progress of ${job.id}`,
  });
}

// How far a job is, in words.
export function pace(job) {
  const unit = job.evaluates ? "answer" : "step";
  const parts = [`${unit} ${steps(job)}`];
  if (job.epoch && job.epochs && !job.evaluates) parts.push(`epoch ${job.epoch} of ${job.epochs}`);
  if (number(job.speed) !== null) parts.push(`${Number(job.speed.toPrecision(3))} ${unit}s/s`);
  if (number(job.eta) !== null) parts.push(`${length(job.eta)} left`);
  return job.phase ? `${job.phase}` : parts.join(" · ");
}

const WORDS = {
  cancel: "Cancel", kill: "Kill now", pause: "Pause", resume: "Resume", start: "Start now",
  top: "To the front", retry: "Retry", continue: "Continue", evaluate: "Evaluate",
};
const DANGER = new Set(["cancel", "kill"]);

export function actions(job, kind = "quiet") {
  return job.actions.map((action) => h("button", {
    type: "button", class: `button ${kind}${DANGER.has(action) ? " danger" : ""}`,
    "data-action": action, "data-job": job.id, "data-state": job.state, "data-key": action,
    "aria-label": `${WORDS[action]}: ${shortId(job.id)}`,
    title: action === "continue" ? "A new job that goes on from the last checkpoint" : null,
  }, WORDS[action]));
}

export function tile(name, value, more = null, kind = "") {
  return h("div", { class: `tile ${kind}`, "data-key": name },
    h("dt", null, name), h("dd", null, value, more ? h("small", null, more) : null));
}

// A table with a role on each part: on a phone its rows are shown as cards, and keep their meaning.
export function table(caption, headings, rows, kind = "") {
  const cell = (content, place) => h("td", {
    role: "cell", class: [headings[place].kind, content === NONE ? "none" : null].filter(Boolean).join(" ") || null,
    "data-name": headings[place].name,
  }, content);
  return h("table", { role: "table", class: kind, "aria-label": caption },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, headings.map((heading) =>
      h("th", { role: "columnheader", scope: "col", class: heading.kind ?? null },
        heading.hidden ? h("span", { class: "hidden" }, heading.name) : heading.name)))),
    h("tbody", { role: "rowgroup" }, rows.map(({ key, cells, kind: sort }) =>
      h("tr", { role: "row", "data-key": key, class: sort ?? null }, cells.map(cell)))));
}

// Buttons to another part of a long list.
export function pager(name, page, count, size) {
  if (count <= size) return null;
  const pages = Math.ceil(count / size);
  const button = (to, text, off) => h("button", {
    type: "button", class: "button quiet", "data-page": name, "data-to": to, disabled: off, "data-key": text,
  }, text);
  return h("nav", { class: "pager", "aria-label": `Pages: ${name}` },
    button(page - 1, "Previous", page <= 0),
    h("span", null, `${whole(page * size + 1)}–${whole(Math.min(count, (page + 1) * size))} of ${whole(count)}`),
    button(page + 1, "Next", page >= pages - 1));
}

export function problem(value) {
  return h("div", { class: "note bad" }, h("p", null, value.error), value.hint ? h("p", { class: "soft" }, value.hint) : null);
}
