// A step of an order's life: what happened, when, and what it brought.

import { element } from "console/elements.js";
import { amountText, capitalized, clockText, durationText, priceText } from "console/format.js";
import { copyable, paintStatus } from "console/pieces.js";
import { STATUSES } from "console/tables.js";

/** @typedef {import("./contract.js").Order} Order */
/** @typedef {import("./contract.js").OrderEvent} OrderEvent */
/** @typedef {import("./elements.js").Child} Child */

/**
 * @param {OrderEvent} event
 * @param {Order} order
 */
export function timelineRow(event, order) {
  const offset = Date.parse(event.timestamp) - Date.parse(order.createdAt);
  const row = element(
    "li",
    {},
    element("span", { class: "step" }, event.status),
    element(
      "time",
      { datetime: event.timestamp, title: clockText(event.timestamp, { milliseconds: true }) },
      event.seq === 1 ? clockText(event.timestamp) : `+${durationText(offset)}`,
    ),
    element(
      "span",
      { class: "track" },
      element("span", { class: "piece" }, element("span", { class: "spent" })),
    ),
    element("span", { class: "detail" }, ...eventDetail(event, order)),
  );
  return paintStatus(row, event.status);
}

/**
 * @param {OrderEvent} event
 * @param {Order} order
 * @returns {Child[]}
 */
function eventDetail(event, order) {
  switch (event.status) {
    case "routing":
      if (event.failure) {
        return [
          `attempt ${event.attempt}, after `,
          element("span", { class: "code" }, event.failure.code),
          ` ${event.failure.detail}`,
        ];
      }
      return [event.attempt > 1 ? `attempt ${event.attempt}` : "asking every venue"];
    case "building":
      return [
        `${capitalized(event.chosenDex ?? "")} at ${priceText(event.quotedPrice)}`,
        event.minAmountOut ? `, at least ${amountText(event.minAmountOut)} ${order.tokenOut}` : "",
      ];
    case "submitted":
      return event.txHash ? ["transaction ", copyable(event.txHash, "the transaction hash")] : [];
    case "confirmed":
      return [
        `${amountText(event.amountOut)} ${order.tokenOut} at ${priceText(event.executedPrice)}`,
      ];
    case "failed":
      return event.failure
        ? [element("span", { class: "code" }, event.failure.code), ` ${event.failure.detail}`]
        : [];
    default:
      return [event.reason ?? STATUSES[event.status]?.meaning ?? ""];
  }
}
