// Shows every time of the page in the viewer's own zone, and the exact one on hover. Without it they read in UTC.

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const plain = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function localise(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    time.textContent = plain.format(date);
    time.title = exact.format(date);
  }
}

localise(document);
