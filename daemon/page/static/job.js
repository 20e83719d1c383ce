// One job: how far it is, its curves, what it says, what its answers are worth.

import { get } from "./api.js";
import { Chart } from "./charts.js";
import { h } from "./dom.js";
import { NONE, figure, length, number, rate, whole } from "./format.js";
import { actions, addressOf, gap, pace, problem, progress, shortId, stateOf, steps, table, tile, titleOf, when } from "./parts.js";

const LOSSES = [
  { name: "Training", style: "train" },
  { name: "Training, measured", style: "measured" },
  { name: "Validation", style: "valid" },
];

export function jobView(id, page) {
  const rows = new Rows(id);
  const charts = new Map();
  const path = `/api/jobs/${encodeURIComponent(id)}`;
  let settings = null;
  let evaluation = null;
  let evaluatedAt = null;
  let bytes = -1;

  const trouble = (error) => page.say(error.message, true);
  const later = async (read) => {
    try {
      await read();
      page.draw();
    } catch (error) {
      if (error.status !== 409 && error.status !== 404) trouble(error); // files that are elsewhere
    }
  };

  return {
    title: shortId(id),
    topics: ["now", `job:${id}`, `log:${id}`],
    heard(topic, job) {
      if (topic !== `job:${id}` || job.error) return;
      if (job.where) return; // its files are there
      if (job.metrics_bytes !== bytes) {
        bytes = job.metrics_bytes;
        later(() => rows.read(path));
      }
      if (job.evaluated_at && job.evaluated_at !== evaluatedAt) {
        evaluatedAt = job.evaluated_at;
        later(async () => { evaluation = await get(`${path}/evaluation`); });
      }
      if (settings === null) {
        settings = [];
        later(async () => { settings = await get(`${path}/settings`); });
      }
    },
    // The server was away: what was missed is asked for again.
    reconnected() { bytes = -1; },
    news(before, job, topic) {
      if (topic !== `job:${id}` || !before?.state || before.state === job.state) return null;
      return `${titleOf(job)} is ${String(job.state).replaceAll("_", " ")}.`;
    },
    render(values) {
      const job = values.get(`job:${id}`);
      if (!job) return [h("p", { class: "empty" }, "Reading the job …")];
      if (job.error) return [h("h1", null, "Job"), problem(job), h("p", null, h("a", { href: "/" }, "To the queue"))];
      return [
        head(job), figures(job), rows.any ? curves(job, rows) : null, rows.any ? validations(rows) : null,
        evaluation ? scores(evaluation) : null, log(values.get(`log:${id}`), path),
        settings?.length ? told(settings) : null, about(job),
      ].filter(Boolean);
    },
    drawn() {
      for (const [name, lines, columns, options] of DRAWINGS) {
        const host = document.getElementById(name);
        const known = charts.get(name);
        if (known && known.host !== host) {
          known.close();
          charts.delete(name);
        }
        if (!host) continue;
        if (!charts.has(name)) charts.set(name, new Chart(host, lines, options));
        const chart = charts.get(name);
        if (chart.version !== rows.version) {
          chart.set([rows.column("step"), ...columns.map((column) => rows.column(column))]);
          chart.version = rows.version;
        }
      }
      followLog();
    },
    close() { for (const chart of charts.values()) chart.close(); },
  };
}

const DRAWINGS = [
  ["losses", LOSSES, ["loss", "train_eval_loss", "val_loss"], { sync: "steps" }],
  ["gaps", [{ name: "Gap", style: "gap" }], ["overfitting_gap"], { sync: "steps" }],
  ["rates", [{ name: "Learning rate", style: "rate", values: (v) => v.toExponential(2) }], ["learning_rate"],
    { sync: "steps", size: 62, ticks: (v) => (v === 0 ? "0" : v.toExponential(1)) }],
];

// The rows of the metrics file, read on as it grows; read anew where an attempt has cut it back.
class Rows {
  constructor() {
    this.rows = [];
    this.columns = [];
    this.mark = "";
    this.version = 0;
    this.reading = null;
  }

  get any() { return this.rows.length > 0; }

  async read(path) {
    // One at a time, each from where the one before came to.
    this.reading = (this.reading ?? Promise.resolve()).catch(() => {}).then(() => this.readOn(path));
    return this.reading;
  }

  async readOn(path) {
    for (let more = true; more;) {
      const found = await get(`${path}/metrics?mark=${encodeURIComponent(this.mark)}`);
      this.columns = found.columns;
      this.rows = found.anew ? found.rows : [...this.rows, ...found.rows];
      this.mark = found.mark;
      more = found.more && found.rows.length > 0;
      if (found.anew || found.rows.length) this.version += 1;
    }
  }

  column(name) {
    const place = this.columns.indexOf(name);
    return this.rows.map((row) => number(row[place]));
  }

  where(name) {
    const place = this.columns.indexOf(name);
    return this.rows.filter((row) => row[place] !== null);
  }

  value(row, name) { return row[this.columns.indexOf(name)]; }
}

function head(job) {
  return h("header", { class: "head", "data-key": "head" },
    h("p", { class: "crumbs" }, h("a", { href: "/" }, "Queue"), job.sweep ? [" / ", h("a", { href: `/sweep/${encodeURIComponent(job.sweep)}` }, shortId(job.sweep))] : null),
    h("div", { class: "line" }, h("h1", null, titleOf(job)), stateOf(job), job.wish ? h("span", { class: "wish" }, job.wish) : null),
    h("p", { class: "id" }, job.id),
    job.evaluates ? h("p", null, "Evaluates ", h("a", { href: addressOf(job.evaluates) }, job.evaluates)) : null,
    job.reason && !job.still ? h("p", { class: job.state === "failed" ? "note bad" : "note" }, job.reason) : null,
    job.still ? h("p", { class: "note" }, job.still) : null,
    job.note ? h("p", { class: "note" }, job.note) : null,
    h("div", { class: "buttons" }, actions(job, "")));
}

function figures(job) {
  const over = ["completed", "early_stopped", "failed", "cancelled"].includes(job.state);
  return h("section", { "data-key": "figures", "aria-label": "Figures" },
    over ? null : h("div", { class: "card run" }, progress(job), h("p", { class: "pace" }, pace(job))),
    h("dl", { class: "tiles big" },
      tile(job.evaluates ? "Answers" : "Steps", steps(job), job.epoch && !job.evaluates ? `epoch ${job.epoch} of ${job.epochs}` : null),
      job.evaluates ? null : tile("Training loss", figure(job.loss)),
      tile(job.evaluates ? "Adapter's loss" : "Best validation", figure(job.best), number(job.baseline) === null ? null : `${figure(job.baseline)} before training`),
      job.evaluates ? null : tile("Gap", gap(job)),
      job.f1 === null || job.f1 === undefined ? null : tile("Token F1", figure(job.f1, 3), `exact match ${figure(job.exact, 3)}`),
      tile(over ? "Took" : "So far", length(job.seconds), job.finished ? ["ended ", when(job.finished)] : null)));
}

function figureOf(name, title, finding) {
  return h("figure", { class: "card", "data-key": name },
    h("figcaption", null, h("strong", null, title), finding ? [" ", h("span", { class: "soft" }, finding)] : null),
    h("div", { id: name, class: "chart", "data-keep": true }));
}

function curves(job, rows) {
  const valid = rows.where("val_loss").map((row) => [rows.value(row, "step"), number(rows.value(row, "val_loss"))]).filter(([, loss]) => loss !== null);
  const best = valid.filter(([step]) => step > 0).reduce((low, one) => (low && low[1] <= one[1] ? low : one), null);
  const last = rows.where("loss").at(-1);
  const finding = [
    last ? `training ${figure(rows.value(last, "loss"))} at step ${whole(rows.value(last, "step"))}` : null,
    best ? `validation lowest at step ${whole(best[0])}: ${figure(best[1])}` : null,
  ].filter(Boolean).join("; ");
  const gapRow = rows.where("overfitting_gap").at(-1);
  const rateRow = rows.where("learning_rate").at(-1);
  return h("section", { class: "curves", "data-key": "curves", "aria-label": "Curves" },
    figureOf("losses", "Loss", finding),
    gapRow ? figureOf("gaps", "Gap", `last ${figure(rows.value(gapRow, "overfitting_gap"), 3)}: validation minus training, at the same weights`) : null,
    rateRow ? figureOf("rates", "Learning rate", `last ${rate(rows.value(rateRow, "learning_rate"))}`) : null);
}

// The curves as figures, for who cannot see them.
function validations(rows) {
  const found = rows.where("val_loss");
  if (!found.length) return null;
  const cells = (row) => ["step", "val_loss", "train_eval_loss", "overfitting_gap"].map((name) => (name === "step" ? whole(rows.value(row, name)) : figure(rows.value(row, name))));
  return h("details", { class: "card fold", "data-key": "validations" },
    h("summary", null, "Validations ", h("span", { class: "count" }, whole(found.length))),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Validations" },
      table("Validations", [{ name: "Step", kind: "right" }, { name: "Validation", kind: "right" }, { name: "Training, measured", kind: "right" }, { name: "Gap", kind: "right" }],
        found.map((row) => ({ key: `v${rows.value(row, "step")}`, cells: cells(row) })), "plain")));
}

function scoreTable(caption, scores) {
  return table(caption, [{ name: "Score" }, { name: "Adapter", kind: "right" }, { name: "Base model", kind: "right" }, { name: "Gain", kind: "right" }],
    scores.map((score) => ({ key: score.name, cells: [score.name, score.adapter, score.base, score.gain] })), "plain scores");
}

function scores(evaluation) {
  return h("section", { "data-key": "evaluation", "aria-labelledby": "evaluation" },
    h("h2", { id: "evaluation" }, "Evaluation ", evaluation.questions ? h("span", { class: "count" }, `${whole(evaluation.questions)} questions`) : null),
    h("div", { class: "card list scroll", tabindex: 0, role: "region", "aria-label": "Scores" }, scoreTable("Scores", evaluation.scores)),
    evaluation.cut ? h("p", { class: "soft" }, evaluation.cut) : null,
    evaluation.categories.length ? h("details", { class: "card fold" }, h("summary", null, "By category"),
      evaluation.categories.map((part) => [h("h3", null, part.name), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": part.name }, scoreTable(part.name, part.scores))])) : null,
    h("h3", null, "Worst answers"),
    h("ol", { class: "answers" }, evaluation.answers.map(answer)),
    evaluation.left_out ? h("p", { class: "soft" }, `${whole(evaluation.left_out)} better ones are not shown.`) : null);
}

function answer(one) {
  const said = (name, text, kind = null) => [h("dt", null, name), h("dd", { class: kind }, text)];
  return h("li", { class: "card" },
    h("p", { class: "question" }, one.question, one.category ? [" ", h("span", { class: "tag" }, one.category)] : null),
    h("dl", null, said("Reference", one.reference), said("Adapter", [one.answer, one.cut ? " (cut)" : null]),
      one.base === null ? null : said("Base model", one.base, "soft")),
    h("p", { class: "soft figures" }, one.scores.map((score) => h("span", null, score.name, " ", score.value))));
}

function log(tail, path) {
  if (!tail || tail.error || !tail.lines.length) return null;
  return h("section", { "data-key": "log", "aria-labelledby": "log-title" },
    h("h2", { id: "log-title" }, "Log ", h("a", { class: "side", href: `${path}/log` }, tail.cut ? "The whole log" : "As text")),
    h("pre", { id: "log", class: "card log", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "What the job says" }, tail.lines.join("\n")));
}

// Who has scrolled up reads; at the end, new lines come into view.
function followLog() {
  const pane = document.getElementById("log");
  if (!pane) return;
  if (pane.textContent.length === Number(pane.dataset.scrolled)) return;
  const first = pane.dataset.scrolled === undefined;
  const atEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 120;
  if (first || atEnd) pane.scrollTop = pane.scrollHeight;
  pane.setAttribute("data-scrolled", String(pane.textContent.length));
}

function told(settings) {
  return h("details", { class: "card fold", "data-key": "settings" }, h("summary", null, "Settings"),
    h("dl", { class: "pairs" }, settings.map((setting) => [h("dt", null, setting.name), h("dd", null, setting.value)])));
}

function about(job) {
  const pairs = [
    ["Preset", job.preset], ["Attempt", job.attempt || null], ["Priority", job.priority || null],
    ["Queued", job.created ? when(job.created) : null], ["Started", job.started ? when(job.started) : null],
    ["Checkpoint", job.checkpoint ? `step ${whole(job.checkpoint)}` : null], ["Adapter", job.adapter],
    ["Folder", job.folder], ["Workspace", job.home], ["Worker", job.state === "running" ? job.worker : null],
    ["Failure", job.failure],
  ].filter(([, value]) => value !== null && value !== undefined);
  return h("details", { class: "card fold", "data-key": "about" }, h("summary", null, "About this job"),
    h("dl", { class: "pairs" }, pairs.map(([name, value]) => [h("dt", null, name), h("dd", null, value)])),
    job.history.length ? [h("h3", null, "Attempts that failed"),
      h("ol", { class: "history" }, job.history.map((one) => h("li", null, `attempt ${one.attempt ?? NONE}: ${one.how} `, when(one.at), one.reason ? h("p", { class: "soft" }, one.reason) : null)))] : null);
}
