// The engine's own tables, which the server puts into the page: nothing of them is repeated here.

import { byId } from "console/elements.js";

/** @typedef {import("./contract.js").Tables} Tables */

/** @type {Tables} */
export const TABLES = JSON.parse(byId("tables").textContent ?? "");

export const STATUSES = TABLES.statuses;

/** @param {string | undefined} status */
export const isFinal = (status) => STATUSES[status ?? ""]?.next.length === 0;

/** @param {string} status */
export const isCancelable = (status) => STATUSES[status]?.next.includes("canceled") ?? false;

/** @param {string} type */
export const rests = (type) => TABLES.orderTypes[type]?.rests ?? true;

/**
 * Return a type's tolerance where the client states none, as a percentage.
 *
 * @param {string} type
 */
export const defaultSlippagePercent = (type) =>
  String((TABLES.orderTypes[type]?.defaultSlippageBps ?? 0) / 100);
