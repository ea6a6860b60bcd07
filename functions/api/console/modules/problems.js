// What the API refuses, shown where it belongs. The API judges every entry; the page repeats its
// words at the field that they name.

import { ApiError, Problem } from "console/api.js";
import { setText } from "console/elements.js";

/** @typedef {import("./contract.js").FieldError} FieldError */

/**
 * Fields go by the names that the API uses in its problems; these go by others, too.
 *
 * @type {Record<string, string>}
 */
const FIELD_NAMES = {
  amount: "amountIn",
  orderType: "type",
  slippage: "slippageTolerance",
  slippageBps: "slippageTolerance",
  targetPrice: "limitPrice",
  trigger: "trigger.allowExisting",
};

/**
 * The page's own words for a field that it shows in another unit than the API's.
 *
 * @type {Record<string, string>}
 */
const FIELD_WORDS = { slippageTolerance: "must be from 0 to 100 %, in steps of 0.01 %" };

/**
 * Return the error when it is of a request; raise any other, which is a fault of the page.
 *
 * @param {unknown} error
 */
export function ofRequest(error) {
  if (error instanceof ApiError) return error;
  throw error;
}

/**
 * Show (or, with an empty message, take back) what is wrong with a field of the form.
 *
 * @param {string} name
 * @param {string} message
 */
export function setFieldError(name, message) {
  const note = document.getElementById(`${name}-error`);
  if (!note) return false;
  note.hidden = !message;
  setText(note, message);
  const control = document.getElementById(name);
  if (message) control?.setAttribute("aria-invalid", "true");
  else control?.removeAttribute("aria-invalid");
  return true;
}

/**
 * Show a problem at the fields that it names; returns the errors whose fields are not here.
 *
 * @param {Problem} problem
 * @returns {FieldError[]}
 */
export function showFieldErrors(problem) {
  // The detail of a problem that is about one field says more than the field's own line.
  const isOfOne = problem.code !== "VALIDATION_FAILED" && problem.fields.length === 1;
  return problem.fields.filter(({ field, message }) => {
    const name = FIELD_NAMES[field] ?? field;
    return !setFieldError(name, FIELD_WORDS[name] ?? (isOfOne ? problem.message : message));
  });
}

/**
 * Say what went wrong, with what support needs to find it.
 *
 * @param {ApiError} error
 */
export function troubleText(error) {
  if (!(error instanceof Problem)) return error.message;
  const wait = error.retryAfterSeconds ? ` Try again in ${error.retryAfterSeconds} s.` : "";
  const reference = error.status >= 500 && error.requestId ? ` (request ${error.requestId})` : "";
  return `${error.message}${wait}${reference}`;
}
