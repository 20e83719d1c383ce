// The page: which view is shown, what it follows, and what a click does.

import { LOCKED, follow, post, start } from "./api.js";
import { h, morph } from "./dom.js";
import { size } from "./format.js";
import { jobView } from "./job.js";
import { machinesView } from "./machines.js";
import { newView } from "./new.js";
import { shortId } from "./parts.js";
import { queueView } from "./queue.js";
import { sweepView, sweepsView } from "./sweeps.js";

const main = document.getElementById("main");
const said = document.getElementById("said");
const notices = document.getElementById("notices");
const LINK = { live: "live", away: "server away, trying again", locked: "locked", connecting: "connecting" };
const SAID_FOR = 6_000;
// Below this much free space a person is told wherever they are.
const LITTLE_SPACE = 5e9;

let view = null;
let values = new Map();
let leave = () => {};
let link = "connecting";
let asked = false;

const page = {
  draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      morph(main, view.render(values));
      morph(notices, notes());
      view.drawn?.();
    });
  },
  go(address, replace = false) {
    history[replace ? "replaceState" : "pushState"](null, "", address);
    show(!replace);
  },
  say(text, bad = false) {
    clearTimeout(page.timer);
    said.classList.toggle("bad", bad);
    said.replaceChildren(h("p", null, text));
    page.timer = setTimeout(() => said.replaceChildren(), bad ? 2 * SAID_FOR : SAID_FOR);
  },
};

function found(address) {
  const [, kind, id] = address.pathname.split("/").map(decodeURIComponent);
  switch (kind) {
    case "job": return jobView(id, page);
    case "sweep": return sweepView(id, page);
    case "sweeps": return sweepsView(page);
    case "machines": return machinesView(page);
    case "new": return newView(address.searchParams, page);
    default: return queueView(address.searchParams, page);
  }
}

function show(moved = true) {
  const before = view;
  leave();
  const kept = values;
  const next = found(new URL(location.href));
  before?.close?.();
  if (moved) main.replaceChildren();
  view = next;
  // What was shown stays until the next part of a list is there.
  values = new Map(next.topics.filter((topic) => kept.has(topic)).map((topic) => [topic, kept.get(topic)]));
  document.title = `${next.title} · farense`;
  for (const one of document.querySelectorAll("header.top nav a")) {
    if (one.pathname === location.pathname) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  if (moved || values.size === next.topics.length) page.draw();
  if (moved && before) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  let away = false;
  leave = follow(next.topics, (topic, value) => {
    if (view !== next) return;
    const news = next.news?.(values.get(topic), value, topic);
    values.set(topic, value);
    if (news) page.say(news);
    next.heard?.(topic, value);
    page.draw();
  }, (state) => {
    if (view !== next) return;
    if (state === "live" && away) next.reconnected?.();
    away = state !== "live";
    linked(state);
  });
}

function linked(state) {
  link = state;
  const place = document.getElementById("link");
  place.dataset.state = state;
  place.querySelector(".link-text").textContent = LINK[state];
  page.draw();
}

function notes() {
  const now = values.get("now");
  const note = (key, kind, ...text) => h("p", { class: `note ${kind}`, "data-key": key }, text);
  if (link === "locked") return [note("locked", "bad", LOCKED)];
  const found = [];
  if (link === "away") found.push(note("gone", "bad", "The page's server is away. What you see may be old; it is asked again until it answers."));
  if (now?.away && link === "live") found.push(note("redis", "warn", `${now.away} Shown from the files instead.`));
  if (now?.disk && now.disk.free < LITTLE_SPACE) found.push(note("disk", "warn", `Only ${size(now.disk.free)} of the disk are free.`));
  return found;
}

const QUESTIONS = {
  cancel: ["Cancel this job?", "It writes a last checkpoint and stops. What it has reached stays.", "Cancel the job"],
  kill: ["Kill this job now?", "It stops at once, without a last checkpoint.", "Kill it"],
};

function confirmed(action, job) {
  const [title, text, word] = QUESTIONS[action];
  const box = document.getElementById("ask");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = `${shortId(job)}: ${text}`;
  document.getElementById("ask-yes").textContent = word;
  box.returnValue = "no";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () => resolve(box.returnValue === "yes"), { once: true }));
}

async function act(button) {
  const { action, job, state } = button.dataset;
  const asks = action === "kill" || (action === "cancel" && ["running", "interrupted", "paused"].includes(state));
  if (asks && !(await confirmed(action, job))) return;
  button.setAttribute("aria-busy", "true");
  try {
    const done = await post(`/api/jobs/${encodeURIComponent(job)}/${action}`);
    page.say(done.said);
  } catch (error) {
    page.say([error.message, error.hint].filter(Boolean).join(" "), true);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button) {
    act(button);
    return;
  }
  const turn = event.target.closest("button[data-page]");
  if (turn) {
    view.paged(turn.dataset.page, Number(turn.dataset.to));
    return;
  }
  const anchor = event.target.closest("a[href]");
  const own = anchor && anchor.origin === location.origin && !anchor.pathname.startsWith("/api/") && !anchor.getAttribute("href").startsWith("#");
  if (!own || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  page.go(anchor.pathname + anchor.search);
});
document.addEventListener("input", (event) => view?.changed?.(event.target));
document.addEventListener("submit", (event) => {
  if (event.target.id !== "new") return;
  event.preventDefault();
  view.submitted();
});
addEventListener("popstate", () => show());

async function begin() {
  for (;;) {
    try {
      await start();
      break;
    } catch (error) {
      if (error.status === 401) {
        morph(notices, [h("p", { class: "note bad" }, LOCKED)]);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 1_000));
    }
  }
  show();
}

begin();
