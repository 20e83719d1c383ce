// Asking the server, and following what it has to say. It may go and come back at any time.

let changeWord = "";
export const begun = {};

export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? body.general ?? `The server answered ${status}.`);
    this.status = status;
    this.hint = body.hint ?? null;
    this.fields = body.fields ?? {};
    this.general = body.general ?? body.error ?? null;
  }
}

async function answered(response) {
  if (response.ok) return response.json();
  let body = {};
  try {
    body = await response.json();
  } catch {
    body = { error: response.status === 401 ? LOCKED : `The server answered ${response.status}.` };
  }
  throw new Refused(response.status, body);
}

export const LOCKED = "This page is locked: open the link that `farense ui` prints.";

export async function start() {
  Object.assign(begun, await get("/api/start"));
  changeWord = begun.change;
}

export async function get(path) {
  return answered(await fetch(path, { headers: { accept: "application/json" } }));
}

export async function post(path, body = {}) {
  const send = () => fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "x-farense-change": changeWord },
    body: JSON.stringify(body),
  });
  let response = await send();
  if (response.status === 403) {
    await start(); // the server may have got a new token meanwhile
    response = await send();
  }
  const found = await answered(response);
  if (found.problems) throw new Refused(response.status, found.problems);
  return found;
}

// A server that says nothing for so long is taken for gone: it speaks every four seconds.
const SILENCE = 12_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 4_000;

// Follow topics; `heard(topic, value)` is called with each value, `link(state)` with how it stands:
// live, away or locked.
export function follow(topics, heard, link) {
  let source = null;
  let timer = 0;
  let silence = 0;
  let wait = FIRST_WAIT;
  let over = false;

  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(again, SILENCE);
  };
  const again = async () => {
    source?.close();
    source = null;
    clearTimeout(silence);
    if (over) return;
    clearTimeout(timer);
    link((await isLocked()) ? "locked" : "away");
    if (over || source) return;
    timer = setTimeout(open, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  };
  const open = () => {
    if (over) return;
    const query = topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join("&");
    source = new EventSource(`/events?${query}`);
    source.onopen = () => {
      wait = FIRST_WAIT;
      link("live");
      listen();
    };
    source.onerror = again;
    source.onmessage = (message) => {
      listen();
      const { topic, value } = JSON.parse(message.data);
      if (topic !== "beat") heard(topic, value);
    };
  };
  open();
  return () => {
    over = true;
    clearTimeout(timer);
    clearTimeout(silence);
    source?.close();
  };
}

// A stream that was refused says nothing of why: ask.
async function isLocked() {
  try {
    return (await fetch("/api/start", { cache: "no-store" })).status === 401;
  } catch {
    return false;
  }
}
