// The life of the order on display: a waterfall of its events, the route taken, and the outcome.

import { byId, element, setText, showMessage } from "console/elements.js";
import {
  amountText,
  capitalized,
  clockText,
  durationText,
  priceText,
  slippageText,
} from "console/format.js";
import { copyable, facts, paintStatus, statusBadge, venueCards } from "console/pieces.js";
import { isCancelable, isFinal } from "console/tables.js";
import { timelineRow } from "console/timeline.js";

/** @typedef {import("./contract.js").Order} Order */
/** @typedef {import("./contract.js").OrderEvent} OrderEvent */
/** @typedef {import("./contract.js").Trigger} Trigger */
/** @typedef {import("./elements.js").Child} Child */

const TICK_MS = 200;
const MOST_AHEAD = 1000; // the engine counts no further

export class OrderLife {
  #panel = byId("life");
  #heading = byId("life-heading");
  #announcements = byId("announcements");
  #list = byId("timeline");
  /** @type {Order | null} */
  #order = null;
  /** @type {OrderEvent[]} */
  #events = [];
  /** The engine's time, as far as it is known, and this machine's when it was. */
  #anchor = { known: 0, at: 0 };
  #ticker = 0;

  /** @param {{onCancel: (orderId: string) => void}} surroundings */
  constructor({ onCancel }) {
    byId("cancel").addEventListener("click", () => {
      if (this.#order) onCancel(this.#order.orderId);
    });
    document.addEventListener("visibilitychange", () => this.#tick());
  }

  get orderId() {
    return this.#order?.orderId ?? null;
  }

  get order() {
    return this.#order;
  }

  get lastSeq() {
    return this.#events.at(-1)?.seq ?? 0;
  }

  /**
   * Show an order from its beginning; `now` is the engine's time.
   *
   * @param {Order} order
   * @param {OrderEvent[]} events
   * @param {number} now
   */
  show(order, events, now) {
    const isOther = order.orderId !== this.orderId;
    if (isOther) {
      this.#list.replaceChildren();
      this.#announcements.replaceChildren();
      showMessage(byId("cancel-message"), "");
      this.#events = [];
    }
    this.#order = order;
    if (events.length > this.#events.length) this.#events = [...events];
    this.#anchorAt(now);
    this.#render(order);
    if (isOther) this.#reveal(order);
  }

  /** @param {Order} order */
  #reveal(order) {
    this.#say(`${this.#heading.textContent}, ${order.status}`);
    const { top } = this.#panel.getBoundingClientRect();
    if (top < 0 || top > innerHeight * 0.75) this.#panel.scrollIntoView({ block: "start" });
  }

  /**
   * Add the next event of the order; false when it is not the next one.
   *
   * @param {OrderEvent} event
   * @param {Order} order
   */
  add(event, order) {
    if (event.seq !== this.lastSeq + 1) return false;
    this.#order = { ...order, queue: null }; // whoever moves waits no more
    this.#events.push(event);
    this.#anchorAt(Date.parse(event.timestamp));
    this.#render(order);
    this.#announce(event);
    return true;
  }

  hide() {
    this.#order = null;
    this.#events = [];
    this.#tick();
    this.#panel.hidden = true;
    byId("no-life").hidden = false;
  }

  // The engine's time runs on from the last that is known of it, whatever this machine's clock says.
  /** @param {number} now */
  #anchorAt(now) {
    const last = this.#events.at(-1);
    const known = Math.max(now, last ? Date.parse(last.timestamp) : 0);
    this.#anchor = { known, at: performance.now() };
  }

  #now() {
    return this.#anchor.known + performance.now() - this.#anchor.at;
  }

  /**
   * @param {Order} order
   */
  #render(order) {
    this.#panel.hidden = false;
    byId("no-life").hidden = true;
    setText(this.#heading, `${amountText(order.amountIn)} ${order.tokenIn} → ${order.tokenOut}`);
    byId("life-badge").replaceChildren(statusBadge(order.status));
    setText(byId("life-type"), order.type);
    renderIds(order);
    renderVerdict(order);
    byId("cancel").hidden = !isCancelable(order.status);
    for (const event of this.#events.slice(this.#list.children.length)) {
      this.#list.append(timelineRow(event, order));
    }
    renderRoute(order);
    byId("life-facts").replaceChildren(...facts(outcomeFacts(order)));
    this.#tick();
  }

  /** Size the waterfall's bars; while the order is under way the last one grows. */
  #tick() {
    clearTimeout(this.#ticker);
    const [first, last] = [this.#events[0], this.#events.at(-1)];
    if (!this.#order || !first || !last) return;
    const isOver = isFinal(last.status);
    const start = Date.parse(first.timestamp);
    const end = isOver ? Date.parse(last.timestamp) : this.#now();
    const total = Math.max(end - start, 1);
    this.#events.forEach((event, index) => {
      const next = this.#events[index + 1];
      const from = Date.parse(event.timestamp);
      const until = next ? Date.parse(next.timestamp) : end;
      const row = /** @type {HTMLElement} */ (this.#list.children[index]);
      row.style.setProperty("--from", String((from - start) / total));
      row.style.setProperty("--span", String((until - from) / total));
      row.toggleAttribute("data-running", !isOver && !next);
      const spent = row.querySelector(".spent");
      if (spent) setText(spent, isOver && !next ? "" : durationText(until - from));
    });
    const words = isOver ? "over after" : "under way for";
    setText(byId("timeline-total"), `${words} ${durationText(total)}`);
    if (!isOver && document.visibilityState === "visible") {
      this.#ticker = setTimeout(() => this.#tick(), total < 60000 ? TICK_MS : 1000);
    }
  }

  /** @param {OrderEvent} event */
  #announce(event) {
    const start = this.#events[0]?.timestamp ?? event.timestamp;
    const passed = Date.parse(event.timestamp) - Date.parse(start);
    const reason = event.failure ? `: ${event.failure.detail}` : "";
    const attempt = event.attempt > 1 ? `, attempt ${event.attempt}` : "";
    this.#say(`${capitalized(event.status)}${attempt} after ${durationText(passed)}${reason}`);
  }

  /** @param {string} words */
  #say(words) {
    this.#announcements.append(element("p", {}, words));
  }
}

/** @param {Order} order */
function renderIds(order) {
  const target = byId("life-ids");
  const shown = `${order.orderId} ${order.clientOrderId ?? ""} ${order.userId}`;
  if (target.dataset.shown === shown) return; // a button in it may have the focus
  target.dataset.shown = shown;
  target.replaceChildren(
    element("span", {}, "Order ", copyable(order.orderId, "the order id")),
    order.clientOrderId
      ? element("span", {}, "Your id ", element("code", {}, order.clientOrderId))
      : "",
    element("span", {}, "of ", element("bdi", {}, order.userId)),
    element("span", {}, `placed ${clockText(order.createdAt)}`),
  );
}

/** @param {Order} order */
function renderVerdict(order) {
  const target = byId("life-verdict");
  target.hidden = !["confirmed", "failed"].includes(order.status);
  if (order.status === "confirmed") {
    const venue = order.chosenDex ? ` on ${capitalized(order.chosenDex)}` : "";
    const slippage = order.realizedSlippageBps
      ? `, ${slippageText(order.realizedSlippageBps)}`
      : "";
    setText(
      target,
      `Received ${amountText(order.amountOut)} ${order.tokenOut}${venue}${slippage}.`,
    );
  } else if (order.failure) {
    const { code, detail } = order.failure;
    target.replaceChildren(element("strong", { class: "code" }, code), ` ${detail}`);
  }
  paintStatus(target, order.status);
}

/** @param {Order} order */
function renderRoute(order) {
  const target = byId("life-quotes");
  const cards = venueCards({
    quotes: order.quotes,
    best: order.chosenDex,
    bestLabel: "chosen",
    tokenOut: order.tokenOut,
  });
  const isDecided = order.quotes.length > 0;
  const waiting = isFinal(order.status)
    ? "The order never got a quote."
    : (placeText(order) ?? "The venues’ quotes appear here.");
  target.replaceChildren(...(isDecided ? cards : [element("p", { class: "hint" }, waiting)]));
}

/**
 * Say how many orders go before one that waits for its turn.
 *
 * @param {Order} order
 */
function placeText({ queue }) {
  if (!queue) return null;
  if (queue.ahead === 0) return "Yours is the next order.";
  const number = queue.ahead < MOST_AHEAD ? String(queue.ahead) : `${MOST_AHEAD} or more`;
  return `${number} ${queue.ahead === 1 ? "order" : "orders"} before yours.`;
}

/**
 * @param {Order} order
 * @returns {[string, Child | undefined][]}
 */
function outcomeFacts(order) {
  const unit = order.tokenOut;
  return [
    ["Quoted price", order.quotedPrice && priceText(order.quotedPrice)],
    ["Executed price", order.executedPrice && priceText(order.executedPrice)],
    ["Limit price", order.limitPrice && priceText(order.limitPrice)],
    ["Received", order.amountOut && `${amountText(order.amountOut)} ${unit}`],
    ["At least", order.minAmountOut && `${amountText(order.minAmountOut)} ${unit}`],
    ["Slippage allowed", `${Number(order.slippageBps) / 100} %`],
    ["Slippage realized", order.realizedSlippageBps && slippageText(order.realizedSlippageBps)],
    ["Priority", order.priority ? `${order.priority} among your own` : null],
    ["Attempts", order.attempt ? `${order.attempt} of ${order.maxRetries + 1}` : null],
    ["Fires on", order.trigger && triggerText(order.trigger, order)],
    ["Expires", order.expiresAt && clockText(order.expiresAt)],
    ["Transaction", order.txHash && copyable(order.txHash, "the transaction hash")],
  ];
}

/**
 * @param {Trigger} trigger
 * @param {Order} order
 */
function triggerText(trigger, { tokenIn, tokenOut }) {
  const venue = trigger.venue === "any" ? "any pool" : `a pool on ${capitalized(trigger.venue)}`;
  const depth =
    Number(trigger.minLiquidity) > 0 ? ` of ${amountText(trigger.minLiquidity)} ${tokenIn}` : "";
  const price = trigger.maxPrice
    ? ` at ${priceText(trigger.maxPrice)} ${tokenIn} per ${tokenOut} or less`
    : "";
  return `${venue}${depth}${price}`;
}
