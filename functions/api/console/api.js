"use strict";

// The HTTP API. Everything is relative to where the page is, for a gateway may serve the API below
// a path of its own.

const BASE = new URL(location.pathname.replace(/\/?$/, "/"), location.origin);
const REQUEST_MS = 15000;

/** A request without success; any other error is a fault of the page. */
class ApiError extends Error {}

/** The API's answer to a request that it did not carry out (RFC 9457, or the gateway's own). */
class Problem extends ApiError {
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
class Unreachable extends ApiError {}

class EngineApi {
  /** Bearer token, where the API asks for one. */
  token = "";

  /** Return `{body, headers}`; throw Problem, Unreachable, or the AbortError of `signal`. */
  async request(method, path, { query = {}, body, headers = {}, signal } = {}) {
    const url = new URL(path, BASE);
    for (const [name, value] of Object.entries(query)) {
      if (value !== null && value !== "") url.searchParams.set(name, value);
    }
    const timeout = AbortSignal.timeout(REQUEST_MS);
    let response, text;
    try {
      response = await fetch(url, {
        method,
        headers: {
          ...(body && { "Content-Type": "application/json" }),
          ...(this.token && { Authorization: `Bearer ${this.token}` }),
          ...headers,
        },
        body: body && JSON.stringify(body),
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

  health() {
    return this.request("GET", "api/health");
  }

  quotes(query, signal) {
    return this.request("GET", "api/quotes", { query, signal });
  }

  submit(order, idempotencyKey) {
    const headers = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
    return this.request("POST", "api/orders", { body: order, headers });
  }

  order(orderId, signal) {
    return this.request("GET", `api/orders/${encodeURIComponent(orderId)}`, { signal });
  }

  orders(query, signal) {
    return this.request("GET", "api/orders", { query, signal });
  }

  cancel(orderId) {
    return this.request("DELETE", `api/orders/${encodeURIComponent(orderId)}`);
  }

  streamTicket(userId) {
    return this.request("POST", "api/stream-tickets", { query: { userId } });
  }
}

function jsonObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

/** A random UUID; `crypto.randomUUID` exists only on https and localhost. */
function newUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
