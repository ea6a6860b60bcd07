// What the controls of the form say, as the API takes it.

/** @typedef {HTMLInputElement | HTMLSelectElement} Control */
/** @typedef {{[name: string]: unknown}} Terms */

/**
 * Add what a part of the form says; a name with a point is of a term with parts of its own.
 *
 * @param {Terms} order
 * @param {HTMLElement} part
 */
export function addTerms(order, part) {
  /** @type {NodeListOf<Control>} */
  const controls = part.querySelectorAll("input, select");
  for (const control of controls) {
    const [name = "", inner] = control.name.split(".");
    if (inner === undefined) {
      order[name] = termOf(control);
    } else {
      order[name] = { ...Object(order[name]), [inner]: termOf(control) };
    }
  }
}

/** @param {Control} control */
function termOf(control) {
  if (control instanceof HTMLInputElement && control.type === "checkbox") return control.checked;
  if ("lifetime" in control.dataset) {
    return new Date(Date.now() + Number(control.value) * 1000).toISOString();
  }
  return control.value.trim() || undefined;
}

/**
 * Return a number where the entry is one, else the entry: the API then says what is wrong with it.
 *
 * @param {string | undefined} text
 */
export const wholeNumber = (text) => (/^\d{1,9}$/.test(text ?? "") ? Number(text) : text);
