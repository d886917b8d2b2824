// The API key: asked for when the server wants one, kept in this tab until it is closed.

import { part } from "./dom.js";

const NAME = "vizecg-api-key";
let asking = null; // Two requests may be refused at once; one question is enough.

export function keyHeaders() {
  const key = sessionStorage.getItem(NAME);
  return key ? { "X-API-Key": key } : {};
}

// Whether there is a key to try afterwards.
export function askForKey(reason) {
  asking ??= ask(reason).finally(() => (asking = null));
  return asking;
}

function ask(reason) {
  const dialog = part("key-dialog");
  part("key-reason").textContent = reason;
  part("key").value = "";
  part("key-forget").hidden = !sessionStorage.getItem(NAME);
  part("key-change").hidden = false;
  dialog.returnValue = ""; // It would keep that of the last time if closed with Escape.
  dialog.showModal();
  part("key").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use"), { once: true });
  });
}

export function wireKey() {
  const dialog = part("key-dialog");
  part("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(NAME, part("key").value);
    part("key").value = "";
    dialog.close("use");
  });
  part("key-forget").addEventListener("click", () => {
    sessionStorage.removeItem(NAME);
    dialog.close("");
  });
  part("key-cancel").addEventListener("click", () => dialog.close(""));
  part("key-change").addEventListener("click", () => askForKey("Another key takes the place of the one in use."));
  part("key-change").hidden = !sessionStorage.getItem(NAME);
}
