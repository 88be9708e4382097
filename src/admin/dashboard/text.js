// Helpers: access to elements of the page, and formatting of numbers.
"use strict";

const find = (id) => document.getElementById(id);
const part = (node, name) => node.querySelector(`[data-is="${name}"]`);
const pause = (time) => new Promise((done) => setTimeout(done, time));

/** Sets a text only if it differs, which keeps selections and avoids repeated announcements by screen readers. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets a text, and hides the element if it is empty. */
function setTextOrHide(node, text) {
  setText(node, text);
  node.hidden = !text;
}

/** Sets the tone and the symbol of an element. */
function setSymbol(node, [tone, symbol]) {
  node.classList.remove("good", "warn", "bad");
  if (tone) node.classList.add(tone);
  node.querySelector("use").setAttribute("href", `#${symbol}`);
}

const copy = (template) => find(template).content.firstElementChild.cloneNode(true);

function number(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)}k`;
  return value < 10 && value % 1 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  return `${value === 0 || value >= 10 ? value.toFixed(0) : value < 0.01 ? "<0.01" : value.toFixed(value < 1 ? 2 : 1)} %`;
}

function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const left = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const text = `${Math.floor(left / size)} ${name}`;
  const rest = units[first + 1] && Math.floor((left % size) / units[first + 1][1]);
  return rest && left / size < 10 ? `${text} ${rest} ${units[first + 1][0]}` : text;
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hour12: false });
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Shows a number with its unit in smaller type. */
function figure(node, text) {
  if (node.dataset.text === text) return;
  node.dataset.text = text;
  const parts = text.match(/[\d.,<–]+[kM]?|[^\d.,<–]+/g).map((piece) => {
    if (/[\d–]/.test(piece)) return piece;
    const unit = document.createElement("span");
    unit.className = "unit";
    unit.textContent = piece.trim();
    return unit;
  });
  node.replaceChildren(...parts);
}

function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  const shown = value / 1000 ** power;
  return `${shown.toFixed(power && shown < 10 ? 1 : 0)} ${units[power]}`;
}

/** The first names of a list, and the number of the others. */
function firstNames(names, max = 3) {
  const rest = names.length - max;
  return rest > 0 ? `${names.slice(0, max).join(", ")} and ${number(rest)} more` : names.join(", ");
}
