// Replaces the list of devices when it changes, and the page when its session ends.
const events = new EventSource("/live");
events.addEventListener("devices", ({ data }) => {
  document.getElementById("device-list").outerHTML = data;
});
events.addEventListener("ended", ({ data }) => {
  events.close();
  document.querySelector("main").innerHTML = data;
});
events.addEventListener("error", () => {
  // A browser does not connect again after a 401: the session ended while the server restarted.
  if (events.readyState === EventSource.CLOSED) location.reload();
});
