"use strict";

// The parts put together: who trades, the live stream, the order on display.

const HEALTH_RETRY_MS = 5000;
const LIST_POLL_MS = 5000; // while no stream tells of changes
const ORDER_POLL_MS = 1500;

const engineApi = new EngineApi();
let access = null; // "open" or "authenticated", once the API has said it
let canCancelOrders = true;
let shownRequest = null;
let shownPoll = 0;

const stored = {
  name: `order-console ${BASE.pathname}`,
  read(storage) {
    try {
      return window[storage].getItem(this.name) ?? "";
    } catch {
      return ""; // a browser may refuse storage
    }
  },
  write(storage, value) {
    try {
      window[storage].setItem(this.name, value);
    } catch {
      // Then it lasts as long as the page.
    }
  },
};

const isAuthenticated = () => access === "authenticated";
const enteredUser = () => (isAuthenticated() ? null : byId("user").value.trim() || null);

/** Whose orders are mine; null for whoever the token names. */
const ownUser = () => (isAuthenticated() ? null : (enteredUser() ?? TABLES.anonymousUser));

// The live stream

const orderStream = new OrderStream(async () => {
  const { body } = await engineApi.streamTicket(ownUser());
  return body.wsUrl;
});

const CONNECTION_TEXTS = {
  connecting: "Connecting…",
  live: "Live",
  waiting: "Reconnecting…",
  refused: "Not live",
};

orderStream.addEventListener("state", ({ detail: { state } }) => {
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

orderStream.addEventListener("message", ({ detail: message }) => {
  if (message.type === "error" && message.code === "CONNECTION_UNKNOWN") orderStream.restart();
  else if (Number.isInteger(message.seq) && message.status in STATUSES) takeEvent(message);
});

function takeEvent(event) {
  const order = orderTable.apply(event) ?? orderTable.order(event.orderId) ?? orderLife.order;
  if (event.orderId !== orderLife.orderId || event.seq <= orderLife.lastSeq) return;
  if (!orderLife.add(event, order, canCancelOrders)) {
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
  canCancel: () => canCancelOrders,
  onCancel: cancelOrder,
  onDenied: askForToken,
});
const orderLife = new OrderLife({ onCancel: cancelOrder });

async function showOrder(orderId) {
  shownRequest?.abort();
  const request = new AbortController();
  shownRequest = request;
  try {
    const { body, headers } = await engineApi.order(orderId, request.signal);
    const { events, ...shown } = body;
    const order = orderTable.put(shown);
    const now = Date.parse(headers.get("Date")) || 0;
    orderLife.show(order, events, now, canCancelOrders);
    titlePage();
    if (isFinal(events.at(-1)?.status)) orderStream.unwatch();
    else orderStream.watch(orderId, () => orderLife.lastSeq);
  } catch (error) {
    if (request.signal.aborted) return;
    if (!(error instanceof ApiError)) throw error;
    if (orderLife.orderId !== orderId) orderLife.hide();
    showMessage(byId("orders-message"), "error", `Order ${orderId}: ${troubleText(error)}`);
    if (error.status === 401) askForToken();
  }
  pollShownOrder();
}

/** Without a stream, look at the order on display every so often until it is final. */
function pollShownOrder() {
  clearTimeout(shownPoll);
  const { order } = orderLife;
  if (!order || isFinal(order.status) || orderStream.state === "live") return;
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

async function cancelOrder(orderId) {
  const message = byId(orderId === orderLife.orderId ? "cancel-message" : "orders-message");
  showMessage(message, "");
  try {
    const { body } = await engineApi.cancel(orderId);
    orderTable.put(body);
    if (orderId === orderLife.orderId) showOrder(orderId);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const isNoRoute =
      error.status === 405 || (error.status === 404 && error.code !== "ORDER_NOT_FOUND");
    if (isNoRoute) {
      canCancelOrders = false;
      byId("cancel").hidden = true;
      orderTable.redraw();
    }
    const text = isNoRoute ? "This engine does not cancel orders yet." : troubleText(error);
    showMessage(message, "error", text);
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

byId("user").value = stored.read("localStorage");
let usedUser = byId("user").value;
byId("account").addEventListener("submit", (event) => {
  event.preventDefault();
  useAccount();
});
byId("user").addEventListener("change", useAccount);

function useAccount() {
  if (isAuthenticated()) {
    engineApi.token = byId("token").value.trim();
    stored.write("sessionStorage", engineApi.token);
    setFieldError("token", engineApi.token ? "" : "Paste a token.");
    if (!engineApi.token) return;
  } else {
    const user = byId("user").value.trim();
    if (user === usedUser) return;
    usedUser = user;
    stored.write("localStorage", user);
  }
  begin();
}

function askForToken() {
  if (!isAuthenticated()) return;
  setFieldError("token", engineApi.token ? "The token was refused." : "The API asks for a token.");
  if (!document.activeElement || document.activeElement === document.body) byId("token").focus();
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
    if (!(error instanceof ApiError)) throw error;
    banner.hidden = false;
    setText(banner, `${troubleText(error)} The console keeps trying.`);
    setTimeout(greet, HEALTH_RETRY_MS);
  }
}

byId("docs").href = new URL("docs", BASE).href;
addEventListener("hashchange", followHash);
setInterval(() => {
  const isTold = orderStream.state === "live" && !orderTable.showsEveryone;
  const isAllowed = access === "open" || Boolean(engineApi.token);
  if (!isTold && isAllowed && document.visibilityState === "visible") orderTable.refresh();
}, LIST_POLL_MS);
greet();
