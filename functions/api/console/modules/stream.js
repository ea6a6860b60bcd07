// One WebSocket connection: all orders of a user, and the order on display, whoever's it is.
// It reconnects for ever; after each reconnect the order on display continues behind the last seq.

import { jsonObject, Problem } from "console/api.js";
import { ofRequest } from "console/problems.js";

/** @typedef {"idle" | "connecting" | "live" | "waiting" | "refused"} State */
/** @typedef {{orderId: string, lastSeq: () => number}} Watched */

const PING_MS = 4 * 60 * 1000; // the gateway closes a connection that is silent for 10 minutes
const PONG_MS = 8000;
const OPEN_MS = 15000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15000;

/**
 * Dispatches `state` (its detail is the new state) and `message` (its detail is the parsed message).
 *
 * States: `idle` (before the first `restart`), `connecting`, `live`, `waiting` (for the next try),
 * `refused` (until the next `restart`).
 */
export class OrderStream extends EventTarget {
  /** @type {State} */
  state = "idle";
  #locate;
  /** What is open, or is being opened. @type {{close(): void} | null} */
  #socket = null;
  #attempt = 0;
  #retryTimer = 0;
  #pingTimer = 0;
  #pongTimer = 0;
  /** @type {Watched | null} */
  #watched = null;

  /**
   * `locate` promises the URL to connect to; it is good for one connection.
   *
   * @param {() => Promise<string>} locate
   */
  constructor(locate) {
    super();
    this.#locate = locate;
    addEventListener("online", () => this.#hurry());
    addEventListener("pageshow", () => this.#hurry());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#hurry();
    });
  }

  /** Connect, anew if need be: the URL or the user may have changed. */
  restart() {
    this.#attempt = 0;
    this.#connect();
  }

  /**
   * Stream one order besides the user's; `lastSeq` returns the highest seq that has been seen.
   *
   * @param {string} orderId
   * @param {() => number} lastSeq
   */
  watch(orderId, lastSeq) {
    if (this.#watched?.orderId === orderId) return;
    this.unwatch();
    this.#watched = { orderId, lastSeq };
    this.#subscribe();
  }

  unwatch() {
    if (this.#watched) this.#send({ action: "unsubscribe", orderId: this.#watched.orderId });
    this.#watched = null;
  }

  async #connect() {
    this.#drop();
    this.#become("connecting");
    const placeholder = { close() {} };
    this.#socket = placeholder;
    /** @type {string} */
    let url;
    try {
      url = await this.#locate();
    } catch (caught) {
      const error = ofRequest(caught);
      if (this.#socket !== placeholder) return;
      const isRefusal = error instanceof Problem && error.status < 500 && error.status !== 429;
      if (isRefusal) this.#become("refused");
      else this.#retryLater(error instanceof Problem ? error.retryAfterSeconds : null);
      return;
    }
    if (this.#socket === placeholder) this.#open(new WebSocket(url));
  }

  /** @param {WebSocket} socket */
  #open(socket) {
    this.#socket = socket;
    const isCurrent = () => this.#socket === socket;
    const late = setTimeout(() => {
      if (isCurrent()) this.#lost();
    }, OPEN_MS);
    socket.onopen = () => {
      clearTimeout(late);
      if (!isCurrent()) return;
      this.#become("live");
      this.#subscribe();
      this.#pingTimer = setInterval(() => this.#ping(), PING_MS);
    };
    socket.onmessage = ({ data }) => {
      if (!isCurrent()) return;
      this.#attempt = 0;
      clearTimeout(this.#pongTimer);
      const message = jsonObject(data);
      if (message.type !== "pong") {
        this.dispatchEvent(new CustomEvent("message", { detail: message }));
      }
    };
    socket.onclose = () => {
      clearTimeout(late);
      if (isCurrent()) this.#lost();
    };
  }

  #ping() {
    this.#send({ action: "ping" });
    clearTimeout(this.#pongTimer);
    this.#pongTimer = setTimeout(() => this.#lost(), PONG_MS);
  }

  #subscribe() {
    if (this.#watched) {
      const { orderId, lastSeq } = this.#watched;
      this.#send({ action: "subscribe", orderId, afterSeq: lastSeq() });
    }
  }

  /** @param {object} message */
  #send(message) {
    const socket = this.#socket;
    if (socket instanceof WebSocket && socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify(message));
    }
  }

  /** Do what cannot wait now that somebody looks: reconnect, or see whether the line is dead. */
  #hurry() {
    if (this.state === "waiting") this.restart();
    else if (this.state === "live") this.#ping();
  }

  #lost() {
    this.#drop();
    this.#retryLater();
  }

  /** @param {number | null} seconds */
  #retryLater(seconds = null) {
    const ceiling = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#attempt);
    this.#attempt += 1;
    // Half of the wait is random, so that a thousand consoles do not return at once.
    const wait = seconds ? seconds * 1000 : ceiling * (0.5 + Math.random() / 2);
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#become("waiting");
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    clearInterval(this.#pingTimer);
    clearTimeout(this.#pongTimer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** @param {State} state */
  #become(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
