// Keeps the page of one item up to date: its bar, its times, its curve. What ended is read anew from the server.

import { show } from "./bar.js";
import { subscribe } from "./stream.js";
import { localise } from "./times.js";
import { count, isEndless, nameOf, percent } from "./words.js";

const WIDTH = 600;
const HEIGHT = 160;
const APART = 5; // seconds between two points that are drawn live
const MOST = 600;

const node = document.querySelector(".bar");

class Curve {
  constructor(svg) {
    this.svg = svg;
    this.counts = svg.hasAttribute("data-counts");
    this.points = JSON.parse(svg.dataset.samples);
  }

  add(item) {
    const at = Date.parse(item.ended_at ?? item.updated_at) / 1000;
    const point = [at, this.counts ? (item.completed ?? 0) : item.value];
    const [last, before] = [this.points.at(-1), this.points.at(-2)];
    if (at < last[0]) return;
    // The last point is the present one, and moves until it is far enough from the one before.
    if (before !== undefined && last[0] - before[0] < APART) this.points.pop();
    this.points.push(point);
    if (this.points.length > MOST) this.points = this.points.filter((_, n) => n % 2 === 0 || n === this.points.length - 1);
    this.draw(item);
  }

  draw(item) {
    const first = this.points[0][0];
    const long = this.points.at(-1)[0] - first || 1;
    const top = this.counts ? Math.max(...this.points.map(([, y]) => y)) : 1;
    const drawn = this.points.map(([at, y]) => {
      const share = top > 0 ? Math.min(Math.max(y / top, 0), 1) : 0;
      return `${(((at - first) / long) * WIDTH).toFixed(1)},${(HEIGHT - share * HEIGHT).toFixed(1)}`;
    });
    this.svg.firstElementChild.setAttribute("points", drawn.join(" "));
    if (this.counts) document.querySelector("[data-curve=top]").textContent = count({ ...item, completed: top, total: null });
    const end = document.querySelector("[data-curve=end]");
    end.dateTime = item.ended_at ?? item.updated_at;
  }
}

if (node !== null) {
  const svg = document.querySelector(".curve svg");
  const curve = svg === null ? null : new Curve(svg);
  const id = node.dataset.id;
  const left = document.getElementById("left");
  let run = null;

  // What only the server knows how to tell: another run's curve, the run that has ended.
  const anew = () => location.reload();

  const seen = (item) => {
    if (run !== null && run !== item.run_id) return anew();
    run = item.run_id;
    left.hidden = true;
    const news = show(node, item);
    const far = isEndless(item) ? "" : `${percent(item.value)} - `;
    document.title = `${far}${nameOf(item)}`;
    if (news !== "") document.getElementById("news").textContent = news;
    for (const time of document.querySelectorAll("time[data-time]")) {
      time.dateTime = item[time.dataset.time] ?? "";
      time.closest("div").hidden = time.dateTime === "";
    }
    curve?.add(item);
    localise(document);
  };

  subscribe((message) => {
    if (message.type === "offline") document.getElementById("offline").hidden = false;
    if (message.type === "online") document.getElementById("offline").hidden = true;
    if (message.type === "signed-out") anew();
    if (message.type !== "snapshot" && message.type !== "change") return;
    const item = message.items.find((one) => one.id === id);
    if (item !== undefined) return seen(item);
    const gone = message.type === "snapshot" || message.gone.includes(id);
    if (gone && run !== null) anew();
  });
}
