// The HTTP API. Everything is relative to where the page is, for a gateway may serve the API below
// a path of its own.

/** @typedef {import("./contract.js").ProblemDocument} ProblemDocument */
/** @typedef {import("./contract.js").Order} Order */
/** @typedef {import("./contract.js").OrderEvent} OrderEvent */
/** @typedef {import("./contract.js").OrderPage} OrderPage */
/** @typedef {import("./contract.js").Quotes} Quotes */
/** @typedef {import("./contract.js").Health} Health */

/**
 * @template Body
 * @typedef {{body: Body, headers: Headers}} Reply
 */

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | null>} [query]
 * @property {object} [body]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

export const BASE = new URL(location.pathname.replace(/\/?$/, "/"), location.origin);
const REQUEST_MS = 15000;

/** A request without success; any other error is a fault of the page. */
export class ApiError extends Error {
  /** The HTTP status, 0 without an answer. */
  status = 0;
}

/** The API's answer to a request that it did not carry out (RFC 9457, or the gateway's own). */
export class Problem extends ApiError {
  /**
   * @param {number} status
   * @param {ProblemDocument} document
   * @param {number | null} retryAfterSeconds
   */
  constructor(status, document, retryAfterSeconds) {
    super(document.detail ?? document.message ?? `The API answered ${status}.`);
    this.status = status;
    this.code = document.code ?? "";
    this.requestId = document.requestId ?? "";
    this.fields = Array.isArray(document.errors) ? document.errors : [];
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** No answer: nobody knows whether the request was carried out. */
export class Unreachable extends ApiError {}

export class EngineApi {
  /** Bearer token, where the API asks for one. */
  token = "";

  /**
   * Send a request. Throws Problem, Unreachable, or the AbortError of `signal`.
   *
   * @param {string} method
   * @param {string} path
   * @param {Options} [options]
   * @returns {Promise<Reply<any>>}
   */
  async request(method, path, { query = {}, body, headers = {}, signal } = {}) {
    const url = new URL(path, BASE);
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== "") url.searchParams.set(name, String(value));
    }
    const timeout = AbortSignal.timeout(REQUEST_MS);
    let response;
    let text;
    try {
      response = await fetch(url, {
        method,
        headers: {
          ...(body && { "Content-Type": "application/json" }),
          ...(this.token && { Authorization: `Bearer ${this.token}` }),
          ...headers,
        },
        body: body ? JSON.stringify(body) : null,
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        cache: "no-store",
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable("The API does not answer.", { cause: error });
    }
    const document = jsonObject(text);
    if (!response.ok) {
      const wait = Number(response.headers.get("Retry-After"));
      throw new Problem(response.status, document, wait > 0 ? wait : null);
    }
    return { body: document, headers: response.headers };
  }

  /** @returns {Promise<Reply<Health>>} */
  health() {
    return this.request("GET", "api/health");
  }

  /**
   * @param {Record<string, string>} query
   * @param {AbortSignal} signal
   * @returns {Promise<Reply<Quotes>>}
   */
  quotes(query, signal) {
    return this.request("GET", "api/quotes", { query, signal });
  }

  /**
   * @param {object} order
   * @param {string | null} idempotencyKey
   * @returns {Promise<Reply<Order>>}
   */
  submit(order, idempotencyKey) {
    /** @type {Record<string, string>} */
    const headers = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
    return this.request("POST", "api/orders", { body: order, headers });
  }

  /**
   * @param {string} orderId
   * @param {AbortSignal} signal
   * @returns {Promise<Reply<Order & {events: OrderEvent[]}>>}
   */
  order(orderId, signal) {
    return this.request("GET", `api/orders/${encodeURIComponent(orderId)}`, { signal });
  }

  /**
   * @param {Record<string, string | number | null>} query
   * @param {AbortSignal} signal
   * @returns {Promise<Reply<OrderPage>>}
   */
  orders(query, signal) {
    return this.request("GET", "api/orders", { query, signal });
  }

  /**
   * @param {string} orderId
   * @returns {Promise<Reply<Order>>}
   */
  cancel(orderId) {
    return this.request("DELETE", `api/orders/${encodeURIComponent(orderId)}`);
  }

  /**
   * @param {string | null} userId
   * @returns {Promise<Reply<{wsUrl: string}>>}
   */
  streamTicket(userId) {
    return this.request("POST", "api/stream-tickets", { query: { userId } });
  }
}

/**
 * Parse a JSON object; anything else is an empty one.
 *
 * @param {string} text
 */
export function jsonObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

/** Make a random UUID; `crypto.randomUUID` exists only on https and localhost. */
export function newUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = Array.from(bytes, (byte, at) => {
    if (at === 6) return (byte & 0x0f) | 0x40;
    return at === 8 ? (byte & 0x3f) | 0x80 : byte;
  })
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
