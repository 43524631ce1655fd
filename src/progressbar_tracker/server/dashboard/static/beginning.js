// The empty state: makes a write key, shows it once, and lets it be copied.

const $ = (id) => document.getElementById(id);

/** Offers to make a key; `hold` is told true when one is shown, and false when it has been kept. */
export function offerKey(hold) {
  const [button] = $("make").children;
  $("make").hidden = false;
  button.addEventListener("click", () => make(button, hold));
  $("key").addEventListener("focus", () => $("key").select());
  $("copy").addEventListener("click", copy);
  $("kept").addEventListener("click", () => {
    $("key").value = "";
    $("key-place").textContent = "your write key";
    $("made").hidden = true;
    $("make").hidden = false;
    hold(false);
  });
}

async function make(button, hold) {
  button.disabled = true;
  try {
    const reply = await fetch("api/v1/keys", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ type: "write", name: "first steps" }),
    });
    const told = await reply.json();
    if (!reply.ok) throw new Error(told.detail);
    hold(true);
    $("key").value = told.key;
    $("key-place").textContent = told.key;
    $("make").hidden = true;
    $("made").hidden = false;
    $("key").focus();
  } catch (error) {
    $("news").textContent = `No key was made: ${error.message}`;
    button.textContent = "No key was made. Try again";
  }
  button.disabled = false;
}

async function copy() {
  const field = $("key");
  let copied = false;
  try {
    await navigator.clipboard.writeText(field.value);
    copied = true;
  } catch {
    // Over plain HTTP there is no clipboard but the old command's.
    field.focus();
    field.select();
    copied = document.execCommand("copy");
  }
  $("copy").textContent = copied ? "Copied" : "Press Ctrl+C";
  $("news").textContent = copied ? "The key is copied" : "The key is selected: copy it";
}
