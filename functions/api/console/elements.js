"use strict";

// What is built from data. Data only ever becomes text nodes and attributes, never markup.

const TABLES = JSON.parse(document.getElementById("tables").textContent);
const STATUSES = TABLES.statuses;

const byId = (id) => document.getElementById(id);

/** Make an element; children are strings or nodes, null ones are left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

/** Set a text only when it changes, so that nothing is announced or repainted for nothing. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const isFinal = (status) => STATUSES[status]?.next.length === 0;
const isCancelable = (status) => STATUSES[status]?.next.includes("canceled") ?? false;

/** Give an element the colors of a status, from the one table that holds them. */
function paintStatus(target, status) {
  const colors = STATUSES[status] ?? STATUSES.pending;
  target.dataset.status = status;
  target.style.setProperty("--status", `light-dark(${colors.light}, ${colors.dark})`);
  return target;
}

function statusBadge(status) {
  const badge = element(
    "span",
    { class: "badge", title: STATUSES[status]?.meaning ?? null },
    status,
  );
  return paintStatus(badge, status);
}

const venueName = (venue) =>
  element(
    "span",
    { class: "venue", "data-number": TABLES.venues.indexOf(venue) + 1 },
    capitalized(venue),
  );

function copyable(text, label) {
  const code = element("code", { title: text }, shortened(text));
  if (!navigator.clipboard) return code;
  const button = element("button", {
    type: "button",
    class: "copy",
    "aria-label": `Copy ${label}`,
    title: `Copy ${label}`,
    onclick: async () => {
      await navigator.clipboard.writeText(text);
      button.dataset.done = "";
      setTimeout(() => delete button.dataset.done, 1200);
    },
  });
  return element("span", { class: "copyable" }, code, button);
}

function facts(rows) {
  return rows
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

/** Both venues side by side: a quote each, or why there is none. */
function venueCards({ quotes, missing = [], best, bestLabel, tokenOut }) {
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

/** Fields go by the names that the API uses in its problems; these go by others, too. */
const FIELD_NAMES = {
  amount: "amountIn",
  orderType: "type",
  slippage: "slippageTolerance",
  slippageBps: "slippageTolerance",
  targetPrice: "limitPrice",
  trigger: "trigger.allowExisting",
};

const fieldName = (name) => FIELD_NAMES[name] ?? name;

/** Show (or, with an empty message, take back) what is wrong with a field of the form. */
function setFieldError(name, message) {
  const note = byId(`${name}-error`);
  if (!note) return false;
  note.hidden = !message;
  setText(note, message);
  const control = byId(name);
  if (message) control?.setAttribute("aria-invalid", "true");
  else control?.removeAttribute("aria-invalid");
  return true;
}

function showMessage(target, kind, ...parts) {
  target.hidden = parts.length === 0;
  target.dataset.kind = kind;
  target.replaceChildren(...parts.filter(Boolean));
}

/** Say what went wrong, with what support needs to find it. */
function troubleText(error) {
  if (!(error instanceof Problem)) return error.message;
  const wait = error.retryAfterSeconds ? ` Try again in ${error.retryAfterSeconds} s.` : "";
  const reference = error.status >= 500 && error.requestId ? ` (request ${error.requestId})` : "";
  return `${error.message}${wait}${reference}`;
}
