// The daemons that share the queue, and the disk of this machine.

import { h } from "./dom.js";
import { NONE, length, size } from "./format.js";
import { addressOf, problem, table } from "./parts.js";

export function machinesView() {
  return {
    title: "Machines",
    topics: ["now", "machines"],
    render(values) {
      const found = values.get("machines");
      if (!found) return [h("p", { class: "empty" }, "Reading …")];
      if (found.error) return [problem(found)];
      return [h("h1", null, "Machines"), here(found), daemons(found)];
    },
  };
}

function here(found) {
  const disk = found.disk;
  return h("section", { "data-key": "here", "aria-labelledby": "here" }, h("h2", { id: "here" }, "This machine"),
    h("dl", { class: "card pairs" },
      h("dt", null, "Host"), h("dd", null, found.host),
      h("dt", null, "Workspace"), h("dd", null, found.workspace),
      h("dt", null, "Daemon"), h("dd", null, found.daemon ? "runs" : "does not run: farense daemon"),
      disk ? [h("dt", null, "Disk"), h("dd", null, h("meter", { min: 0, max: disk.total, value: disk.total - disk.free, high: 0.9 * disk.total, "aria-label": "Part of the disk that is used" }),
        ` ${size(disk.free)} of ${size(disk.total)} free`)] : null));
}

function daemons(found) {
  const does = (card) => {
    if (!card.alive) return `silent for ${length(60 * card.silent_minutes)}: stopped, asleep or cut off`;
    if (card.job) return ["runs ", h("a", { href: addressOf(card.job) }, card.job)];
    return card.held_because ?? "waits for jobs";
  };
  const powered = found.workers.some((card) => card.power && card.alive);
  const rows = found.workers.map((card) => ({
    key: card.name,
    cells: [card.name, does(card), ...(powered ? [card.alive && card.power ? card.power : NONE] : []), card.queue, card.workspace || NONE],
  }));
  return h("section", { "data-key": "daemons", "aria-labelledby": "daemons" }, h("h2", { id: "daemons" }, "Daemons"),
    rows.length ? h("div", { class: "card list" }, table("Daemons", [{ name: "Daemon", kind: "wide" }, { name: "Does", kind: "text" }, ...(powered ? [{ name: "Power", kind: "text" }] : []), { name: "Queue" }, { name: "Workspace", kind: "text" }], rows, "machines"))
      : h("p", { class: "empty" }, "No daemon has worked on this queue lately. On a terminal: ", h("code", null, "farense daemon")));
}
