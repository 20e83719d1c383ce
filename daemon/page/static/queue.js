// The queue: what runs, what is queued, what comes later, what has ended.

import { h } from "./dom.js";
import { NONE, counted, figure, length, whole } from "./format.js";
import { actions, addressOf, gap, jobLink, pace, pager, problem, progress, stateOf, steps, table, tile, titleOf, when } from "./parts.js";

export function queueView(parameters, page) {
  const at = { queued: Number(parameters.get("queued")) || 0, ended: Number(parameters.get("ended")) || 0 };
  const topic = `board:${at.queued}:${at.ended}`;
  return {
    title: "Queue",
    topics: ["now", topic],
    render(values) {
      const board = values.get(topic);
      if (!board) return [h("p", { class: "empty" }, "Reading the queue …")];
      if (board.error) return [problem(board)];
      return [h("h1", { class: "hidden" }, "Queue"), running(board), queued(board, at), later(board), ended(board, at)].filter(Boolean);
    },
    paged(name, to) {
      at[name] = to;
      const query = Object.entries(at).filter(([, value]) => value > 0).map(([key, value]) => `${key}=${value}`).join("&");
      page.go(query ? `/?${query}` : "/", true);
    },
    // What a person who does not look at the screen is told.
    news(before, value) {
      if (!before?.running || !value?.running) return null;
      const ended = value.ended.find((job) => before.running.some((old) => old.id === job.id));
      const begun = value.running.find((job) => !before.running.some((old) => old.id === job.id));
      if (ended) return `${titleOf(ended)} is ${ended.state.replaceAll("_", " ")}.`;
      return begun ? `${titleOf(begun)} runs.` : null;
    },
  };
}

function running(board) {
  const nothing = board.queued_count || board.later_count || board.ended_count
    ? "Nothing runs now." : "There are no jobs yet.";
  return h("section", { "data-key": "running", "aria-labelledby": "running" },
    h("h2", { id: "running" }, "Running"),
    board.held.map((line) => h("p", { class: "note", "data-key": line }, line)),
    board.running.length ? board.running.map(card)
      : h("p", { class: "empty" }, nothing, " ", h("a", { href: "/new" }, "Queue a job")));
}

function card(job) {
  return h("article", { class: "card run", "data-key": job.id, "aria-label": job.id },
    h("header", null,
      h("div", { class: "who" }, h("h3", null, h("a", { href: addressOf(job.id) }, titleOf(job))),
        h("span", { class: "id" }, job.id), job.where ? h("span", { class: "id" }, `on ${job.where}`) : null),
      h("div", { class: "what" }, stateOf(job), job.wish ? h("span", { class: "wish" }, job.wish) : null)),
    progress(job),
    h("p", { class: "pace" }, pace(job)),
    job.reason ? h("p", { class: "soft" }, job.reason) : null,
    h("footer", null,
      h("dl", { class: "tiles" },
        tile(job.evaluates ? "Adapter's loss" : "Loss", figure(job.evaluates ? job.best : job.loss)),
        job.evaluates ? tile("Token F1", figure(job.f1, 3)) : tile("Best validation", figure(job.best)),
        job.evaluates ? null : tile("Gap", gap(job)), tile("So far", length(job.seconds))),
      h("div", { class: "buttons" }, actions(job, ""))));
}

const JOB = { name: "Job", kind: "wide" };
const DO = { name: "Actions", kind: "do", hidden: true };

function queued(board, at) {
  if (!board.queued_count) return null;
  const noted = board.queued.some((job) => job.reason);
  const rows = board.queued.map((job) => ({
    key: job.id,
    cells: [job.place ?? NONE, jobLink(job), ...(noted ? [job.reason ?? NONE] : []), job.priority || NONE, when(job.created), actions(job)],
  }));
  return list("queued", "Queued", board.queued_count,
    table("Queued jobs", [{ name: "Place", kind: "place" }, JOB, ...(noted ? [{ name: "Note", kind: "text" }] : []),
      { name: "Priority", kind: "right" }, { name: "Queued", kind: "right" }, DO], rows, "queue"),
    pager("queued", at.queued, board.queued_count, board.page));
}

function later(board) {
  if (!board.later_count) return null;
  const starts = (job) => {
    if (job.state === "scheduled") return ["at ", when(job.schedule)];
    if (job.state === "waiting" && job.after) return ["after ", h("a", { href: addressOf(job.after) }, job.after)];
    return job.reason ?? NONE;
  };
  const rows = board.later.map((job) => ({
    key: job.id,
    cells: [stateOf(job), jobLink(job), starts(job), actions(job)],
  }));
  const more = board.later_count - board.later.length;
  return list("later", "Later", board.later_count,
    table("Jobs that start later", [{ name: "State", kind: "how" }, JOB, { name: "Starts", kind: "text" }, DO], rows, "later"),
    more > 0 ? h("p", { class: "soft" }, `${counted(more, "other job")} not shown here: farense queue`) : null);
}

function ended(board, at) {
  if (!board.ended_count) return null;
  const scored = board.ended.some((job) => job.f1 !== null && job.f1 !== undefined);
  const headings = [{ name: "State", kind: "how" }, JOB, { name: "Steps", kind: "right" }, { name: "Best val", kind: "right" },
    { name: "Gap" }, ...(scored ? [{ name: "F1", kind: "right" }] : []), { name: "Took", kind: "right" }, { name: "Ended", kind: "right" }, DO];
  const rows = board.ended.map((job) => ({
    key: job.id,
    cells: [
      stateOf(job),
      [jobLink(job), job.reason && job.state !== "completed" ? h("p", { class: "reason" }, job.reason) : null],
      steps(job), figure(job.best), gap(job), ...(scored ? [figure(job.f1, 3)] : []),
      length(job.seconds), when(job.finished), actions(job),
    ],
  }));
  return list("ended", "Ended", board.ended_count, table("Jobs that have ended", headings, rows, "ended"),
    pager("ended", at.ended, board.ended_count, board.page));
}

function list(key, title, count, ...content) {
  return h("section", { "data-key": key, "aria-labelledby": key },
    h("h2", { id: key }, title, " ", h("span", { class: "count" }, whole(count))),
    h("div", { class: "card list" }, content));
}
