// Curves: uPlot draws them, in the colours of the page's look, and again when that changes.

import uPlot from "./vendor/uPlot.esm.js";

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
// A step is a whole number, and so is each mark on the axis.
const STEPS = [0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) => [1, 2, 5].map((part) => part * 10 ** power));
const height = () => (innerWidth < 600 ? 190 : 230);

// No two lines differ by colour alone.
export const LINES = {
  train: { colour: "line-1", width: 1.5 },
  measured: { colour: "line-3", width: 1.5, dash: [6, 4], points: true },
  valid: { colour: "line-2", width: 2, points: true },
  gap: { colour: "line-4", width: 2, points: true },
  rate: { colour: "line-1", width: 1.5 },
  best: { colour: "line-2", width: 2.5, points: true },
  other: { colour: "faint", width: 1 },
};

function axis(options) {
  return {
    stroke: colour("soft"), font: FONT, grid: { stroke: colour("rule"), width: 1 },
    ticks: { stroke: colour("rule"), width: 1, size: 4 }, ...options,
  };
}

function line({ name, style, digits = 4, values }) {
  const look = LINES[style];
  const stroke = colour(look.colour);
  return {
    label: name, stroke, width: look.width, dash: look.dash, spanGaps: true,
    points: look.points ? { show: true, size: 5, fill: stroke, stroke } : { show: false },
    // Where nobody points at a step, the newest value.
    value: (plot, raw, series, place) => {
      const known = place === null ? plot.data[series].findLast((v) => v !== null && v !== undefined) : raw;
      return known === null || known === undefined ? "–" : (values ?? ((v) => v.toFixed(digits)))(known);
    },
  };
}

export class Chart {
  // host: an element that is left alone by `morph`; lines: name, style, digits of each.
  constructor(host, lines, { ticks = null, legend = true, sync = null, size = 52 } = {}) {
    this.host = host;
    this.lines = lines;
    this.options = { ticks, legend, sync, size };
    this.data = [[], ...lines.map(() => [])];
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(host);
    this.recoloured = () => this.draw();
    dark.addEventListener("change", this.recoloured);
    this.draw();
  }

  draw() {
    this.plot?.destroy();
    const { ticks, legend, sync, size } = this.options;
    this.plot = new uPlot({
      width: Math.max(200, this.host.clientWidth), height: height(),
      cursor: { sync: sync ? { key: sync } : undefined, points: { size: 6 }, drag: { x: true, y: false } },
      legend: { show: legend },
      scales: { x: { time: false } },
      axes: [axis({ size: 34, incrs: STEPS, values: (_, all) => all.map((v) => v.toLocaleString("en")) }),
        axis({ size, ...(ticks ? { values: (_, all) => all.map(ticks) } : {}) })],
      series: [{ label: "Step", value: (plot, raw, _, place) => ((place === null ? plot.data[0].at(-1) : raw) ?? "–").toLocaleString("en") }, ...this.lines.map(line)],
    }, this.data, this.host);
    this.host.chart = this.plot;
  }

  set(data, lines = null) {
    this.data = data;
    if (lines) {
      this.lines = lines;
      this.draw();
    } else {
      this.plot.setData(data);
    }
  }

  fit() {
    const width = Math.max(200, this.host.clientWidth);
    if (width !== this.plot.width || height() !== this.plot.height) this.plot.setSize({ width, height: height() });
  }

  close() {
    this.resized.disconnect();
    dark.removeEventListener("change", this.recoloured);
    this.plot.destroy();
    delete this.host.chart;
  }
}

// Curves over steps of their own, on one axis.
export const joined = (curves) => uPlot.join(curves);
