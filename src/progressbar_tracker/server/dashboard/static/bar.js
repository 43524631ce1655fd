// One bar of the item page and the share page; bar.py renders the same texts at the first paint.

import { ICONS, formatCount, formatDuration, formatPercent, formatRate, isIndeterminate, stateOf, titleOf } from "./format.js";

/** Updates a bar; returns an announcement if its state changed and it no longer runs, else "". */
export function renderBar(node, item) {
  const state = stateOf(item);
  const indeterminate = isIndeterminate(item);
  const fields = {
    title: titleOf(item),
    icon: ICONS[state],
    state,
    late: item.late ? "late" : "",
    percent: indeterminate ? "" : formatPercent(item.value),
    count: formatCount(item),
    rate: formatRate(item),
    eta: item.eta === null ? "" : `${formatDuration(item.eta)} left`,
    description: item.description,
    error: item.error ?? "",
  };
  const before = node.dataset.state;
  node.dataset.state = state;
  node.className = `bar ${state}`;
  const progress = node.querySelector("progress");
  progress.setAttribute("aria-label", fields.title);
  if (indeterminate && item.status === "running") progress.removeAttribute("value");
  else if (!progress.hasAttribute("value") || progress.value !== item.value) progress.value = item.value;
  for (const [name, text] of Object.entries(fields)) {
    const field = node.querySelector(`[data-field=${name}]`);
    if (field.textContent !== text) field.textContent = text;
  }
  return before !== undefined && before !== state && state !== "running" ? `${fields.title}: ${state}` : "";
}
