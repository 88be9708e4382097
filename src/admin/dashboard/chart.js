// Small charts of the last five minutes.
"use strict";

/** Seconds of history that a chart shows. */
const WINDOW = 300;
const SVG = "http://www.w3.org/2000/svg";

/** Draws curves over the last five minutes; a second without a value is a gap. */
function chart(node, name, curves, format) {
  let drawing = node.querySelector("svg");
  if (!drawing) {
    drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", `0 0 ${WINDOW} 40`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("role", "img");
    for (const kind of ["area", ...curves.map((_, nth) => (nth ? "curve second" : "curve"))]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", kind);
      drawing.append(path);
    }
    const scale = document.createElement("p");
    scale.className = "scale";
    scale.append(document.createElement("span"), document.createElement("span"));
    scale.firstChild.textContent = "5 min";
    node.append(drawing, scale);
  }
  const newest = Math.max(...curves.flat().map(([t]) => t));
  const values = curves.flat().filter(([, value]) => value !== null).map(([, value]) => value);
  const most = Math.max(0, ...values);
  const place = ([t, value]) => [
    (WINDOW - (newest - t) / 1000).toFixed(1),
    (39 - (most ? value / most : 0) * 36).toFixed(1),
  ];
  const runs = curves.map(pieces);
  const paths = drawing.querySelectorAll("path");
  runs.forEach((run, nth) => {
    const lines = run.map((piece) => `M${piece.map(place).map((point) => point.join(" ")).join("L")}${piece.length < 2 ? "h.01" : ""}`);
    paths[nth + 1].setAttribute("d", lines.join(""));
  });
  const areas = runs[0].map((piece) => {
    const points = piece.map(place);
    return `M${points[0][0]} 40L${points.map((point) => point.join(" ")).join("L")}L${points.at(-1)[0]} 40Z`;
  });
  paths[0].setAttribute("d", areas.join(""));
  const numbers = node.querySelectorAll("b");
  const now = curves.map((curve) => format(curve.at(-1)?.[1]));
  now.forEach((text, nth) => say(numbers[nth], text));
  say(node.querySelector(".scale").lastChild, most ? `max ${format(most)}` : "");
  drawing.setAttribute("aria-label", `${name} in the last five minutes: now ${now.join(" and ")}, at most ${format(most)}`);
}

/** Cuts a curve where values are missing. */
function pieces(curve) {
  const found = [];
  let last = -Infinity;
  for (const point of curve) {
    if (point[1] === null) continue;
    if (point[0] - last > 2500) found.push([]);
    found.at(-1).push(point);
    last = point[0];
  }
  return found;
}
