// What every part of the page is built with. Data only ever becomes text nodes and attributes,
// never markup.

/** @typedef {string | Node | null} Child */

/**
 * Return an element of the page. Raises an error when there is none, which is a fault of the page.
 *
 * @param {string} id
 */
export function byId(id) {
  return partOf(id, HTMLElement);
}

/**
 * Return an element of the page that is of a kind.
 *
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 */
export function partOf(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`The page has no ${kind.name} #${id}.`);
  return found;
}

/**
 * Return what a control of a form is set to; for radio buttons, the one that is checked.
 *
 * @param {HTMLFormElement} form
 * @param {string} name
 */
export function entryOf(form, name) {
  return String(new FormData(form).get(name) ?? "");
}

/**
 * Make an element; children that are null or empty are left out.
 *
 * @param {string} tag
 * @param {Record<string, string | boolean | null>} attributes
 * @param {...Child} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null).filter((child) => child !== ""));
  return made;
}

/**
 * Set a text only when it changes, so that nothing is announced or repainted for nothing.
 *
 * @param {Element} target
 * @param {string} text
 */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/**
 * Show a message, or hide it when there are no parts.
 *
 * @param {HTMLElement} target
 * @param {"" | "note" | "error"} kind
 * @param {...Child} parts
 */
export function showMessage(target, kind, ...parts) {
  target.hidden = parts.length === 0;
  target.dataset.kind = kind;
  target.replaceChildren(...parts.filter((part) => part !== null));
}
