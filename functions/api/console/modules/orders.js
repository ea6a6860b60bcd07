// The table of orders, newest first, and the orders that the page knows.

import { byId, element, entryOf, partOf, setText, showMessage } from "console/elements.js";
import {
  amountText,
  capitalized,
  clockText,
  durationText,
  priceText,
  slippageText,
} from "console/format.js";
import { paintStatus, statusBadge, venueName } from "console/pieces.js";
import { ofRequest, troubleText } from "console/problems.js";
import { isCancelable, isFinal, rests, TABLES } from "console/tables.js";

/** @typedef {import("./api.js").EngineApi} EngineApi */
/** @typedef {import("./contract.js").Order} Order */
/** @typedef {import("./contract.js").OrderEvent} OrderEvent */
/** @typedef {import("./contract.js").Outcome} Outcome */
/** @typedef {import("./elements.js").Child} Child */

const PAGE_SIZE = 25;
const BURST_MS = 400;

/** @type {(keyof Outcome)[]} */
const OUTCOME = [
  "chosenDex",
  "quotes",
  "quotedPrice",
  "minAmountOut",
  "txHash",
  "executedPrice",
  "amountOut",
  "realizedSlippageBps",
  "failure",
];

export class OrderTable {
  #api;
  #owner;
  #filters = partOf("filters", HTMLFormElement);
  #body = byId("rows");
  /** Every order that was ever received, by id. @type {Map<string, Order>} */
  #known = new Map();
  /** The orders in the table. @type {string[]} */
  #listed = [];
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** @type {string | null} */
  #cursor = null;
  /** @type {AbortController | null} */
  #request = null;
  #burst = 0; // timer of the next refresh
  #isLoaded = false;
  #hasFailed = false;
  #selected = "";
  #onDenied;

  /**
   * `owner` returns whose orders `Mine` are, null for the caller's own.
   *
   * @param {EngineApi} api
   * @param {object} surroundings
   * @param {() => string | null} surroundings.owner
   * @param {(orderId: string) => void} surroundings.onCancel
   * @param {() => void} surroundings.onDenied
   */
  constructor(api, { owner, onCancel, onDenied }) {
    this.#api = api;
    this.#owner = owner;
    this.#onDenied = onDenied;
    for (const type of Object.keys(TABLES.orderTypes)) {
      byId("order-types").append(new Option(capitalized(type), type));
    }
    this.#filters.addEventListener("change", () => this.reload());
    this.#filters.addEventListener("submit", (event) => {
      event.preventDefault();
      this.refresh();
    });
    byId("load-more").addEventListener("click", () => this.#loadMore());
    this.#body.addEventListener("click", ({ target }) => {
      if (!(target instanceof Element)) return;
      const button = target.closest("button");
      if (button?.dataset.cancel) onCancel(button.dataset.cancel);
      else if (!target.closest("a, button")) target.closest("tr")?.querySelector("a")?.click();
    });
  }

  get #query() {
    return {
      status: entryOf(this.#filters, "status"),
      orderType: entryOf(this.#filters, "orderType"),
      userId: this.showsEveryone ? null : this.#owner(),
      limit: PAGE_SIZE,
    };
  }

  get showsEveryone() {
    return entryOf(this.#filters, "scope") === "all";
  }

  /** @param {string} orderId */
  order(orderId) {
    return this.#known.get(orderId) ?? null;
  }

  /** Forget the list and get it anew. */
  async reload() {
    this.#request?.abort();
    this.#request = null;
    this.#body.closest("table")?.toggleAttribute("data-everyone", this.showsEveryone);
    this.#listed = [];
    this.#cursor = null;
    this.#isLoaded = false;
    this.#sync();
    await this.refresh();
  }

  /** Get the newest page and put it before what is listed already. */
  async refresh() {
    if (this.#request) {
      this.#refreshSoon();
      return;
    }
    const page = await this.#fetch(null);
    if (!page) return;
    const fresh = page.orders.map((order) => order.orderId);
    const seam = this.#listed.indexOf(fresh.at(-1) ?? "");
    if (seam >= 0 && page.nextCursor) {
      this.#listed = [...fresh, ...this.#listed.slice(seam + 1)];
    } else {
      this.#listed = fresh;
      this.#cursor = page.nextCursor;
    }
    this.#sync();
  }

  async #loadMore() {
    const page = await this.#fetch(this.#cursor);
    if (!page) return;
    const more = page.orders.map((order) => order.orderId);
    this.#listed = [...this.#listed, ...more.filter((id) => !this.#listed.includes(id))];
    this.#cursor = page.nextCursor;
    this.#sync();
  }

  /** @param {string | null} cursor */
  async #fetch(cursor) {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    const message = byId("orders-message");
    try {
      const { body } = await this.#api.orders({ ...this.#query, cursor }, request.signal);
      for (const order of body.orders) this.#learn(order);
      this.#isLoaded = true;
      // Only its own message: another one tells what became of a button the reader has pressed.
      if (this.#hasFailed) showMessage(message, "");
      this.#hasFailed = false;
      return body;
    } catch (caught) {
      if (request.signal.aborted) return null;
      const error = ofRequest(caught);
      if (error.status === 401) this.#onDenied();
      this.#hasFailed = true;
      showMessage(message, "error", `The orders could not be loaded. ${troubleText(error)}`);
      byId("no-orders").hidden = true;
      return null;
    } finally {
      if (this.#request === request) this.#request = null;
    }
  }

  /**
   * Take in an order as the API shows it, unless events have told of more. Returns what is known.
   *
   * @param {Order} order
   */
  #learn(order) {
    const before = this.#known.get(order.orderId);
    const known = before && before.seq > order.seq ? before : order;
    this.#known.set(order.orderId, known);
    return known;
  }

  /**
   * Take in an order from elsewhere, and list it if it belongs there. Returns what is known.
   *
   * @param {Order} order
   */
  put(order) {
    const known = this.#learn(order);
    this.#place(known);
    return known;
  }

  /**
   * Take in an event; returns the order it changed, null when it told nothing new.
   *
   * @param {OrderEvent} event
   */
  apply(event) {
    const before = this.#known.get(event.orderId);
    if (!before) {
      if (this.#isNews(event)) this.#refreshSoon();
      return null;
    }
    if (event.seq <= before.seq) return null;
    const order = orderAfter(before, event);
    this.#known.set(event.orderId, order);
    this.#place(order);
    return order;
  }

  /** @param {string} orderId */
  select(orderId) {
    this.#rows.get(this.#selected)?.removeAttribute("aria-current");
    this.#selected = orderId;
    this.#rows.get(orderId)?.setAttribute("aria-current", "true");
  }

  /** Draw again, for what can be done with the orders has changed. */
  redraw() {
    for (const [orderId, row] of this.#rows) this.#fill(row, orderId);
  }

  // A replay tells of old orders too; only a newer one than any that is listed is missing.
  /** @param {OrderEvent} event */
  #isNews(event) {
    const newest = this.#known.get(this.#listed[0] ?? "");
    return !newest || Date.parse(event.timestamp) >= Date.parse(newest.createdAt);
  }

  #refreshSoon() {
    this.#burst ||= setTimeout(() => {
      this.#burst = 0;
      this.refresh();
    }, BURST_MS);
  }

  /** @param {Order} order */
  #place(order) {
    const { status, userId, orderType } = this.#query;
    const belongs =
      (status === "all" || (status === "closed") === isFinal(order.status)) &&
      (!userId || order.userId === userId) &&
      (!orderType || order.type === orderType);
    const index = this.#listed.indexOf(order.orderId);
    if (belongs && index < 0) {
      const created = Date.parse(order.createdAt);
      const at = this.#listed.findIndex(
        (id) => Date.parse(this.#known.get(id)?.createdAt ?? "") <= created,
      );
      if (at >= 0) this.#listed.splice(at, 0, order.orderId);
      else if (!this.#cursor) this.#listed.push(order.orderId);
    } else if (!belongs && index >= 0) {
      this.#listed.splice(index, 1);
    }
    this.#sync();
  }

  /** Make the table show what is listed, touching only rows that differ: one may have the focus. */
  #sync() {
    const listed = new Set(this.#listed);
    for (const [orderId, row] of this.#rows) {
      if (!listed.has(orderId)) {
        row.remove();
        this.#rows.delete(orderId);
      }
    }
    this.#listed.forEach((orderId, index) => {
      const row = this.#rows.get(orderId) ?? this.#newRow(orderId);
      this.#fill(row, orderId);
      const there = this.#body.children[index] ?? null;
      if (there !== row) this.#body.insertBefore(row, there);
    });
    byId("load-more").hidden = !this.#cursor;
    const isTroubled = !byId("orders-message").hidden;
    byId("no-orders").hidden = isTroubled || (this.#isLoaded && this.#listed.length > 0);
    setText(byId("no-orders"), this.#isLoaded ? "No orders here yet." : "Loading…");
  }

  /** @param {string} orderId */
  #newRow(orderId) {
    const row = element("tr", { role: "row" });
    if (orderId === this.#selected) row.setAttribute("aria-current", "true");
    this.#rows.set(orderId, row);
    return row;
  }

  /**
   * @param {HTMLElement} row
   * @param {string} orderId
   */
  #fill(row, orderId) {
    const order = this.#known.get(orderId);
    if (!order) return;
    const canCancel = isCancelable(order.status);
    const version = `${order.seq} ${order.updatedAt} ${canCancel}`;
    if (row.dataset.version === version) return;
    const isUpdate = row.dataset.version !== undefined;
    row.dataset.version = version;
    const cells = orderCells(order, canCancel);
    if (isUpdate) {
      // The first cell stays: its link may have the focus.
      for (const cell of [...row.children].slice(1)) cell.remove();
      row.append(...cells.slice(1));
      row.dataset.flash = row.dataset.flash === "a" ? "b" : "a";
    } else {
      row.replaceChildren(...cells);
    }
    paintStatus(row, order.status);
  }
}

/**
 * @param {Order} order
 * @param {boolean} canCancel
 */
function orderCells(order, canCancel) {
  const cell = (/** @type {string} */ name, /** @type {Child[]} */ ...content) =>
    element("td", { class: name, role: "cell" }, ...content);
  const placed = element(
    "a",
    { href: `#${order.orderId}`, title: order.orderId },
    clockText(order.createdAt),
  );
  const swap = `${amountText(order.amountIn)} ${order.tokenIn} → ${order.tokenOut}`;
  const retried =
    order.attempt > 1
      ? element("small", { title: `attempt ${order.attempt}` }, ` ×${order.attempt}`)
      : "";
  const took = isFinal(order.status)
    ? Date.parse(order.updatedAt) - Date.parse(order.createdAt)
    : null;
  return [
    cell("placed", placed),
    cell("pair", swap, typeChip(order)),
    cell("state", statusBadge(order.status), retried),
    cell("wide", order.chosenDex ? venueName(order.chosenDex) : ""),
    cell("outcome number", canCancel ? cancelButton(order, swap) : outcomeOf(order)),
    cell("wide number", order.executedPrice ? priceText(order.executedPrice) : ""),
    cell("wide number", order.realizedSlippageBps ? slippageText(order.realizedSlippageBps) : ""),
    cell("wide number", took === null ? "" : durationText(took)),
    cell("wide mine", clipped(order.clientOrderId ?? "")),
    cell("wide everyone", clipped(order.userId)),
  ];
}

/** @param {Order} order */
function typeChip(order) {
  if (!rests(order.type)) return "";
  const price = order.limitPrice ? ` ${priceText(order.limitPrice)}` : "";
  return element("span", { class: "chip" }, `${order.type}${price}`);
}

/** @param {Order} order */
function outcomeOf(order) {
  if (order.amountOut) return `${amountText(order.amountOut)} ${order.tokenOut}`;
  if (order.status !== "failed" || !order.failure) return "";
  return element("span", { class: "code", title: order.failure.detail }, order.failure.code);
}

/** @param {string} text */
const clipped = (text) => element("bdi", { class: "clip", title: text || null }, text);

/**
 * @param {Order} order
 * @param {string} swap
 */
function cancelButton(order, swap) {
  const name = `Cancel ${swap}`;
  return element(
    "button",
    { type: "button", class: "quiet", "data-cancel": order.orderId, "aria-label": name },
    "Cancel",
  );
}

/**
 * Return the order as an event leaves it; an event carries what its transition added.
 *
 * @param {Order} order
 * @param {OrderEvent} event
 * @returns {Order}
 */
function orderAfter(order, event) {
  const { status, seq, attempt, timestamp } = event;
  const added = Object.fromEntries(
    OUTCOME.filter((name) => event[name] !== undefined).map((name) => [name, event[name]]),
  );
  if (status === "confirmed") added.failure = null;
  return { ...order, status, seq, attempt, updatedAt: timestamp, ...added };
}
