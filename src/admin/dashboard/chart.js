// Charts of the last five minutes of a pool, with one crosshair for all of them.
"use strict";

/** Seconds of history that a chart shows. */
const WINDOW = 300;
/** Milliseconds without a sample that are a gap. */
const GAP = 2500;
const SVG = "http://www.w3.org/2000/svg";

/** Statuses in the order in which they are stacked. */
const CLASSES = ["2xx", "3xx", "1xx", "4xx", "5xx", "none"];

/**
 * What each chart shows. `curves`: label, value of a sample, and tone. `stacked`: one upon the other. `log`: on a
 * logarithmic scale, so that a small curve can be read beside a large one.
 */
const CHARTS = [
  {
    is: "rate", title: "Requests/s", name: "Requests per second by status", format: number, stacked: true,
    curves: CLASSES.map((name) => [name === "none" ? "no status" : name, (sample) => sample.responses[name], `c${name}`]),
    total: (sample) => sample.requests_per_second,
  },
  { is: "errors", title: "Errors", name: "Share of errors", format: percent, curves: [["", (sample) => sample.error_share, "bad"]] },
  {
    is: "latency", title: "Latency", name: "Latency", format: millis, log: true,
    curves: [["p50", (sample) => sample.p50_ms, "first"], ["p99", (sample) => sample.p99_ms, "second"]],
  },
  { is: "in-flight", title: "In flight", name: "Requests in flight", format: number, curves: [["", (sample) => sample.in_flight, "first"]] },
  { is: "retries", title: "Retries/s", name: "Retries per second", format: number, curves: [["", (sample) => sample.retries_per_second, "warn"]] },
  {
    is: "bytes", title: "Bytes/s", name: "Bytes of bodies per second", format: bytes, log: true,
    curves: [["in", (sample) => sample.bytes_in_per_second, "first"], ["out", (sample) => sample.bytes_out_per_second, "second"]],
  },
];

function element(name, attributes = {}, ...children) {
  const isDrawn = ["svg", "path"].includes(name);
  const node = isDrawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** The charts of a pool. `samples` returns those that are known of it; `recent` its numbers of the last minute. */
class Board {
  constructor(place, samples, recent) {
    this.samples = samples;
    this.recent = recent;
    /** The time that the crosshair stands at; null without one. */
    this.at = null;
    this.charts = CHARTS.map((kind) => new Chart(kind, this));
    place.append(...this.charts.map((chart) => chart.node));
  }

  /** Puts the crosshair at the sample with this number, or away. */
  point(nth) {
    this.at = this.samples()[nth]?.t ?? null;
    this.draw();
  }

  /** The number of the sample under the crosshair; -1 without one. */
  pointed() {
    return this.samples().findIndex((sample) => sample.t === this.at);
  }

  draw() {
    const samples = this.samples();
    for (const chart of this.charts) chart.draw(samples, this.pointed());
  }
}

class Chart {
  constructor(kind, board) {
    this.kind = kind;
    this.board = board;
    this.areas = kind.curves.map(([, , tone]) => element("path", { class: `area ${tone}` }));
    this.lines = (kind.stacked ? [["", null, "first"]] : kind.curves).map(([, , tone]) => element("path", { class: `curve ${tone}` }));
    this.dots = this.lines.map((_, nth) => element("path", { class: this.lines[nth].getAttribute("class").replace("curve", "dot") }));
    this.cross = element("path", { class: "cross" });
    const drawing = element("svg", { viewBox: `0 0 ${WINDOW} 40`, preserveAspectRatio: "none", "aria-hidden": "true" });
    drawing.append(...this.areas, ...this.lines, this.cross, ...this.dots);
    this.plot = element("div", { class: "plot", tabindex: "0", role: "slider", "aria-orientation": "horizontal", "aria-valuemin": "0" }, drawing);
    this.plot.setAttribute("aria-label", `${kind.name}, the last five minutes`);
    this.caption = element("figcaption", {}, element("span", {}, kind.title), " ");
    this.values = kind.curves.map(([label, , tone]) => {
      const value = element("b");
      if (!label) {
        this.caption.append(value);
      } else if (!kind.stacked) {
        this.caption.append(element("span", {}, element("i", { class: tone }, label), " ", value), " ");
      }
      return value;
    });
    if (kind.stacked) {
      this.sum = element("b");
      this.caption.append(this.sum);
      this.legend = element("p", { class: "legend" });
      this.items = kind.curves.map(([label, , tone], nth) => element("span", { class: tone, hidden: "" }, element("i", {}, label), " ", this.values[nth]));
      this.legend.append(...this.items);
    }
    this.note = element("small");
    this.caption.append(" ", this.note);
    this.when = element("span");
    this.range = element("span");
    const scale = element("p", { class: "scale" }, this.when, this.range);
    this.node = element("figure", { "data-is": kind.is }, this.caption, this.plot, scale, ...(this.legend ? [this.legend] : []));
    this.listen();
  }

  listen() {
    this.plot.addEventListener("pointermove", ({ clientX }) => {
      const samples = this.board.samples();
      if (!samples.length) return;
      const { left, width } = this.plot.getBoundingClientRect();
      const t = samples.at(-1).t - (1 - (clientX - left) / width) * WINDOW * 1000;
      const after = samples.findIndex((sample) => sample.t >= t);
      const isNearer = after > 0 && t - samples[after - 1].t < samples[after].t - t;
      this.board.point(after < 0 ? samples.length - 1 : after - (isNearer ? 1 : 0));
    });
    for (const end of ["pointerleave", "blur"]) this.plot.addEventListener(end, () => this.board.point(-1));
    this.plot.addEventListener("keydown", (press) => {
      const last = this.board.samples().length - 1;
      const pointed = this.board.pointed();
      const from = pointed < 0 ? last : pointed;
      const to = {
        ArrowLeft: from - (pointed < 0 ? 0 : 1),
        ArrowDown: from - 1,
        ArrowRight: from + 1,
        ArrowUp: from + 1,
        PageDown: from - 10,
        PageUp: from + 10,
        Home: 0,
        End: last,
      }[press.key];
      if (press.key === "Escape") this.board.point(-1);
      if (to === undefined) return;
      press.preventDefault();
      this.board.point(Math.max(0, Math.min(last, to)));
    });
  }

  /** The values of each curve: [t, value], null where there is none. */
  curves(samples) {
    return this.kind.curves.map(([, value]) => samples.map((sample) => [sample.t, value(sample)]));
  }

  draw(samples, pointed) {
    const { stacked, total, log, format } = this.kind;
    let curves = this.curves(samples);
    const newest = samples.at(-1)?.t ?? 0;
    // Of stacked curves the line is that of their sum.
    const tops = stacked ? samples.map((_, nth) => curves.map((_, upTo) => curves.slice(0, upTo + 1).reduce((sum, curve) => sum + curve[nth][1], 0))) : [];
    const lines = stacked ? [samples.map((sample, nth) => [sample.t, tops[nth].at(-1)])] : curves;
    const values = lines.flat().map(([, value]) => value).filter((value) => value !== null && value > 0);
    const most = values.reduce((most, value) => Math.max(most, value), 0);
    const least = values.reduce((least, value) => Math.min(least, value), Infinity);
    const share = log ? logarithmic(least, most) : (value) => (most ? value / most : 0);
    const x = (t) => (WINDOW - (newest - t) / 1000).toFixed(1);
    const y = (value) => (39.5 - share(value) * 37).toFixed(1);
    const place = ([t, value]) => `${x(t)} ${y(value)}`;
    lines.forEach((curve, nth) => {
      const runs = pieces(curve).map((piece) => `M${piece.map(place).join("L")}${piece.length < 2 ? "h.01" : ""}`);
      this.lines[nth].setAttribute("d", runs.join(""));
    });
    if (stacked) {
      const runs = stretches(samples);
      this.areas.forEach((area, nth) => {
        const isThere = curves[nth].some(([, value]) => value > 0);
        const shapes = isThere ? runs.map(([from, to]) => {
          const numbers = Array.from({ length: to - from }, (_, step) => from + step);
          const upper = numbers.map((at) => `${x(samples[at].t)} ${y(tops[at][nth])}`);
          const lower = numbers.reverse().map((at) => `${x(samples[at].t)} ${y(nth ? tops[at][nth - 1] : 0)}`);
          return `M${upper.join("L")}L${lower.join("L")}Z`;
        }) : [];
        area.setAttribute("d", shapes.join(""));
        this.items[nth].hidden = !isThere;
      });
    } else if (!log) {
      const shapes = pieces(curves[0]).map((piece) => `M${x(piece[0][0])} 40L${piece.map(place).join("L")}L${x(piece.at(-1)[0])} 40Z`);
      this.areas[0].setAttribute("d", shapes.join(""));
    }
    this.tell(samples, pointed, curves, lines, { format, total, most, least, place, x });
  }

  /** The numbers under the crosshair, or those of now. */
  tell(samples, pointed, curves, lines, { format, total, most, least, place, x }) {
    const isPointed = pointed >= 0;
    const nth = isPointed ? pointed : samples.length - 1;
    const sample = samples[nth];
    const shown = curves.map((curve) => format(curve[nth]?.[1]));
    const recent = !isPointed && this.board.recent(this.kind.is);
    if (recent) shown[0] = recent.text;
    shown.forEach((text, curve) => say(this.values[curve], text));
    if (this.sum) say(this.sum, format(sample && total(sample)));
    say(this.note, recent ? recent.note : "");
    say(this.when, isPointed ? `${clock(sample.t)}, ${span((samples.at(-1).t - sample.t) / 1000)} ago` : "5 min");
    const range = this.kind.log && least < most ? `${format(least)} to ${format(most)}, log scale` : `max ${format(most)}`;
    say(this.range, most && !isPointed ? range : "");
    this.node.classList.toggle("pointed", isPointed);
    this.cross.setAttribute("d", isPointed ? `M${x(sample.t)} 0V40` : "");
    this.dots.forEach((dot, curve) => {
      const point = isPointed && lines[curve][nth];
      dot.setAttribute("d", point && point[1] ? `M${place(point)}h.01` : "");
    });
    const labels = this.kind.curves.map(([label], curve) => `${label} ${shown[curve]}`.trim());
    const said = this.sum ? [this.sum.textContent, ...labels.filter((_, curve) => !this.items[curve].hidden)] : labels;
    const time = isPointed ? clock(sample.t) : "now";
    this.plot.setAttribute("aria-valuemax", String(Math.max(0, samples.length - 1)));
    this.plot.setAttribute("aria-valuenow", String(Math.max(0, nth)));
    this.plot.setAttribute("aria-valuetext", `${time}: ${said.join(", ")}${recent ? ` in the ${recent.note}` : ""}`);
  }
}

/** The height of a value, 0 to 1, on a logarithmic scale over a decade at least. */
function logarithmic(least, most) {
  const high = most * 1.1;
  const low = Math.min(high / 10, Math.max(least / 1.5, most / 1e6));
  return (value) => (value > low ? Math.log(value / low) / Math.log(high / low) : 0);
}

/** Cuts a curve where values are missing, and where it only repeats that there is nothing: a zero needs no ink. */
function pieces(curve) {
  const found = [];
  let last = -Infinity;
  curve.forEach((point, nth) => {
    const isIdle = (other) => !other || !other[1];
    if (point[1] === null || (isIdle(point) && isIdle(curve[nth - 1]) && isIdle(curve[nth + 1]))) return;
    if (point[0] - last > GAP) found.push([]);
    found.at(-1).push(point);
    last = point[0];
  });
  return found;
}

/** The stretches of samples without a gap, as numbers: from, and up to. */
function stretches(samples) {
  const found = [];
  samples.forEach((sample, nth) => {
    if (!nth || sample.t - samples[nth - 1].t > GAP) found.push([nth, nth]);
    found.at(-1)[1] = nth + 1;
  });
  return found;
}
