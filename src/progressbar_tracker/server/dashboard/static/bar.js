// One bar of the pages beside the board. The words are those of bar.py.

import { ICONS, count, duration, isEndless, nameOf, pace, percent, stateOf } from "./words.js";

export function show(node, item) {
  const state = stateOf(item);
  const endless = isEndless(item);
  const fields = {
    title: nameOf(item),
    icon: ICONS[state],
    state,
    late: item.late ? "late" : "",
    percent: endless ? "" : percent(item.value),
    count: count(item),
    rate: pace(item),
    left: item.eta === null ? "" : `${duration(item.eta)} left`,
    description: item.description,
    error: item.error ?? "",
  };
  const before = node.dataset.state;
  node.dataset.state = state;
  node.className = `bar ${state}`;
  const bar = node.querySelector("progress");
  bar.setAttribute("aria-label", fields.title);
  if (endless && item.status === "running") bar.removeAttribute("value");
  else if (!bar.hasAttribute("value") || bar.value !== item.value) bar.value = item.value;
  for (const [name, text] of Object.entries(fields)) {
    const field = node.querySelector(`[data-field=${name}]`);
    if (field.textContent !== text) field.textContent = text;
  }
  return before !== undefined && before !== state && state !== "running" ? `${fields.title}: ${state}` : "";
}
