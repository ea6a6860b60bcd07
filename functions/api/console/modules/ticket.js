// The order form with its live quotes.

import { newUuid, Problem, Unreachable } from "console/api.js";
import { byId, element, entryOf, partOf, setText, showMessage } from "console/elements.js";
import {
  amountText,
  basisPointsOfPercent,
  capitalized,
  clockText,
  fractionOfPercent,
  leastOut,
  priceText,
} from "console/format.js";
import { venueCards } from "console/pieces.js";
import { ofRequest, setFieldError, showFieldErrors, troubleText } from "console/problems.js";
import { defaultSlippagePercent, rests, TABLES } from "console/tables.js";
import { addTerms, wholeNumber } from "console/terms.js";

/** @typedef {import("./api.js").EngineApi} EngineApi */
/** @typedef {import("./api.js").ApiError} ApiError */
/** @typedef {import("./contract.js").Order} Order */
/** @typedef {import("./contract.js").Quotes} Quotes */
/** @typedef {import("./terms.js").Control} Control */
/** @typedef {import("./terms.js").Terms} Terms */
/** @typedef {{order: Terms, key: string | null, isSending: boolean}} Sent */

const QUOTE_DELAY_MS = 300;
const QUOTE_EVERY_MS = 5000;
const QUOTE_IDLE_MS = 10 * 60 * 1000; // after this long without anyone at the page, quotes pause

const SWAP_FIELDS = ["amountIn", "tokenIn", "tokenOut"];

export class Ticket {
  #api;
  #userId;
  #onAccepted;
  #onDenied;
  #form = partOf("ticket", HTMLFormElement);
  #amountIn = partOf("amountIn", HTMLInputElement);
  #tokenIn = partOf("tokenIn", HTMLSelectElement);
  #tokenOut = partOf("tokenOut", HTMLSelectElement);
  #slippage = partOf("slippageTolerance", HTMLInputElement);
  #quoteTimer = 0;
  /** @type {AbortController | null} */
  #quoteRequest = null;
  /** @type {Quotes | null} */
  #quoted = null;
  #lastTouch = performance.now();
  /** The order that is being sent, or that got no answer. @type {Sent | null} */
  #pending = null;
  #hasBegun = false;

  /**
   * `userId` returns whose order it is, null for the API to know.
   *
   * @param {EngineApi} api
   * @param {object} surroundings
   * @param {() => string | null} surroundings.userId
   * @param {(order: Order) => void} surroundings.onAccepted
   * @param {() => void} surroundings.onDenied
   */
  constructor(api, { userId, onAccepted, onDenied }) {
    this.#api = api;
    this.#userId = userId;
    this.#onAccepted = onAccepted;
    this.#onDenied = onDenied;
    this.#fillLists();
    this.#slippage.value = defaultSlippagePercent(this.#type);
    this.#form.addEventListener("input", ({ target }) => {
      if (target instanceof HTMLInputElement || target instanceof HTMLSelectElement) {
        this.#edited(target);
      }
    });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("reverse").addEventListener("click", () => this.#reverse());
    for (const button of this.#form.querySelectorAll("button")) {
      const { slippage } = button.dataset;
      if (slippage === undefined) continue;
      button.addEventListener("click", () => {
        this.#slippage.value = slippage;
        this.#edited(this.#slippage);
      });
    }
    for (const type of ["pointerdown", "keydown"]) {
      addEventListener(type, () => this.#touched(), { passive: true });
    }
    document.addEventListener("visibilitychange", () => this.#quoteSoon(0));
    this.#show();
  }

  get #type() {
    return entryOf(this.#form, "type");
  }

  #fillLists() {
    const types = Object.keys(TABLES.orderTypes).map((type, index) =>
      element(
        "label",
        {},
        element("input", { type: "radio", name: "type", value: type, checked: index === 0 }),
        element("span", {}, capitalized(type)),
      ),
    );
    byId("types").append(...types);
    for (const list of [this.#tokenIn, this.#tokenOut]) {
      for (const symbol of Object.keys(TABLES.tokenDecimals)) {
        const isChosen = symbol === list.dataset.token;
        list.append(new Option(symbol, symbol, isChosen, isChosen));
      }
    }
    const venues = TABLES.venues.map((venue) => new Option(capitalized(venue), venue));
    byId("trigger.venue").append(...venues);
  }

  /** @param {Control} control */
  #edited(control) {
    const name = control.name;
    this.#pending = null;
    setFieldError(name, "");
    if (SWAP_FIELDS.includes(name)) {
      for (const field of SWAP_FIELDS) setFieldError(field, "");
      this.#forgetQuotes();
      this.#quoteSoon();
    }
    if (control === this.#slippage) control.dataset.edited = "";
    if (name === "type" && this.#slippage.dataset.edited === undefined) {
      this.#slippage.value = defaultSlippagePercent(this.#type);
    }
    showMessage(byId("ticket-message"), "");
    this.#show();
  }

  #reverse() {
    const best = this.#bestQuote;
    [this.#tokenIn.value, this.#tokenOut.value] = [this.#tokenOut.value, this.#tokenIn.value];
    if (best) this.#amountIn.value = best.amountOut;
    this.#edited(this.#tokenIn);
  }

  /** The parts of the form that only some types have. */
  get #parts() {
    /** @type {NodeListOf<HTMLElement>} */
    const parts = this.#form.querySelectorAll("[data-for], [data-for-resting]");
    const type = this.#type;
    return [...parts].map((part) => {
      const isOfType = part.dataset.for === type;
      return { part, isShown: isOfType || ("forResting" in part.dataset && rests(type)) };
    });
  }

  #show() {
    for (const { part, isShown } of this.#parts) part.hidden = !isShown;
    const type = this.#type;
    const [paid, unit] = [this.#tokenIn.value, this.#tokenOut.value];
    const swap = `${this.#amountIn.value.trim() || "0"} ${paid} for ${unit}`;
    setText(byId("submit"), this.#pending?.isSending ? "Submitting…" : verbOf(type, swap));
    setText(byId("limit-unit"), `${unit} per ${paid}`);
    setText(byId("liquidity-unit"), paid);
    setText(byId("highest-unit"), `${paid} per ${unit}`);
    const best = this.#bestQuote;
    setText(byId("estimate"), best ? amountText(best.amountOut) : "–");
    setText(byId("limitPrice-hint"), best ? `Best price now: ${priceText(best.price)}` : "");
    setText(byId("least"), this.#leastText(unit));
  }

  /** @param {string} unit */
  #leastText(unit) {
    const best = this.#bestQuote;
    const points = basisPointsOfPercent(this.#slippage.value.trim());
    const decimals = TABLES.tokenDecimals[unit];
    // What rests is bounded by quotes that are yet to come.
    if (!best || points === null || decimals === undefined || rests(this.#type)) return "";
    const least = leastOut(best.amountOut, decimals, points);
    return `You receive at least ${amountText(least)} ${unit}, or the swap fails.`;
  }

  // Quotes

  get #bestQuote() {
    return this.#quoted?.quotes.find(({ dex }) => dex === this.#quoted?.bestDex) ?? null;
  }

  #touched() {
    const wasIdle = performance.now() - this.#lastTouch > QUOTE_IDLE_MS;
    this.#lastTouch = performance.now();
    if (wasIdle) this.#quoteSoon(0);
  }

  #forgetQuotes() {
    this.#quoted = null;
    byId("quotes").dataset.stale = "";
  }

  #quoteSoon(delay = QUOTE_DELAY_MS) {
    clearTimeout(this.#quoteTimer);
    this.#quoteRequest?.abort();
    if (!this.#hasBegun || document.visibilityState !== "visible") return;
    if (performance.now() - this.#lastTouch > QUOTE_IDLE_MS) {
      setText(byId("quotes-note"), "paused");
      return;
    }
    this.#quoteTimer = setTimeout(() => this.#quote(), delay);
  }

  async #quote() {
    const amount = this.#amountIn.value.trim();
    if (!amount) {
      byId("quotes").replaceChildren();
      setText(byId("quotes-note"), "enter an amount");
      return;
    }
    const request = new AbortController();
    this.#quoteRequest = request;
    const query = {
      tokenIn: this.#tokenIn.value,
      tokenOut: this.#tokenOut.value,
      amountIn: amount,
    };
    let goesOn = true;
    try {
      const { body } = await this.#api.quotes(query, request.signal);
      this.#quoted = body;
      this.#showQuotes(body);
    } catch (error) {
      if (request.signal.aborted) return;
      goesOn = this.#showNoQuotes(ofRequest(error));
    }
    this.#show();
    if (goesOn) this.#quoteSoon(QUOTE_EVERY_MS);
  }

  /** @param {Quotes} quotes */
  #showQuotes({ quotes, missing, bestDex, tokenOut, timestamp }) {
    const list = byId("quotes");
    delete list.dataset.stale;
    list.replaceChildren(
      ...venueCards({ quotes, missing, best: bestDex, bestLabel: "best", tokenOut }),
    );
    setText(byId("quotes-note"), clockText(timestamp));
  }

  /**
   * Say why there are none; tell whether it makes sense to ask again.
   *
   * @param {ApiError} error
   */
  #showNoQuotes(error) {
    this.#forgetQuotes();
    byId("quotes").replaceChildren();
    if (error instanceof Problem && error.fields.length > 0) {
      showFieldErrors(error);
      setText(byId("quotes-note"), "none for this entry");
      return false; // the same entries would get the same answer
    }
    setText(byId("quotes-note"), troubleText(error));
    return error.status !== 401;
  }

  /** Begin for the present user: ask for quotes now, and from now on. */
  begin() {
    this.#hasBegun = true;
    this.#pending = null;
    this.#quoteSoon(0);
  }

  // Submitting

  #order() {
    const text = (/** @type {string} */ name) => entryOf(this.#form, name).trim() || undefined;
    const tolerance = text("slippageTolerance");
    /** @type {Terms} */
    const order = {
      userId: this.#userId() ?? undefined,
      clientOrderId: text("clientOrderId"),
      type: this.#type,
      tokenIn: this.#tokenIn.value,
      tokenOut: this.#tokenOut.value,
      amountIn: text("amountIn"),
      slippageTolerance: tolerance && fractionOfPercent(tolerance),
      maxRetries: wholeNumber(text("maxRetries")),
      priority: wholeNumber(text("priority")),
    };
    for (const { part, isShown } of this.#parts) {
      if (isShown) addTerms(order, part);
    }
    return order;
  }

  async #submit() {
    if (this.#pending?.isSending) return;
    // An order that got no answer is sent again as it was, under its key: it is placed only once.
    if (!this.#pending) {
      const order = this.#order();
      this.#pending = { order, key: order.clientOrderId ? null : newUuid(), isSending: false };
    }
    const sent = this.#pending;
    sent.isSending = true;
    this.#clearErrors();
    this.#show();
    try {
      const reply = await this.#api.submit(sent.order, sent.key);
      this.#settle(sent);
      this.#accepted(reply);
    } catch (caught) {
      const error = ofRequest(caught);
      if (!isUnanswered(error)) this.#settle(sent);
      this.#refused(error);
    } finally {
      sent.isSending = false;
      this.#show();
    }
  }

  /** @param {Sent} sent */
  #settle(sent) {
    if (this.#pending === sent) this.#pending = null;
  }

  /** @param {{body: Order, headers: Headers}} reply */
  #accepted({ body, headers }) {
    const isOld = headers.get("Idempotency-Replayed") === "true";
    const notes = isOld ? ["This order had been placed before. Nothing new was sent."] : [];
    notes.push(...(body.warnings ?? []));
    showMessage(byId("ticket-message"), "note", ...notes.map((note) => element("p", {}, note)));
    this.#onAccepted(body);
  }

  /** @param {ApiError} error */
  #refused(error) {
    const message = byId("ticket-message");
    if (isUnanswered(error) || !(error instanceof Problem)) {
      const repeat = "Submitting again repeats this very request: it cannot place a second order.";
      showMessage(message, "error", `${troubleText(error)} ${repeat}`);
      return;
    }
    const unplaced = showFieldErrors(error);
    if (unplaced.length > 0 || error.fields.length === 0) {
      const lines = unplaced.map(({ field, message: text }) =>
        element("li", {}, `${field} ${text}`),
      );
      const list = lines.length > 0 ? element("ul", {}, ...lines) : null;
      showMessage(message, "error", troubleText(error), list);
    }
    if (error.status === 401) this.#onDenied();
    this.#focusFirstError();
  }

  get #fieldNotes() {
    return [...this.#form.querySelectorAll(".field-error")].map((note) => ({
      note,
      name: note.id.replace(/-error$/, ""),
    }));
  }

  #focusFirstError() {
    const first = this.#fieldNotes.find(({ note }) => !note.hasAttribute("hidden"));
    if (!first) return;
    const details = first.note.closest("details");
    if (details) details.open = true;
    /** @type {HTMLElement | null} */
    const control = this.#form.querySelector(
      `[name="${first.name}"]:is(:checked, :not([type="radio"]))`,
    );
    control?.focus();
  }

  #clearErrors() {
    showMessage(byId("ticket-message"), "");
    for (const { name } of this.#fieldNotes) setFieldError(name, "");
  }
}

/**
 * Tell whether nobody knows if the request was carried out.
 *
 * @param {ApiError} error
 */
const isUnanswered = (error) => error instanceof Unreachable || error.status >= 500;

/**
 * @param {string} type
 * @param {string} swap
 */
const verbOf = (type, swap) => (rests(type) ? `Place ${type} order` : `Swap ${swap}`);
