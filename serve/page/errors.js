// Why a picture was not read, and what to do about it.

import { button, element, part } from "./dom.js";

const SMALLER = "Save it smaller: 2,000 pixels across are plenty.";
const PLAIN = "Open it in a picture viewer, save it as PNG or JPEG, and try that.";
const LATER = "Many are asking at once. Try again in a moment.";

const ADVICE = {
  not_an_ecg: "Send one whole page of a 12-lead ECG, as straight as you can.",
  not_an_image: "Send a picture or a PDF of the page.",
  unsupported: PLAIN,
  truncated: PLAIN,
  too_complex: PLAIN,
  too_slow: PLAIN,
  animated: "Send a single picture.",
  too_large: SMALLER,
  too_many_pixels: SMALLER,
  too_many_pages: "Save the page you want as a file of its own.",
  too_small: "Send the picture at its original size.",
  bad_aspect: "Send the whole page rather than a strip of it.",
  no_such_page: "Choose another page of the document.",
  empty: "The file is empty; choose another.",
  no_such_model: "Choose another model.",
  changed: "Read the page again.",
  unreadable_file: "Was it moved, changed or deleted? Choose it again.",
  busy: LATER,
  not_ready: "The model is still being loaded. Try again in a moment.",
  model_loading: "It is loaded when it is first asked for; try again in a moment.",
  model_unavailable: "Choose another model, or try again in a moment.",
  too_many_requests: "This key has asked too often. Try again in a moment.",
  no_connection: "Is it still running, and is this machine online?",
  unauthorized: "Enter the API key that you were given.",
  key_expired: "Ask whoever runs the endpoint for a new key.",
  internal_error: "Try again; if it stays so, tell whoever runs the endpoint the request below.",
};
const WORTH_A_RETRY = new Set(["busy", "not_ready", "model_loading", "model_unavailable", "too_many_requests", "no_connection", "internal_error", "changed"]);

export function adviceOn(refusal) {
  return ADVICE[refusal.code] ?? (refusal.status === 503 ? LATER : "");
}

// `retry` reads the same page once more.
export function showError(refusal, retry) {
  part("status").textContent = "";
  part("status").className = "";
  const said = element("p");
  said.append(element("span", refusal.message), " ", element("span", adviceOn(refusal)));
  const again = () => {
    part("reading").focus(); // The button is about to vanish.
    retry();
  };
  const error = part("error");
  error.replaceChildren(element("strong", "This picture was not read."), said);
  if (refusal.status === 401) error.append(button("Enter the API key", again));
  else if (WORTH_A_RETRY.has(refusal.code) || refusal.status >= 500) error.append(button("Try again", again));
  if (refusal.requestId) error.append(element("small", `Request ${refusal.requestId}`));
  error.hidden = false;
}
