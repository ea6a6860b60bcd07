// Pieces of the page that show data: badges, cards, ids to copy.

import { element } from "console/elements.js";
import { amountText, capitalized, priceText, shortened, wholeText } from "console/format.js";
import { STATUSES, TABLES } from "console/tables.js";

/** @typedef {import("./contract.js").Quote} Quote */
/** @typedef {import("./contract.js").MissingQuote} MissingQuote */
/** @typedef {import("./elements.js").Child} Child */

const COPIED_MS = 1200;
const VENUE_COLORS = 4;

/**
 * Give an element the color of a status: the style sheet has one for each.
 *
 * @template {HTMLElement} Target
 * @param {Target} target
 * @param {string} status
 */
export function paintStatus(target, status) {
  target.dataset.status = status;
  return target;
}

/** @param {string} status */
export function statusBadge(status) {
  const title = STATUSES[status]?.meaning ?? null;
  return paintStatus(element("span", { class: "badge", title }, status), status);
}

/** @param {string} venue */
export function venueName(venue) {
  const color = String(TABLES.venues.indexOf(venue) % VENUE_COLORS);
  return element("span", { class: "venue", "data-color": color }, capitalized(venue));
}

/**
 * @param {string} text
 * @param {string} label
 */
export function copyable(text, label) {
  const code = element("code", { title: text }, shortened(text));
  if (!navigator.clipboard) return code;
  const name = `Copy ${label}`;
  const button = element("button", {
    type: "button",
    class: "copy",
    "aria-label": name,
    title: name,
  });
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.dataset.done = "";
    setTimeout(() => delete button.dataset.done, COPIED_MS);
  });
  return element("span", { class: "copyable" }, code, button);
}

/**
 * Return the rows of a list of facts; those without a value are left out.
 *
 * @param {[string, Child | undefined][]} rows
 */
export function facts(rows) {
  return rows
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value ?? "")),
    );
}

/**
 * Return every venue side by side: a quote each, or why there is none.
 *
 * @param {object} shown
 * @param {Quote[]} shown.quotes
 * @param {MissingQuote[]} [shown.missing]
 * @param {string | null | undefined} shown.best
 * @param {string} shown.bestLabel
 * @param {string} shown.tokenOut
 */
export function venueCards({ quotes, missing = [], best, bestLabel, tokenOut }) {
  const most = Math.max(...quotes.map((quote) => Number(quote.amountOut)));
  return TABLES.venues.map((venue) => {
    const quote = quotes.find(({ dex }) => dex === venue);
    const isBest = venue === best;
    const head = element(
      "h4",
      {},
      venueName(venue),
      isBest ? element("span", { class: "best" }, bestLabel) : null,
    );
    if (!quote) {
      const reason = missing.find(({ dex }) => dex === venue);
      return element(
        "article",
        { class: "quote none" },
        head,
        element("p", { class: "code" }, reason?.code ?? "no quote"),
        reason ? element("p", { class: "hint" }, reason.detail) : null,
      );
    }
    const behind = most > 0 ? (1 - Number(quote.amountOut) / most) * 10000 : 0;
    const rank = quotes.length === 1 ? "only quote" : "most out";
    const gap =
      behind < 0.05 ? rank : `${behind.toFixed(1)} bps less${isBest ? ", deeper pool" : ""}`;
    return element(
      "article",
      { class: isBest ? "quote winner" : "quote" },
      head,
      element("p", { class: "amount" }, amountText(quote.amountOut)),
      element("p", { class: "gap" }, `${tokenOut}, ${gap}`),
      element(
        "dl",
        { class: "facts" },
        ...facts([
          ["Price", priceText(quote.price)],
          ["Fee", `${amountText(quote.feePct)} %`],
          ["Impact", `${amountText(quote.priceImpactPct)} %`],
          ["Liquidity", wholeText(quote.liquidity)],
        ]),
      ),
    );
  });
}
