// Shows the times of a page in the viewer's time zone, with the exact instant on hover. Without scripts they are in UTC.

import { formatDate, formatExactDate } from "./dates.js";

for (const time of document.querySelectorAll("time")) {
  if (formatDate(time.dateTime) === "") continue;
  time.textContent = formatDate(time.dateTime);
  time.title = formatExactDate(time.dateTime);
}
