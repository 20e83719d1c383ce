// A new job: a preset, its settings as fields, and what is wrong beside each of them.

import { begun, get, post } from "./api.js";
import { h } from "./dom.js";
import { addressOf } from "./parts.js";

const PAUSE = 400;
const OWN = new Set(["name", "priority", "at", "evaluate"]);

export function newView(parameters, page) {
  let preset = parameters.get("preset") ?? begun.presets.find((name) => name === "v2") ?? begun.presets[0];
  let form = null;
  let problems = {};
  let trouble = null;
  let plan = null;
  let busy = false;
  let timer = 0;
  let asked = 0;
  let unchecked = false;

  const choose = async (name) => {
    preset = name;
    form = problems = plan = trouble = null;
    problems = {};
    try {
      form = await get(`/api/presets/${encodeURIComponent(name)}`);
    } catch (error) {
      trouble = error;
    }
    unchecked = true;
    page.draw();
  };

  const values = () => {
    const found = { preset, changes: {} };
    for (const field of form.fields) {
      const element = document.getElementById(`f-${field.name}`);
      // Those of another preset may still stand there.
      if (element?.dataset.preset === preset && element.value.trim() !== field.value) found.changes[field.name] = element.value;
    }
    const own = (name) => document.getElementById(`f-${name}`);
    found.name = own("name").value.trim() || null;
    found.at = own("at").value.trim() || null;
    found.priority = own("priority").value.trim() === "" ? 0 : Number(own("priority").value);
    found.evaluate = own("evaluate").checked;
    return found;
  };

  const refused = (error) => {
    problems = error.fields ?? {};
    const known = new Set([...OWN, ...form.fields.map((field) => field.name)]);
    const other = Object.entries(problems).filter(([name]) => !known.has(name)).map(([name, text]) => `${name}: ${text}`);
    const general = [error.general, ...other].filter(Boolean).join(" ");
    trouble = general || (error.hint && !Object.keys(problems).length) ? { message: general, hint: error.hint } : null;
    plan = null;
  };

  // Look at the form while it is filled in, as `farense enqueue` will.
  const check = async () => {
    const mine = ++asked;
    try {
      const found = await post("/api/check", values());
      if (mine !== asked) return;
      problems = {};
      trouble = null;
      plan = found;
    } catch (error) {
      if (mine !== asked) return;
      refused(error);
    }
    page.draw();
  };

  const send = async () => {
    if (busy) return;
    clearTimeout(timer);
    asked += 1;
    busy = true;
    page.draw();
    try {
      const found = await post("/api/enqueue", values());
      page.say([`Queued ${found.id}.`, ...found.remarks].join(" "));
      page.go(addressOf(found.id));
    } catch (error) {
      refused(error);
      busy = false;
      page.draw();
      (document.querySelector('[aria-invalid="true"]') ?? document.getElementById("trouble"))?.focus();
    }
  };

  choose(preset);

  return {
    title: "New job",
    topics: ["now"],
    changed(element) {
      if (element.id === "f-preset") {
        choose(element.value);
      } else if (form) {
        clearTimeout(timer);
        timer = setTimeout(check, PAUSE);
        page.draw();
      }
    },
    submitted: send,
    render() {
      const title = h("h1", { "data-key": "title" }, "New job");
      if (!form) return [title, trouble ? notice(trouble) : h("p", { class: "empty" }, "Reading the preset …")];
      const field = (one) => entry(one, preset, problems[one.name]);
      const first = form.fields.slice(0, form.first);
      const rest = form.fields.slice(form.first);
      const wrong = rest.filter((one) => problems[one.name]).length;
      return [title, h("form", { id: "new", class: "form", novalidate: true, "data-key": "form", autocomplete: "off" },
        h("div", { class: "card fields", "data-key": "preset" },
          h("div", { class: "field wide" }, h("label", { for: "f-preset" }, "Preset"),
            h("select", { id: "f-preset" }, begun.presets.map((name) => h("option", { value: name, selected: name === preset }, name))),
            form.description ? h("p", { class: "soft" }, form.description) : null)),
        h("fieldset", { class: "card fields", "data-key": `first ${preset}` }, h("legend", null, "Settings"), first.map(field)),
        h("details", { class: "card fold", "data-key": `rest ${preset}`, open: wrong > 0 },
          h("summary", null, "More settings ", h("span", { class: "count" }, rest.length), wrong ? h("span", { class: "tag bad" }, `${wrong} to mend`) : null),
          h("div", { class: "fields" }, rest.map(field))),
        h("fieldset", { class: "card fields", "data-key": "job" }, h("legend", null, "The job"),
          own("name", "Name", "text", problems.name, "for you; may be left out"),
          own("at", "Start no earlier than", "text", problems.at, "23:00, or tomorrow 6am"),
          own("priority", "Priority", "number", problems.priority, "higher runs first"),
          h("div", { class: "field check" }, h("input", { id: "f-evaluate", type: "checkbox" }), h("label", { for: "f-evaluate" }, "Evaluate it once it has succeeded"))),
        trouble ? notice(trouble) : null,
        h("div", { class: "card send", "data-key": "send" },
          h("p", { role: "status", class: "plan" }, busy ? "Checking model and data as the job will use them …" : plan ? plan.plan : Object.keys(problems).length || trouble ? "Not yet: see above." : "Checking …"),
          plan?.warning && !busy ? h("p", { class: "note" }, plan.warning) : null,
          h("button", { class: "button primary", type: "submit", "aria-disabled": busy ? "true" : null }, busy ? "Checking …" : "Queue the job")))];
    },
    drawn() {
      if (form && unchecked) {
        unchecked = false;
        check();
      }
      if (Object.keys(problems).length && !busy) {
        const rest = document.querySelector("form details");
        if (rest?.querySelector('[aria-invalid="true"]')) rest.open = true;
      }
    },
    close() { clearTimeout(timer); },
  };
}

function notice(trouble) {
  return h("div", { class: "note bad", id: "trouble", tabindex: -1, "data-key": "trouble", role: "alert" }, h("p", null, trouble.message), trouble.hint ? h("p", { class: "soft" }, trouble.hint) : null);
}

function entry(field, preset, wrong) {
  const id = `f-${field.name}`;
  const now = document.getElementById(id);
  const changed = now && now.dataset.preset === preset && now.value.trim() !== field.value;
  const described = [wrong ? `${id}-wrong` : null, field.about ? `${id}-about` : null, field.why ? `${id}-why` : null].filter(Boolean).join(" ") || null;
  const common = { id, "data-preset": preset, "aria-describedby": described, "aria-invalid": wrong ? "true" : null };
  const input = field.kind === "choice"
    ? h("select", common, [...(field.optional ? [""] : []), ...field.words].map((word) => h("option", { value: word, selected: word === field.value }, word || "not set")))
    : h("input", { ...common, value: field.value, type: "text", spellcheck: "false", autocapitalize: "off",
      inputmode: { whole: "numeric", number: "decimal" }[field.kind] ?? null, placeholder: field.optional ? "not set" : null });
  return h("div", { class: `field${changed ? " changed" : ""}${field.kind === "text" ? " wide" : ""}`, "data-key": `${preset} ${field.name}` },
    h("label", { for: id }, field.name, changed ? h("span", { class: "tag" }, `preset: ${field.value || "not set"}`) : null),
    input,
    wrong ? h("p", { class: "wrong", id: `${id}-wrong` }, wrong) : null,
    field.about ? h("p", { class: "soft", id: `${id}-about` }, field.about) : null,
    field.why ? h("p", { class: "soft why", id: `${id}-why` }, field.why) : null);
}

function own(name, label, type, wrong, about) {
  const id = `f-${name}`;
  return h("div", { class: "field", "data-key": name }, h("label", { for: id }, label),
    h("input", { id, type: "text", inputmode: type === "number" ? "numeric" : null, "aria-describedby": `${id}-about${wrong ? ` ${id}-wrong` : ""}`, "aria-invalid": wrong ? "true" : null }),
    wrong ? h("p", { class: "wrong", id: `${id}-wrong` }, wrong) : null,
    h("p", { class: "soft", id: `${id}-about` }, about));
}
