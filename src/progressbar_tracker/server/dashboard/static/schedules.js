// Sets and deletes schedules through the API. The server renders the form with the values of a schedule.

import { FieldError, confirm, request, showError } from "./api.js";
import { requireElement } from "./dom.js";
import { handleSubmit } from "./forms.js";

const form = /** @type {HTMLFormElement} */ (requireElement("schedule-form"));
const kind = /** @type {HTMLSelectElement} */ (form.elements.namedItem("kind"));

/**
 * @param {string} name
 * @returns {HTMLInputElement}
 */
function requireField(name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}

// The fields of the other kind are neither sent nor checked.
function showKind() {
  for (const part of /** @type {NodeListOf<HTMLElement>} */ (form.querySelectorAll("[data-kind]"))) {
    part.hidden = part.dataset.kind !== kind.value;
    for (const input of /** @type {NodeListOf<HTMLInputElement>} */ (part.querySelectorAll("input, select"))) input.disabled = part.hidden;
  }
}

/**
 * Shows an error at its field, or none.
 *
 * @param {HTMLInputElement} field
 * @param {string} text
 */
function showFieldError(field, text) {
  const error = requireElement(`${field.name}-error`);
  error.textContent = text;
  error.hidden = text === "";
  if (text === "") field.removeAttribute("aria-invalid");
  else field.setAttribute("aria-invalid", "true");
}

function listFields() {
  return /** @type {HTMLInputElement[]} */ ([...form.elements].filter((field) => field instanceof HTMLInputElement && !field.disabled));
}

/** Shows what is missing at each field; returns whether the form can be sent. */
function checkFields() {
  const fields = listFields();
  requireElement("problem").hidden = true;
  for (const field of fields) showFieldError(field, field.validity.valid ? "" : describeProblem(field));
  const invalid = fields.find((field) => !field.validity.valid);
  invalid?.focus();
  return invalid === undefined;
}

/** @param {HTMLInputElement} field */
function describeProblem(field) {
  if (field.validity.badInput) return "This must be a number.";
  return field.validity.valueMissing ? "This is needed." : field.validationMessage;
}

/** @param {unknown} error */
function showProblem(error) {
  const field = error instanceof FieldError ? listFields().find(({ name }) => name === error.field) : undefined;
  if (field === undefined) return showError(error);
  showFieldError(field, /** @type {Error} */ (error).message);
  field.focus();
}

/** @param {string} id */
function scheduleUrl(id) {
  return `api/v1/schedules/${encodeURIComponent(id)}`;
}

/**
 * Asks the reader before a new schedule replaces another one of its id; resolves to whether it may.
 *
 * @param {string} id
 */
async function mayReplace(id) {
  if (requireField("id").readOnly) return true; // the form shows that one
  const { schedules } = await request("GET", `api/v1/schedules?id=${encodeURIComponent(id)}`);
  return schedules.length === 0 || confirm(`Replace the schedule of ${id}?`, "This item has one already.", "Replace");
}

handleSubmit(form, async (fields) => {
  if (!checkFields()) return;
  const { id, group } = fields;
  // Browsers resolve such a path.
  if (id === "." || id === "..") throw new FieldError("This page cannot name this id: use the command line.", "id");
  if (!(await mayReplace(id ?? ""))) return;
  const names = (fields.notify ?? "").split(",").map((name) => name.trim()).filter((name) => name !== "");
  const rule = fields.kind === "cron"
    ? { cron: fields.cron, timezone: fields.timezone?.trim() || null }
    : { every: Number(fields.every) * Number(fields.every_unit) };
  const grace = Number(fields.grace) * Number(fields.grace_unit);
  const schedule = await request("PUT", scheduleUrl(id ?? ""), { ...rule, grace, group: group?.trim() || null, notify: names });
  location.assign(`schedules?set=${encodeURIComponent(schedule.id)}`);
}, showProblem);

form.addEventListener("input", ({ target }) => {
  if (target instanceof HTMLInputElement) showFieldError(target, "");
});

kind.addEventListener("change", showKind);
showKind();

const zone = requireField("timezone");
if (zone.hasAttribute("data-own-zone") && zone.value === "") zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
requireElement("timezones").replaceChildren(...(Intl.supportedValuesOf?.("timeZone") ?? []).map((name) => new Option(name)));

document.addEventListener("click", async ({ target }) => {
  const button = target instanceof Element ? target.closest("button[data-action=delete]") : null;
  const row = button?.closest("[data-id]");
  if (!(row instanceof HTMLElement)) return;
  const id = row.dataset.id ?? "";
  if (!(await confirm(`Delete the schedule of ${id}?`, "No start of it is expected any more. The item and its runs stay.", "Delete"))) return;
  try {
    await request("DELETE", scheduleUrl(id));
    location.assign("schedules");
  } catch (error) {
    showError(error);
  }
});

document.getElementById("saved")?.focus();
