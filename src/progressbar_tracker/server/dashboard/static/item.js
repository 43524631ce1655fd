// Keeps the page of one item up to date: its bar, its times, its curve. Reloads the page when a run ends or another begins.

import { renderBar } from "./bar.js";
import { formatCount, formatPercent, isIndeterminate, titleOf } from "./format.js";
import { localizeTimes } from "./local_time.js";
import { subscribe } from "./stream.js";

const CURVE_WIDTH = 600;
const CURVE_HEIGHT = 160;
const MIN_POINT_SECONDS = 5; // between two points that are added live
const MAX_POINTS = 600;

const node = document.querySelector(".bar");

class Curve {
  constructor(svg) {
    this.svg = svg;
    this.showsCounts = svg.hasAttribute("data-counts");
    this.points = JSON.parse(svg.dataset.samples);
  }

  add(item) {
    const at = Date.parse(item.ended_at ?? item.updated_at) / 1000;
    const point = [at, this.showsCounts ? (item.completed ?? 0) : item.value];
    const [last, previous] = [this.points.at(-1), this.points.at(-2)];
    if (at < last[0]) return;
    // The last point is the current state, and is replaced until it is far enough from the previous one.
    if (previous !== undefined && last[0] - previous[0] < MIN_POINT_SECONDS) this.points.pop();
    this.points.push(point);
    if (this.points.length > MAX_POINTS) this.points = this.points.filter((_, n) => n % 2 === 0 || n === this.points.length - 1);
    this.draw(item);
  }

  draw(item) {
    const start = this.points[0][0];
    const seconds = this.points.at(-1)[0] - start || 1;
    const top = this.showsCounts ? Math.max(...this.points.map(([, y]) => y)) : 1;
    const points = this.points.map(([at, y]) => {
      const fraction = top > 0 ? Math.min(Math.max(y / top, 0), 1) : 0;
      return `${(((at - start) / seconds) * CURVE_WIDTH).toFixed(1)},${(CURVE_HEIGHT - fraction * CURVE_HEIGHT).toFixed(1)}`;
    });
    this.svg.firstElementChild.setAttribute("points", points.join(" "));
    if (this.showsCounts) {
      document.querySelector("[data-curve=top]").textContent = formatCount({ ...item, completed: top, total: null });
    }
    document.querySelector("[data-curve=end]").dateTime = item.ended_at ?? item.updated_at;
  }
}

if (node !== null) {
  const svg = document.querySelector(".curve svg");
  const curve = svg === null ? null : new Curve(svg);
  const id = node.dataset.id;
  let runId = null;

  // Only the server has the curve of another run, and the run that has ended.
  const reload = () => location.reload();

  const update = (item) => {
    if (runId !== null && runId !== item.run_id) return reload();
    runId = item.run_id;
    document.getElementById("gone-notice").hidden = true;
    const announcement = renderBar(node, item);
    const prefix = isIndeterminate(item) ? "" : `${formatPercent(item.value)} - `;
    document.title = `${prefix}${titleOf(item)}`;
    if (announcement !== "") document.getElementById("announcement").textContent = announcement;
    for (const time of document.querySelectorAll("time[data-time]")) {
      time.dateTime = item[time.dataset.time] ?? "";
      time.closest("div").hidden = time.dateTime === "";
    }
    curve?.add(item);
    localizeTimes(document);
  };

  subscribe((message) => {
    if (message.type === "offline") document.getElementById("offline").hidden = false;
    if (message.type === "online") document.getElementById("offline").hidden = true;
    if (message.type === "signed-out") reload();
    if (message.type !== "snapshot" && message.type !== "change") return;
    const item = message.items.find((candidate) => candidate.id === id);
    if (item !== undefined) return update(item);
    const isGone = message.type === "snapshot" || message.gone.includes(id);
    if (isGone && runId !== null) reload();
  });
}
