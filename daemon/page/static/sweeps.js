// Sweeps: a list of them, and one with its leaderboard and the curves of its trials.

import { Chart, joined } from "./charts.js";
import { h } from "./dom.js";
import { NONE, figure, length, whole } from "./format.js";
import { addressOf, problem, stateOf, table, tile, when } from "./parts.js";

const objective = (name) => (name === "token_f1" ? "token F1" : "validation loss");
const so_far = (sweep) => (sweep.planned ? `${whole(sweep.ended)} / ${whole(sweep.planned)}` : whole(sweep.ended));

export function sweepsView() {
  return {
    title: "Sweeps",
    topics: ["now", "sweeps"],
    render(values) {
      const found = values.get("sweeps");
      if (!found) return [h("p", { class: "empty" }, "Reading the sweeps …")];
      if (found.error) return [problem(found)];
      const title = h("h1", null, "Sweeps");
      if (!found.length) {
        return [title, h("p", { class: "empty" }, "There is no sweep in this workspace. On a terminal: ", h("code", null, "farense sweep configs/sweeps/overnight.yaml"))];
      }
      const rows = found.map((sweep) => ({
        key: sweep.id,
        cells: [stateOf(sweep), named(sweep), so_far(sweep), figure(sweep.best_value), objective(sweep.objective),
          sweep.seconds_left === null ? NONE : length(sweep.seconds_left), when(sweep.created)],
      }));
      return [title, h("div", { class: "card list" }, table("Sweeps", [{ name: "State", kind: "how" }, { name: "Sweep", kind: "wide" }, { name: "Trials", kind: "right" },
        { name: "Best", kind: "right" }, { name: "Objective" }, { name: "Left", kind: "right" }, { name: "Begun", kind: "right" }], rows, "sweeps"))];
    },
  };
}

function named(sweep) {
  return h("div", { class: "job" }, h("a", { class: "title", href: `/sweep/${encodeURIComponent(sweep.id)}` }, sweep.name), h("span", { class: "id" }, sweep.id));
}

export function sweepView(id) {
  let chart = null;
  let shown = "";
  const topic = `sweep:${id}`;
  let sweep = null;
  return {
    title: "Sweep",
    topics: ["now", topic],
    render(values) {
      sweep = values.get(topic);
      if (!sweep) return [h("p", { class: "empty" }, "Reading the sweep …")];
      if (sweep.error) return [h("h1", null, "Sweep"), problem(sweep)];
      return [head(sweep), figures(sweep), sweep.curves.length ? h("section", { class: "curves one", "data-key": "curves", "aria-label": "Curves" }, curves(sweep)) : null,
        board(sweep), importances(sweep)].filter(Boolean);
    },
    drawn() {
      const host = document.getElementById("trials");
      if (!host || sweep.error) return;
      const text = JSON.stringify([sweep.curves, sweep.best]);
      if (chart && text === shown) return;
      shown = text;
      // The best is drawn last, above all others.
      const order = [...sweep.curves].sort((one, other) => (one.number === sweep.best) - (other.number === sweep.best));
      const lines = order.map((curve) => ({ name: `Trial ${curve.number}`, style: curve.number === sweep.best ? "best" : "other" }));
      const data = joined(order.map((curve) => [curve.points.map((p) => p[0]), curve.points.map((p) => (Number.isFinite(p[1]) ? p[1] : null))]));
      chart ??= new Chart(host, [], { legend: false });
      chart.set(data, lines);
    },
    close() { chart?.close(); },
  };
}

function head(sweep) {
  return h("header", { class: "head", "data-key": "head" },
    h("p", { class: "crumbs" }, h("a", { href: "/sweeps" }, "Sweeps")),
    h("div", { class: "line" }, h("h1", null, sweep.name), stateOf(sweep)),
    h("p", { class: "id" }, sweep.id),
    sweep.reason ? h("p", { class: "note" }, sweep.reason) : null,
    sweep.state === "running" && !sweep.coordinated ? h("p", { class: "note" }, "Nothing coordinates it now: the daemon of this workspace does, once it runs (farense daemon).") : null);
}

function figures(sweep) {
  return h("dl", { class: "tiles big", "data-key": "figures" },
    tile("Trials", so_far(sweep), `of ${whole(sweep.count)} begun`),
    tile(`Best ${objective(sweep.objective)}`, figure(sweep.best_value), sweep.best === null ? null : `trial ${sweep.best}`),
    tile("Left", sweep.seconds_left === null ? NONE : length(sweep.seconds_left), sweep.until ? ["until ", when(sweep.until)] : null),
    tile("Preset", sweep.preset, sweep.sampler));
}

function curves(sweep) {
  return h("figure", { class: "card", "data-key": "curves" },
    h("figcaption", null, h("strong", null, "Validation loss of the trials"), " ",
      h("span", { class: "soft" }, sweep.best === null ? "none is the best yet" : `trial ${sweep.best}, the best, in colour`)),
    h("div", { id: "trials", class: "chart", "data-keep": true }));
}

const OPEN = new Set(["running", "interrupted", "paused"]);

function board(sweep) {
  const value = (trial) => (trial.value === null ? (trial.total && OPEN.has(trial.state) ? `step ${whole(trial.step)} / ${whole(trial.total)}` : NONE) : figure(trial.value));
  const rows = sweep.trials.map((trial, place) => ({
    key: `t${trial.number}`,
    kind: trial.number === sweep.best ? "best" : null,
    cells: [
      trial.value === null ? NONE : place + 1,
      trial.job ? h("a", { href: addressOf(trial.job) }, `Trial ${trial.number}`) : `Trial ${trial.number}`,
      value(trial),
      [stateOf(trial), trial.pruned ? h("span", { class: "tag" }, `pruned: ${trial.pruned}`) : null, trial.learned ? null : h("span", { class: "tag" }, "SEM APRENDIZAGEM")],
      ...sweep.space.map((name) => trial.params[name] ?? NONE),
      length(trial.seconds),
    ],
  }));
  const headings = [{ name: "Rank", kind: "right" }, { name: "Trial" }, { name: "Value", kind: "right" }, { name: "State" },
    ...sweep.space.map((name) => ({ name, kind: "param" })), { name: "Took", kind: "right" }];
  return h("section", { "data-key": "board", "aria-labelledby": "board" }, h("h2", { id: "board" }, "Leaderboard"),
    h("div", { class: "card list scroll", tabindex: 0, role: "region", "aria-label": "Leaderboard" }, table("Leaderboard", headings, rows, "plain leaderboard")));
}

function importances(sweep) {
  const found = Object.entries(sweep.importances).sort((one, other) => other[1] - one[1]);
  if (!found.length) return null;
  return h("section", { "data-key": "importances", "aria-labelledby": "importances" }, h("h2", { id: "importances" }, "What made the difference"),
    h("dl", { class: "card pairs bars" }, found.map(([name, part]) => [h("dt", null, name),
      h("dd", null, h("meter", { min: 0, max: 1, value: part, "aria-label": name }), ` ${Math.round(100 * part)}%`)])));
}
