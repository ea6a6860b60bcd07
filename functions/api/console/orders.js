"use strict";

// The table of orders, newest first, and the orders that the page knows.

const PAGE_SIZE = 25;
const BURST_MS = 400;

class OrderTable {
  #api;
  #owner;
  #filters = byId("filters");
  #body = byId("rows");
  #known = new Map(); // every order that was ever received, by id
  #listed = []; // the ids in the table
  #rows = new Map();
  #cursor = null;
  #request = null;
  #burst = 0; // timer of the next refresh
  #isLoaded = false;
  #hasFailed = false;
  #selected = null;
  #canCancel;
  #onDenied;

  /** `owner` returns whose orders `Mine` are, null for the caller's own. */
  constructor(api, { owner, canCancel, onCancel, onDenied }) {
    this.#api = api;
    this.#owner = owner;
    this.#canCancel = canCancel;
    this.#onDenied = onDenied;
    this.#filters.addEventListener("change", () => this.reload());
    this.#filters.addEventListener("submit", (event) => {
      event.preventDefault();
      this.refresh();
    });
    byId("load-more").addEventListener("click", () => this.#loadMore());
    this.#body.addEventListener("click", ({ target }) => {
      const button = target.closest("button[data-cancel]");
      if (button) onCancel(button.dataset.cancel);
      else if (!target.closest("a, button")) target.closest("tr")?.querySelector("a").click();
    });
  }

  get #query() {
    const { status, scope, orderType } = this.#filters.elements;
    return {
      status: status.value,
      orderType: orderType.value,
      userId: scope.value === "mine" ? this.#owner() : null,
      limit: PAGE_SIZE,
    };
  }

  get showsEveryone() {
    return this.#filters.elements.scope.value === "all";
  }

  order(orderId) {
    return this.#known.get(orderId) ?? null;
  }

  /** Forget the list and get it anew. */
  async reload() {
    this.#request?.abort();
    this.#request = null;
    byId("rows").closest("table").toggleAttribute("data-everyone", this.showsEveryone);
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
    const seam = this.#listed.indexOf(fresh.at(-1));
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
    } catch (error) {
      if (request.signal.aborted) return null;
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 401) this.#onDenied();
      this.#hasFailed = true;
      showMessage(message, "error", `The orders could not be loaded. ${troubleText(error)}`);
      byId("no-orders").hidden = true;
      return null;
    } finally {
      if (this.#request === request) this.#request = null;
    }
  }

  /** Take in an order as the API shows it, unless events have told of more. */
  #learn(order) {
    const before = this.#known.get(order.orderId);
    if (!before || before.seq <= order.seq) this.#known.set(order.orderId, order);
    return this.#known.get(order.orderId);
  }

  /** Take in an order from elsewhere, and list it if it belongs there. Returns what is known. */
  put(order) {
    const known = this.#learn(order);
    this.#place(known);
    return known;
  }

  /** Take in an event; returns the order it changed, null when it told nothing new. */
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

  select(orderId) {
    this.#rows.get(this.#selected)?.removeAttribute("aria-current");
    this.#selected = orderId;
    this.#rows.get(orderId)?.setAttribute("aria-current", "true");
  }

  /** Draw again, for what can be done with the orders has changed. */
  redraw() {
    for (const [orderId, row] of this.#rows) this.#fill(row, this.#known.get(orderId));
  }

  // A replay tells of old orders too; only a newer one than any that is listed is missing.
  #isNews(event) {
    const newest = this.#known.get(this.#listed[0]);
    return !newest || Date.parse(event.timestamp) >= Date.parse(newest.createdAt);
  }

  #refreshSoon() {
    this.#burst ||= setTimeout(() => {
      this.#burst = 0;
      this.refresh();
    }, BURST_MS);
  }

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
        (id) => Date.parse(this.#known.get(id).createdAt) <= created,
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
      this.#fill(row, this.#known.get(orderId));
      if (this.#body.children[index] !== row)
        this.#body.insertBefore(row, this.#body.children[index] ?? null);
    });
    byId("load-more").hidden = !this.#cursor;
    const isTroubled = !byId("orders-message").hidden;
    byId("no-orders").hidden = isTroubled || (this.#isLoaded && this.#listed.length > 0);
    setText(byId("no-orders"), this.#isLoaded ? "No orders here yet." : "Loading…");
  }

  #newRow(orderId) {
    const row = element("tr", { role: "row" });
    if (orderId === this.#selected) row.setAttribute("aria-current", "true");
    this.#rows.set(orderId, row);
    return row;
  }

  #fill(row, order) {
    const canCancel = this.#canCancel() && isCancelable(order.status);
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

function orderCells(order, canCancel) {
  const cell = (name, ...content) => element("td", { class: name, role: "cell" }, ...content);
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

function typeChip(order) {
  if (order.type === "market") return "";
  const price = order.limitPrice ? ` ${priceText(order.limitPrice)}` : "";
  return element("span", { class: "chip" }, `${order.type}${price}`);
}

function outcomeOf(order) {
  if (order.amountOut) return `${amountText(order.amountOut)} ${order.tokenOut}`;
  if (order.status !== "failed" || !order.failure) return "";
  return element("span", { class: "code", title: order.failure.detail }, order.failure.code);
}

const clipped = (text) => element("bdi", { class: "clip", title: text || null }, text);

function cancelButton(order, swap) {
  const name = `Cancel ${swap}`;
  return element(
    "button",
    { type: "button", class: "quiet", "data-cancel": order.orderId, "aria-label": name },
    "Cancel",
  );
}

/** The order as an event leaves it; an event carries what its transition added. */
function orderAfter(order, event) {
  const { status, seq, attempt, timestamp } = event;
  const changes = { status, seq, attempt, updatedAt: timestamp };
  const added = [
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
  for (const name of added) {
    if (event[name] !== undefined) changes[name] = event[name];
  }
  if (status === "confirmed") changes.failure = null;
  return { ...order, ...changes };
}
