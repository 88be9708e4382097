// The charts of a pool over the last five minutes, with a shared crosshair.
"use strict";

/** Seconds of history that a chart shows. */
const WINDOW = 300;
/** Samples further apart than this, in milliseconds, leave a gap in the curve. */
const GAP = 2500;
const SVG = "http://www.w3.org/2000/svg";

/** Status classes in stacking order. */
const CLASSES = ["2xx", "3xx", "1xx", "4xx", "5xx", "none"];

/**
 * The charts. `curves`: label, function from a sample to its value, and tone. `stacked`: curves are stacked. `log`: the
 * scale is logarithmic, so that a small curve is readable beside a large one.
 */
const CHARTS = [
  {
    id: "rate", title: "Requests/s", name: "Requests per second by status", format: number, stacked: true,
    curves: CLASSES.map((name) => [name === "none" ? "no status" : name, (sample) => sample.responses[name], `c${name}`]),
    total: (sample) => sample.requests_per_second,
  },
  { id: "errors", title: "Errors", name: "Share of errors", format: percent, curves: [["", (sample) => sample.error_share, "bad"]] },
  {
    id: "latency", title: "Latency", name: "Latency", format: millis, log: true,
    curves: [["p50", (sample) => sample.p50_ms, "first"], ["p99", (sample) => sample.p99_ms, "second"]],
  },
  { id: "in-flight", title: "In flight", name: "Requests in flight", format: number, curves: [["", (sample) => sample.in_flight, "first"]] },
  { id: "retries", title: "Retries/s", name: "Retries per second", format: number, curves: [["", (sample) => sample.retries_per_second, "warn"]] },
  {
    id: "bytes", title: "Bytes/s", name: "Bytes of bodies per second", format: bytes, log: true,
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

/** The charts of a pool. `samples` returns its samples; `recent` the counts of its last minute, for some charts. */
class Board {
  constructor(place, samples, recent) {
    this.samples = samples;
    this.recent = recent;
    /** The time of the crosshair; null without one. */
    this.at = null;
    this.charts = CHARTS.map((kind) => new Chart(kind, this));
    place.append(...this.charts.map((chart) => chart.node));
  }

  /** Moves the crosshair to the sample with this index; removes it if there is none. */
  moveCrosshair(index) {
    this.at = this.samples()[index]?.t ?? null;
    this.draw();
  }

  /** The index of the sample under the crosshair; -1 without one. */
  crosshairIndex() {
    return this.samples().findIndex((sample) => sample.t === this.at);
  }

  draw() {
    const samples = this.samples();
    for (const chart of this.charts) chart.draw(samples, this.crosshairIndex());
  }
}

class Chart {
  constructor(kind, board) {
    this.kind = kind;
    this.board = board;
    this.areas = kind.curves.map(([, , tone]) => element("path", { class: `area ${tone}` }));
    this.lines = (kind.stacked ? [["", null, "first"]] : kind.curves).map(([, , tone]) => element("path", { class: `curve ${tone}` }));
    this.dots = this.lines.map((_, index) => element("path", { class: this.lines[index].getAttribute("class").replace("curve", "dot") }));
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
      this.items = kind.curves.map(([label, , tone], index) => element("span", { class: tone, hidden: "" }, element("i", {}, label), " ", this.values[index]));
      this.legend.append(...this.items);
    }
    this.note = element("small");
    this.caption.append(" ", this.note);
    this.when = element("span");
    this.range = element("span");
    const scale = element("p", { class: "scale" }, this.when, this.range);
    this.node = element("figure", { "data-is": kind.id }, this.caption, this.plot, scale, ...(this.legend ? [this.legend] : []));
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
      this.board.moveCrosshair(after < 0 ? samples.length - 1 : after - (isNearer ? 1 : 0));
    });
    for (const end of ["pointerleave", "blur"]) this.plot.addEventListener(end, () => this.board.moveCrosshair(-1));
    this.plot.addEventListener("keydown", (press) => {
      const last = this.board.samples().length - 1;
      const pointed = this.board.crosshairIndex();
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
      if (press.key === "Escape") this.board.moveCrosshair(-1);
      if (to === undefined) return;
      press.preventDefault();
      this.board.moveCrosshair(Math.max(0, Math.min(last, to)));
    });
  }

  /** The points of each curve: [t, value], with a null value where there is none. */
  curves(samples) {
    return this.kind.curves.map(([, value]) => samples.map((sample) => [sample.t, value(sample)]));
  }

  draw(samples, pointed) {
    const { stacked, total, log, format } = this.kind;
    let curves = this.curves(samples);
    const newest = samples.at(-1)?.t ?? 0;
    // Stacked curves share one line, that of their sum.
    const tops = stacked ? samples.map((_, index) => curves.map((_, upTo) => curves.slice(0, upTo + 1).reduce((sum, curve) => sum + curve[index][1], 0))) : [];
    const lines = stacked ? [samples.map((sample, index) => [sample.t, tops[index].at(-1)])] : curves;
    const values = lines.flat().map(([, value]) => value).filter((value) => value !== null && value > 0);
    const max = values.reduce((max, value) => Math.max(max, value), 0);
    const min = values.reduce((min, value) => Math.min(min, value), Infinity);
    const share = log ? logarithmic(min, max) : (value) => (max ? value / max : 0);
    const x = (t) => (WINDOW - (newest - t) / 1000).toFixed(1);
    const y = (value) => (39.5 - share(value) * 37).toFixed(1);
    const place = ([t, value]) => `${x(t)} ${y(value)}`;
    lines.forEach((curve, index) => {
      const runs = splitAtGaps(curve).map((segment) => `M${segment.map(place).join("L")}${segment.length < 2 ? "h.01" : ""}`);
      this.lines[index].setAttribute("d", runs.join(""));
    });
    if (stacked) {
      const runs = sampleRuns(samples);
      this.areas.forEach((area, index) => {
        const isThere = curves[index].some(([, value]) => value > 0);
        const shapes = isThere ? runs.map(([from, to]) => {
          const numbers = Array.from({ length: to - from }, (_, step) => from + step);
          const upper = numbers.map((at) => `${x(samples[at].t)} ${y(tops[at][index])}`);
          const lower = numbers.reverse().map((at) => `${x(samples[at].t)} ${y(index ? tops[at][index - 1] : 0)}`);
          return `M${upper.join("L")}L${lower.join("L")}Z`;
        }) : [];
        area.setAttribute("d", shapes.join(""));
        this.items[index].hidden = !isThere;
      });
    } else if (!log) {
      const shapes = splitAtGaps(curves[0]).map((segment) => `M${x(segment[0][0])} 40L${segment.map(place).join("L")}L${x(segment.at(-1)[0])} 40Z`);
      this.areas[0].setAttribute("d", shapes.join(""));
    }
    this.drawLabels(samples, pointed, curves, lines, { format, total, max, min, place, x });
  }

  /** Shows the values under the crosshair, or the newest ones. */
  drawLabels(samples, pointed, curves, lines, { format, total, max, min, place, x }) {
    const isPointed = pointed >= 0;
    const index = isPointed ? pointed : samples.length - 1;
    const sample = samples[index];
    const shown = curves.map((curve) => format(curve[index]?.[1]));
    const recent = !isPointed && this.board.recent(this.kind.id);
    if (recent) shown[0] = recent.text;
    shown.forEach((text, curve) => setText(this.values[curve], text));
    if (this.sum) setText(this.sum, format(sample && total(sample)));
    setText(this.note, recent ? recent.note : "");
    setText(this.when, isPointed ? `${clock(sample.t)}, ${span((samples.at(-1).t - sample.t) / 1000)} ago` : "5 min");
    const range = this.kind.log && min < max ? `${format(min)} to ${format(max)}, log scale` : `max ${format(max)}`;
    setText(this.range, max && !isPointed ? range : "");
    this.node.classList.toggle("pointed", isPointed);
    this.cross.setAttribute("d", isPointed ? `M${x(sample.t)} 0V40` : "");
    this.dots.forEach((dot, curve) => {
      const point = isPointed && lines[curve][index];
      dot.setAttribute("d", point && point[1] ? `M${place(point)}h.01` : "");
    });
    const labels = this.kind.curves.map(([label], curve) => `${label} ${shown[curve]}`.trim());
    const spoken = this.sum ? [this.sum.textContent, ...labels.filter((_, curve) => !this.items[curve].hidden)] : labels;
    const time = isPointed ? clock(sample.t) : "now";
    this.plot.setAttribute("aria-valuemax", String(Math.max(0, samples.length - 1)));
    this.plot.setAttribute("aria-valuenow", String(Math.max(0, index)));
    this.plot.setAttribute("aria-valuetext", `${time}: ${spoken.join(", ")}${recent ? ` in the ${recent.note}` : ""}`);
  }
}

/** The height of a value, 0 to 1, on a logarithmic scale of one decade or more. */
function logarithmic(min, max) {
  const high = max * 1.1;
  const low = Math.min(high / 10, Math.max(min / 1.5, max / 1e6));
  return (value) => (value > low ? Math.log(value / low) / Math.log(high / low) : 0);
}

/** Splits a curve where values are missing, and drops zeros between zeros, which need no line. */
function splitAtGaps(curve) {
  const segments = [];
  let last = -Infinity;
  curve.forEach((point, index) => {
    const isIdle = (other) => !other || !other[1];
    if (point[1] === null || (isIdle(point) && isIdle(curve[index - 1]) && isIdle(curve[index + 1]))) return;
    if (point[0] - last > GAP) segments.push([]);
    segments.at(-1).push(point);
    last = point[0];
  });
  return segments;
}

/** The runs of samples without a gap, as index ranges: start, and end (exclusive). */
function sampleRuns(samples) {
  const runs = [];
  samples.forEach((sample, index) => {
    if (!index || sample.t - samples[index - 1].t > GAP) runs.push([index, index]);
    runs.at(-1)[1] = index + 1;
  });
  return runs;
}
