// Elements made of text, and a page that is brought from one look to the next without losing focus.
// Nothing here takes markup: what is not an element becomes a text node.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...flat(children));
  return element;
}

export function flat(children) {
  return children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== "")
    .map((c) => (c instanceof Node ? c : document.createTextNode(String(c))));
}

// A small drawing of one path, as an icon beside a word that says the same.
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

const key = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const alike = (one, other) => one.nodeName === other.nodeName && key(one) === key(other);

// Make the children of an element be `wanted`, changing as little as possible: who has the keyboard
// on a button keeps it there, a text that is selected stays selected.
export function morph(parent, wanted) {
  const known = new Map();
  for (const child of parent.childNodes) if (key(child)) known.set(key(child), child);
  let at = parent.firstChild;
  for (const want of wanted) {
    const old = key(want) ? known.get(key(want)) : at && !key(at) ? at : null;
    if (old && alike(old, want)) {
      if (old === at) at = at.nextSibling;
      else parent.insertBefore(old, at);
      update(old, want);
    } else {
      parent.insertBefore(want, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// What a person opens or types is theirs.
const THEIRS = new Set(["open", "data-scrolled"]);

function update(old, want) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== want.data) old.data = want.data;
    return;
  }
  for (const { name, value } of want.attributes) {
    if (!THEIRS.has(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!THEIRS.has(name) && !want.hasAttribute(name)) old.removeAttribute(name);
  }
  if (!old.hasAttribute("data-keep")) morph(old, [...want.childNodes]);
}
