// Shows the times of a page in the viewer's time zone, with the exact instant on hover. Without scripts they are in UTC.

const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const shortFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

export function localizeTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    time.textContent = shortFormat.format(date);
    time.title = exactFormat.format(date);
  }
}

localizeTimes(document);
