// Replaces the list of devices when it changes, and the page when its session ends.
const FIRST_WAIT = 1000; // milliseconds
const LONGEST_WAIT = 60000;
const LONGEST_ANSWER = 10000;
let wait = FIRST_WAIT;
let timer;
let events;

function connect() {
  disconnect();
  events = new EventSource("/live");
  events.addEventListener("devices", ({ data }) => {
    wait = FIRST_WAIT;
    showDevices(data);
  });
  events.addEventListener("ended", ({ data }) => {
    disconnect();
    document.removeEventListener("visibilitychange", follow);
    document.querySelector("main").innerHTML = data;
  });
  events.addEventListener("error", () => {
    // The browser would try again after a constant time, and after a 503 never.
    disconnect();
    tryLater();
  });
}

function disconnect() {
  clearTimeout(timer);
  events?.close();
}

// A user of the keyboard stays at the same button, or in the list if the device is gone.
function showDevices(html) {
  const list = document.getElementById("device-list");
  const focused = list.contains(document.activeElement) ? document.activeElement.id : null;
  list.outerHTML = html;
  if (focused === null) return;
  const button = document.getElementById(focused) ?? document.getElementById("device-list");
  button.focus({ preventScroll: true });
}

// Exponential back-off with jitter: the pages do not reconnect at the same time after a restart
// of the server.
function tryLater() {
  timer = setTimeout(tryAgain, wait * (0.5 + Math.random()));
  wait = Math.min(2 * wait, LONGEST_WAIT);
}

async function tryAgain() {
  // An EventSource does not show the status.
  const ask = { method: "HEAD", signal: AbortSignal.timeout(LONGEST_ANSWER) };
  const answer = await fetch("/live", ask).catch(() => null);
  if (document.hidden) return;
  if (answer?.ok) connect();
  else if (answer?.status === 401) location.reload(); // the session has ended: the page says so
  else tryLater();
}

// Without HTTP/2, a browser opens six connections to a host, for all tabs together. A hidden page
// needs none.
function follow() {
  disconnect();
  if (!document.hidden) tryAgain();
}

// Chromium may show a page from its memory again after a sign-out, despite `no-store`. The memory
// gets an empty page, which is loaded again.
addEventListener("pagehide", () => document.body.replaceChildren());
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) location.reload();
});

document.addEventListener("visibilitychange", follow);
if (!document.hidden) connect();
