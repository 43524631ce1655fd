// Keeps the screen of a wall display on, where the browser allows it.

const NOTED_KEY = "progress:wake-lock-noted";

/**
 * Keeps the screen on while the page is visible. If that is impossible, it says so once in this browser.
 *
 * @param {(text: string) => void} note
 */
export function keepAwake(note) {
  async function request() {
    if (document.hidden) return;
    try {
      // The browser ends the lock when the page is hidden.
      await navigator.wakeLock.request("screen");
    } catch (error) {
      noteOnce(`The browser does not keep the screen on: ${/** @type {Error} */ (error).message}`, note);
    }
  }

  if (!("wakeLock" in navigator)) {
    const reason = isSecureContext ? "this browser cannot do it" : "that needs HTTPS or localhost";
    return noteOnce(`The screen may turn off: ${reason}.`, note);
  }
  document.addEventListener("visibilitychange", request);
  void request();
}

/** @param {string} text @param {(text: string) => void} note */
function noteOnce(text, note) {
  try {
    if (localStorage.getItem(NOTED_KEY) !== null) return;
    localStorage.setItem(NOTED_KEY, "1");
  } catch {
    // Without storage it says so at each start.
  }
  note(text);
}
