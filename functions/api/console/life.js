"use strict";

// The life of the order on display: a waterfall of its events, the route taken, and the outcome.

const TICK_MS = 200;

class OrderLife {
  #panel = byId("life");
  #slots = {};
  #list = byId("timeline");
  #order = null;
  #events = [];
  #anchor = null;
  #ticker = 0;

  constructor({ onCancel }) {
    for (const slot of this.#panel.querySelectorAll("[data-slot]")) {
      this.#slots[slot.dataset.slot] = slot;
    }
    byId("cancel").addEventListener("click", () => onCancel(this.#order.orderId));
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

  /** Show an order from its beginning; `now` is the engine's time. */
  show(order, events, now, canCancel) {
    const isOther = order.orderId !== this.orderId;
    if (isOther) {
      this.#list.replaceChildren();
      byId("announcements").replaceChildren();
      showMessage(byId("cancel-message"), "");
      this.#events = [];
    }
    this.#order = order;
    if (events.length > this.#events.length) this.#events = [...events];
    this.#anchorAt(now);
    this.#render(canCancel);
    if (isOther) this.#reveal();
  }

  #reveal() {
    this.#say(`${byId("life-heading").textContent}, ${this.#order.status}`);
    const { top } = this.#panel.getBoundingClientRect();
    if (top < 0 || top > innerHeight * 0.75) this.#panel.scrollIntoView({ block: "start" });
  }

  /** Add the next event; false when it is not the next one. */
  add(event, order, canCancel) {
    if (event.seq !== this.lastSeq + 1) return false;
    this.#order = order;
    this.#events.push(event);
    this.#anchorAt(Date.parse(event.timestamp));
    this.#render(canCancel);
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
  #anchorAt(now) {
    const last = this.#events.at(-1);
    const known = Math.max(now, last ? Date.parse(last.timestamp) : 0);
    this.#anchor = { known, at: performance.now() };
  }

  #now() {
    return this.#anchor.known + performance.now() - this.#anchor.at;
  }

  #render(canCancel) {
    const order = this.#order;
    const { badge, type, ids, verdict, quotes, facts: factList } = this.#slots;
    this.#panel.hidden = false;
    byId("no-life").hidden = true;
    setText(
      byId("life-heading"),
      `${amountText(order.amountIn)} ${order.tokenIn} → ${order.tokenOut}`,
    );
    badge.replaceChildren(statusBadge(order.status));
    setText(type, order.type);
    this.#renderIds(ids, order);
    this.#renderVerdict(verdict, order);
    byId("cancel").hidden = !(canCancel && isCancelable(order.status));
    while (this.#list.children.length < this.#events.length) {
      const index = this.#list.children.length;
      this.#list.append(timelineRow(this.#events[index], order, index));
    }
    this.#renderRoute(quotes, order);
    factList.replaceChildren(...facts(outcomeFacts(order)));
    this.#tick();
  }

  #renderIds(target, order) {
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

  #renderVerdict(target, order) {
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

  #renderRoute(target, order) {
    const cards = venueCards({
      quotes: order.quotes,
      best: order.chosenDex,
      bestLabel: "chosen",
      tokenOut: order.tokenOut,
    });
    const isDecided = order.quotes.length > 0;
    const waiting = isFinal(order.status)
      ? "The order never got a quote."
      : "The venues’ quotes appear here.";
    target.replaceChildren(...(isDecided ? cards : [element("p", { class: "hint" }, waiting)]));
  }

  /** Size the waterfall's bars; while the order is under way the last one grows. */
  #tick() {
    clearTimeout(this.#ticker);
    if (!this.#order || this.#events.length === 0) return;
    const times = this.#events.map(({ timestamp }) => Date.parse(timestamp));
    const isOver = isFinal(this.#events.at(-1).status);
    const end = isOver ? times.at(-1) : this.#now();
    const total = Math.max(end - times[0], 1);
    times.forEach((time, index) => {
      const row = this.#list.children[index];
      const until = times[index + 1] ?? end;
      row.style.setProperty("--from", (time - times[0]) / total);
      row.style.setProperty("--span", (until - time) / total);
      row.toggleAttribute("data-running", !isOver && index === times.length - 1);
      const isEnd = isOver && index === times.length - 1;
      setText(row.querySelector(".spent"), isEnd ? "" : durationText(until - time));
    });
    setText(this.#slots.total, `${isOver ? "over after" : "under way for"} ${durationText(total)}`);
    if (!isOver && document.visibilityState === "visible") {
      this.#ticker = setTimeout(() => this.#tick(), total < 60000 ? TICK_MS : 1000);
    }
  }

  #announce(event) {
    const passed = Date.parse(event.timestamp) - Date.parse(this.#events[0].timestamp);
    const reason = event.failure ? `: ${event.failure.detail}` : "";
    const attempt = event.attempt > 1 ? `, attempt ${event.attempt}` : "";
    this.#say(`${capitalized(event.status)}${attempt} after ${durationText(passed)}${reason}`);
  }

  #say(words) {
    byId("announcements").append(element("p", {}, words));
  }
}

function timelineRow(event, order, index) {
  const offset = Date.parse(event.timestamp) - Date.parse(order.createdAt);
  const row = element(
    "li",
    {},
    element("span", { class: "step" }, event.status),
    element(
      "time",
      { datetime: event.timestamp, title: clockText(event.timestamp, { milliseconds: true }) },
      index === 0 ? clockText(event.timestamp) : `+${durationText(offset)}`,
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
    ["Attempts", order.attempt ? `${order.attempt} of ${order.maxRetries + 1}` : null],
    ["Fires on", order.trigger && triggerText(order)],
    ["Expires", order.expiresAt && clockText(order.expiresAt)],
    ["Transaction", order.txHash && copyable(order.txHash, "the transaction hash")],
  ];
}

function triggerText({ trigger, tokenIn, tokenOut }) {
  const venue = trigger.venue === "any" ? "any pool" : `a pool on ${capitalized(trigger.venue)}`;
  const depth =
    Number(trigger.minLiquidity) > 0 ? ` of ${amountText(trigger.minLiquidity)} ${tokenIn}` : "";
  const price = trigger.maxPrice
    ? ` at ${priceText(trigger.maxPrice)} ${tokenIn} per ${tokenOut} or less`
    : "";
  return `${venue}${depth}${price}`;
}
