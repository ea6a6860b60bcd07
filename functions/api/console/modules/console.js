// The parts put together: who trades, the live stream, the order on display.

import { BASE, EngineApi } from "console/api.js";
import { byId, partOf, setText, showMessage } from "console/elements.js";
import { amountText } from "console/format.js";
import { OrderLife } from "console/life.js";
import { OrderTable } from "console/orders.js";
import { ofRequest, setFieldError, troubleText } from "console/problems.js";
import { OrderStream } from "console/stream.js";
import { isFinal, STATUSES, TABLES } from "console/tables.js";
import { Ticket } from "console/ticket.js";

/** @typedef {import("./contract.js").OrderEvent} OrderEvent */

const HEALTH_RETRY_MS = 5000;
const LIST_POLL_MS = 5000; // while no stream tells of changes
const ORDER_POLL_MS = 1500;

const engineApi = new EngineApi();
const userEntry = partOf("user", HTMLInputElement);
const tokenEntry = partOf("token", HTMLInputElement);

let access = ""; // "open" or "authenticated", once the API has said it
/** @type {AbortController | null} */
let shownRequest = null;
let shownPoll = 0;

/** @typedef {"localStorage" | "sessionStorage"} StorageName */

const stored = {
  name: `order-console ${BASE.pathname}`,
  /** @param {StorageName} storage */
  read(storage) {
    try {
      return window[storage].getItem(this.name) ?? "";
    } catch {
      return ""; // a browser may refuse storage
    }
  },
  /**
   * @param {StorageName} storage
   * @param {string} value
   */
  write(storage, value) {
    try {
      window[storage].setItem(this.name, value);
    } catch {
      // Then it lasts as long as the page.
    }
  },
};

const isAuthenticated = () => access === "authenticated";
const enteredUser = () => (isAuthenticated() ? null : userEntry.value.trim() || null);

/** Return whose orders are mine; null for whoever the token names. */
function ownUser() {
  return isAuthenticated() ? null : (enteredUser() ?? TABLES.anonymousUser);
}

// The live stream

const orderStream = new OrderStream(async () => {
  const { body } = await engineApi.streamTicket(ownUser());
  return body.wsUrl;
});

const CONNECTION_TEXTS = {
  idle: "Not connected",
  connecting: "Connecting…",
  live: "Live",
  waiting: "Reconnecting…",
  refused: "Not live",
};

orderStream.addEventListener("state", () => {
  const { state } = orderStream;
  const pill = byId("connection");
  pill.dataset.state = state;
  setText(pill, CONNECTION_TEXTS[state]);
  if (state === "live") {
    // What happened since the last connection may be more than a replay holds.
    orderTable.refresh();
    if (orderLife.orderId) showOrder(orderLife.orderId);
  } else {
    pollShownOrder();
  }
});

orderStream.addEventListener("message", (event) => {
  if (!(event instanceof CustomEvent)) return;
  const message = event.detail;
  if (message.type === "error" && message.code === "CONNECTION_UNKNOWN") orderStream.restart();
  else if (Number.isInteger(message.seq) && message.status in STATUSES) takeEvent(message);
});

/** @param {OrderEvent} event */
function takeEvent(event) {
  const order = orderTable.apply(event) ?? orderTable.order(event.orderId) ?? orderLife.order;
  if (event.orderId !== orderLife.orderId || event.seq <= orderLife.lastSeq) return;
  if (!order || !orderLife.add(event, order)) {
    showOrder(event.orderId); // an event is missing in between
    return;
  }
  titlePage();
  if (event.final) {
    orderStream.unwatch();
    showOrder(event.orderId); // with all that the events leave out
  }
}

// The order on display

const orderTable = new OrderTable(engineApi, {
  owner: ownUser,
  onCancel: cancelOrder,
  onDenied: askForToken,
});
const orderLife = new OrderLife({ onCancel: cancelOrder });

/** @param {string} orderId */
async function showOrder(orderId) {
  shownRequest?.abort();
  const request = new AbortController();
  shownRequest = request;
  try {
    const { body, headers } = await engineApi.order(orderId, request.signal);
    const { events, ...shown } = body;
    const order = orderTable.put(shown);
    const now = Date.parse(headers.get("Date") ?? "") || 0;
    orderLife.show(order, events, now);
    titlePage();
    if (isFinal(events.at(-1)?.status)) orderStream.unwatch();
    else orderStream.watch(orderId, () => orderLife.lastSeq);
  } catch (caught) {
    if (request.signal.aborted) return;
    const error = ofRequest(caught);
    if (orderLife.orderId !== orderId) orderLife.hide();
    showMessage(byId("orders-message"), "error", `Order ${orderId}: ${troubleText(error)}`);
    if (error.status === 401) askForToken();
  }
  pollShownOrder();
}

/** Look at the order on display every so often: while it waits, and without a stream. */
function pollShownOrder() {
  clearTimeout(shownPoll);
  const { order } = orderLife;
  if (!order || isFinal(order.status)) return;
  if (orderStream.state === "live" && !order.queue) return;
  shownPoll = setTimeout(() => {
    if (document.visibilityState === "visible") showOrder(order.orderId);
    else pollShownOrder();
  }, ORDER_POLL_MS);
}

function titlePage() {
  const { order } = orderLife;
  document.title = order
    ? `${order.status} · ${amountText(order.amountIn)} ${order.tokenIn} → ${order.tokenOut}`
    : "Order console";
}

function followHash() {
  const [orderId = ""] = /^[0-9a-f-]{36}$/.exec(location.hash.slice(1)) ?? [];
  orderTable.select(orderId);
  if (!orderId) {
    orderStream.unwatch();
    orderLife.hide();
    titlePage();
  } else if (orderId !== orderLife.orderId) {
    showOrder(orderId);
  }
}

/** @param {string} orderId */
async function cancelOrder(orderId) {
  const message = byId(orderId === orderLife.orderId ? "cancel-message" : "orders-message");
  showMessage(message, "");
  try {
    const { body } = await engineApi.cancel(orderId);
    orderTable.put(body);
    if (orderId === orderLife.orderId) showOrder(orderId);
  } catch (caught) {
    const error = ofRequest(caught);
    showMessage(message, "error", troubleText(error));
  }
}

// The order form

const orderTicket = new Ticket(engineApi, {
  userId: enteredUser,
  onAccepted(order) {
    orderTable.put(order);
    if (location.hash === `#${order.orderId}`) showOrder(order.orderId);
    else location.hash = order.orderId;
  },
  onDenied: askForToken,
});

// Who trades

userEntry.value = stored.read("localStorage");
let usedUser = userEntry.value;
byId("account").addEventListener("submit", (event) => {
  event.preventDefault();
  useAccount();
});
userEntry.addEventListener("change", useAccount);

function useAccount() {
  if (isAuthenticated()) {
    engineApi.token = tokenEntry.value.trim();
    stored.write("sessionStorage", engineApi.token);
    setFieldError("token", engineApi.token ? "" : "Paste a token.");
    if (!engineApi.token) return;
  } else {
    const user = userEntry.value.trim();
    if (user === usedUser) return;
    usedUser = user;
    stored.write("localStorage", user);
  }
  begin();
}

function askForToken() {
  if (!isAuthenticated()) return;
  setFieldError("token", engineApi.token ? "The token was refused." : "The API asks for a token.");
  if (!document.activeElement || document.activeElement === document.body) tokenEntry.focus();
}

/** Load everything for the present user. */
function begin() {
  orderStream.restart();
  orderTable.reload();
  orderTicket.begin();
  followHash();
}

async function greet() {
  const banner = byId("banner");
  try {
    const { body } = await engineApi.health();
    banner.hidden = true;
    access = body.access;
    byId("user-entry").hidden = isAuthenticated();
    byId("token-entry").hidden = !isAuthenticated();
    byId("account-apply").hidden = !isAuthenticated();
    byId("scope").hidden = isAuthenticated();
    if (isAuthenticated()) engineApi.token = stored.read("sessionStorage");
    if (isAuthenticated() && !engineApi.token) askForToken();
    else begin();
  } catch (error) {
    banner.hidden = false;
    setText(banner, `${troubleText(ofRequest(error))} The console keeps trying.`);
    setTimeout(greet, HEALTH_RETRY_MS);
  }
}

partOf("docs", HTMLAnchorElement).href = new URL("docs", BASE).href;
addEventListener("hashchange", followHash);
setInterval(() => {
  const isTold = orderStream.state === "live" && !orderTable.showsEveryone;
  const isAllowed = access === "open" || Boolean(engineApi.token);
  if (!isTold && isAllowed && document.visibilityState === "visible") orderTable.refresh();
}, LIST_POLL_MS);
greet();
