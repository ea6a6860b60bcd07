"use strict";

// The order form with its live quotes. The API judges every entry; the page repeats its words at
// the field that they name.

const QUOTE_DELAY_MS = 300;
const QUOTE_EVERY_MS = 5000;
const QUOTE_IDLE_MS = 10 * 60 * 1000; // after this long without anyone at the page, quotes pause

const DEFAULT_SLIPPAGE = { market: "0.5", limit: "0.5", sniper: "10" };
const SWAP_FIELDS = ["amountIn", "tokenIn", "tokenOut"];

/** The page's own words for a field that it shows in another unit than the API's. */
const FIELD_WORDS = { slippageTolerance: "must be from 0 to 100 %, in steps of 0.01 %" };

class Ticket {
  #api;
  #userId;
  #onAccepted;
  #onDenied;
  #form = byId("ticket");
  #quoteTimer = 0;
  #quoteRequest = null;
  #quoted = null;
  #lastTouch = performance.now();
  #pending = null; // the order that is being sent, or that got no answer
  #hasBegun = false;

  /** `userId` returns whose order it is, null for the API to know. */
  constructor(api, { userId, onAccepted, onDenied }) {
    this.#api = api;
    this.#userId = userId;
    this.#onAccepted = onAccepted;
    this.#onDenied = onDenied;
    this.#fillTokens();
    this.#form.addEventListener("input", (event) => this.#edited(event.target));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    byId("reverse").addEventListener("click", () => this.#reverse());
    for (const button of this.#form.querySelectorAll("[data-slippage]")) {
      button.addEventListener("click", () => {
        this.#fields.slippageTolerance.value = button.dataset.slippage;
        this.#edited(this.#fields.slippageTolerance);
      });
    }
    for (const type of ["pointerdown", "keydown"]) {
      addEventListener(type, () => this.#touched(), { passive: true });
    }
    document.addEventListener("visibilitychange", () => this.#quoteSoon(0));
    this.#show();
  }

  get #fields() {
    return this.#form.elements;
  }

  get #type() {
    return this.#fields.type.value;
  }

  #fillTokens() {
    for (const list of [this.#fields.tokenIn, this.#fields.tokenOut]) {
      for (const symbol of Object.keys(TABLES.tokenDecimals)) {
        const isChosen = symbol === list.dataset.token;
        list.append(new Option(symbol, symbol, isChosen, isChosen));
      }
    }
  }

  #edited(control) {
    const name = control.name;
    this.#pending = null;
    setFieldError(name, "");
    if (SWAP_FIELDS.includes(name)) {
      for (const field of SWAP_FIELDS) setFieldError(field, "");
      this.#forgetQuotes();
      this.#quoteSoon();
    }
    if (name === "slippageTolerance") control.dataset.edited = "";
    if (name === "type" && !("edited" in this.#fields.slippageTolerance.dataset)) {
      this.#fields.slippageTolerance.value = DEFAULT_SLIPPAGE[this.#type];
    }
    showMessage(byId("ticket-message"), "");
    this.#show();
  }

  #reverse() {
    const { tokenIn, tokenOut, amountIn } = this.#fields;
    const best = this.#bestQuote;
    [tokenIn.value, tokenOut.value] = [tokenOut.value, tokenIn.value];
    if (best) amountIn.value = best.amountOut;
    this.#edited(tokenIn);
  }

  #show() {
    const type = this.#type;
    for (const part of this.#form.querySelectorAll("[data-for]")) {
      part.hidden = !part.dataset.for.split(" ").includes(type);
    }
    const { amountIn, tokenIn, tokenOut, slippageTolerance } = this.#fields;
    const swap = `${amountIn.value.trim() || "0"} ${tokenIn.value} for ${tokenOut.value}`;
    setText(byId("submit"), this.#pending?.isSending ? "Submitting…" : verbOf(type, swap));
    setText(byId("limit-unit"), `${tokenOut.value} per ${tokenIn.value}`);
    setText(byId("liquidity-unit"), tokenIn.value);
    setText(byId("highest-unit"), `${tokenIn.value} per ${tokenOut.value}`);
    const best = this.#bestQuote;
    const unit = tokenOut.value;
    setText(byId("estimate"), best ? amountText(best.amountOut) : "–");
    setText(byId("limitPrice-hint"), best ? `Best price now: ${priceText(best.price)}` : "");
    const points = basisPointsOfPercent(slippageTolerance.value.trim());
    const isBounded = best && points !== null && type === "market";
    const least = isBounded && leastOut(best.amountOut, TABLES.tokenDecimals[unit], points);
    setText(
      byId("least"),
      least ? `You receive at least ${amountText(least)} ${unit}, or the swap fails.` : "",
    );
  }

  // Quotes

  get #bestQuote() {
    return this.#quoted?.quotes.find(({ dex }) => dex === this.#quoted.bestDex) ?? null;
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
    const { amountIn, tokenIn, tokenOut } = this.#fields;
    const amount = amountIn.value.trim();
    if (!amount) {
      byId("quotes").replaceChildren();
      setText(byId("quotes-note"), "enter an amount");
      return;
    }
    const request = new AbortController();
    this.#quoteRequest = request;
    const query = { tokenIn: tokenIn.value, tokenOut: tokenOut.value, amountIn: amount };
    let next = QUOTE_EVERY_MS;
    try {
      const { body } = await this.#api.quotes(query, request.signal);
      this.#quoted = body;
      this.#showQuotes(body);
    } catch (error) {
      if (request.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      this.#forgetQuotes();
      byId("quotes").replaceChildren();
      if (error instanceof Problem && error.fields.length > 0) {
        showFieldErrors(error);
        setText(byId("quotes-note"), "none for this entry");
        next = null; // the same entries would get the same answer
      } else {
        setText(byId("quotes-note"), troubleText(error));
        if (error.status === 401) next = null;
      }
    }
    this.#show();
    if (next) this.#quoteSoon(next);
  }

  #showQuotes({ quotes, missing, bestDex, tokenOut, timestamp }) {
    const list = byId("quotes");
    delete list.dataset.stale;
    list.replaceChildren(
      ...venueCards({ quotes, missing, best: bestDex, bestLabel: "best", tokenOut }),
    );
    setText(byId("quotes-note"), clockText(timestamp));
  }

  /** Begin for the present user: ask for quotes now, and from now on. */
  begin() {
    this.#hasBegun = true;
    this.#pending = null;
    this.#quoteSoon(0);
  }

  // Submitting

  #order() {
    const fields = this.#fields;
    const text = (name) => fields[name].value.trim() || undefined;
    const type = this.#type;
    const tolerance = text("slippageTolerance");
    return {
      userId: this.#userId() ?? undefined,
      clientOrderId: text("clientOrderId"),
      type,
      tokenIn: fields.tokenIn.value,
      tokenOut: fields.tokenOut.value,
      amountIn: text("amountIn"),
      slippageTolerance: tolerance && fractionOfPercent(tolerance),
      maxRetries: wholeNumber(text("maxRetries")),
      ...(type === "limit" && { limitPrice: text("limitPrice") }),
      ...(type === "sniper" && {
        trigger: {
          type: "poolCreated",
          venue: fields["trigger.venue"].value,
          minLiquidity: text("trigger.minLiquidity"),
          maxPrice: text("trigger.maxPrice"),
          allowExisting: fields["trigger.allowExisting"].checked,
        },
      }),
      ...(type !== "market" && {
        expiresAt: new Date(Date.now() + Number(fields.expiresAt.value) * 1000).toISOString(),
      }),
    };
  }

  async #submit() {
    if (this.#pending?.isSending) return;
    // An order that got no answer is sent again as it was, under its key: it is placed only once.
    if (!this.#pending) {
      const order = this.#order();
      this.#pending = { order, key: order.clientOrderId ? null : newUuid() };
    }
    const sent = this.#pending;
    sent.isSending = true;
    this.#clearErrors();
    this.#show();
    try {
      const reply = await this.#api.submit(sent.order, sent.key);
      this.#settle(sent);
      this.#accepted(reply);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const isUnknown = error instanceof Unreachable || error.status >= 500;
      if (!isUnknown) this.#settle(sent);
      this.#refused(error, isUnknown);
    } finally {
      sent.isSending = false;
      this.#show();
    }
  }

  #settle(sent) {
    if (this.#pending === sent) this.#pending = null;
  }

  #accepted({ body, headers }) {
    const isOld = headers.get("Idempotency-Replayed") === "true";
    const notes = isOld ? ["This order had been placed before. Nothing new was sent."] : [];
    notes.push(...(body.warnings ?? []));
    showMessage(byId("ticket-message"), "note", ...notes.map((note) => element("p", {}, note)));
    this.#onAccepted(body);
  }

  #refused(error, isUnknown) {
    const message = byId("ticket-message");
    if (isUnknown) {
      const repeat = "Submitting again repeats this very request: it cannot place a second order.";
      showMessage(message, "error", `${troubleText(error)} ${repeat}`);
      return;
    }
    const unplaced = showFieldErrors(error);
    if (unplaced.length > 0 || error.fields.length === 0) {
      const lines = unplaced.map(({ field, message: text }) =>
        element("li", {}, `${field} ${text}`),
      );
      showMessage(
        message,
        "error",
        troubleText(error),
        lines.length ? element("ul", {}, ...lines) : null,
      );
    }
    if (error.status === 401) this.#onDenied();
    this.#focusFirstError();
  }

  #focusFirstError() {
    const note = this.#form.querySelector(".field-error:not([hidden])");
    if (!note) return;
    const details = note.closest("details");
    if (details) details.open = true;
    const name = note.id.replace(/-error$/, "");
    this.#form.querySelector(`[name="${name}"]:is(:checked, :not([type="radio"]))`).focus();
  }

  #clearErrors() {
    showMessage(byId("ticket-message"), "");
    for (const note of this.#form.querySelectorAll(".field-error")) {
      setFieldError(note.id.replace(/-error$/, ""), "");
    }
  }
}

/** Show a problem at the fields that it names; returns the errors whose fields are not here. */
function showFieldErrors(problem) {
  // The detail of a problem that is about one field says more than the field's own line.
  const isOfOne = problem.code !== "VALIDATION_FAILED" && problem.fields.length === 1;
  return problem.fields.filter(({ field, message }) => {
    const name = fieldName(field);
    return !setFieldError(name, FIELD_WORDS[name] ?? (isOfOne ? problem.message : message));
  });
}

const verbOf = (type, swap) => (type === "market" ? `Swap ${swap}` : `Place ${type} order`);

/** A number where the entry is one, else the entry: the API then says what is wrong with it. */
const wholeNumber = (text) => (/^\d{1,9}$/.test(text ?? "") ? Number(text) : text);
