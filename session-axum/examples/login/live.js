// Replaces the list of devices when it changes, and the page when its session ends.
const FIRST_WAIT = 1000; // milliseconds
const LONGEST_WAIT = 60000;
const LONGEST_ANSWER = 10000;
let wait = FIRST_WAIT;

function connect() {
  const events = new EventSource("/live");
  events.addEventListener("devices", ({ data }) => {
    wait = FIRST_WAIT;
    showDevices(data);
  });
  events.addEventListener("ended", ({ data }) => {
    events.close();
    document.querySelector("main").innerHTML = data;
  });
  events.addEventListener("error", () => {
    // The browser would try again after a constant time, and after a 503 never.
    events.close();
    tryLater();
  });
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
  setTimeout(tryAgain, wait * (0.5 + Math.random()));
  wait = Math.min(2 * wait, LONGEST_WAIT);
}

async function tryAgain() {
  // An EventSource does not show the status.
  const ask = { method: "HEAD", signal: AbortSignal.timeout(LONGEST_ANSWER) };
  const answer = await fetch("/live", ask).catch(() => null);
  if (answer?.ok) connect();
  else if (answer?.status === 401) location.reload(); // the session has ended: the page says so
  else tryLater();
}

connect();
