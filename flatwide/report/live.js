// Reloads the page of an incomplete study while it is being rewritten, unless its reader is busy with it.
(() => {
  "use strict";
  const progress = document.querySelector("[data-reload-seconds]");
  if (!progress) return;
  const MOST_AGE = 3600e3; // milliseconds; a page that is older belongs to a study that has stopped
  const button = progress.querySelector("button");

  const isPaused = () => button.getAttribute("aria-pressed") === "true";
  const isBusy = () =>
    document.hidden || document.getElementById("filter").value !== "" || document.querySelector("main details[open]");
  const isOld = () => Date.now() - Date.parse(document.lastModified) > MOST_AGE;

  button.hidden = false;
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(!isPaused())));
  // Charts are drawn after the browser has restored the position, which moves everything below them.
  addEventListener("chartsdrawn", () => scrollTo(0, history.state?.scrollY ?? scrollY), { once: true });
  setInterval(() => {
    if (isPaused() || isBusy() || isOld()) return;
    history.replaceState({ scrollY }, "");
    location.reload();
  }, 1000 * progress.dataset.reloadSeconds);
})();
