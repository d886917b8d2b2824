// What is asked of the server, and only of it. Whatever goes wrong becomes a Refusal.

import { askForKey, keyHeaders } from "./key.js";

const LARGE_BYTES = 8e6;

export class Refusal extends Error {
  constructor({ detail, code = "", status = 0, request_id = "" }) {
    super(detail);
    this.code = code;
    this.status = status;
    this.requestId = request_id;
  }
}

// source: {file, page, model, straighten} -> PredictResponse.
export function predict(source, signal) {
  return post(source, { page_image: true }, signal);
}

// The page under a highlighter, for a label by key or `top`: {key, image, media_type}.
export async function explain(reading, key, signal) {
  // Under the id of the reading: where two bundles share the requests, an id always goes to the same one.
  const headers = { "X-Request-ID": reading.answer.request_id };
  const answer = await post(reading, { explain: key }, signal, headers);
  if (answer.model.bundle_hash !== reading.answer.model.bundle_hash)
    throw new Refusal({ code: "changed", detail: "The model has changed since this page was read." });
  return answer.explanations[0];
}

export async function listModels() {
  return (await ask("v1/models", {})).models;
}

async function post({ file, page, model, straighten }, wishes, signal, headers = {}) {
  const query = new URLSearchParams(wishes);
  if (model) query.set("model", model);
  if (page > 1) query.set("page", page);
  if (straighten) query.set("rectify", true);
  try {
    return await ask(`v1/predict?${query}`, { method: "POST", body: file, signal, headers });
  } catch (error) {
    throw error.code === "no_connection" ? await lostConnection(file, error) : error;
  }
}

async function ask(path, options) {
  for (;;) {
    const response = await send(path, options);
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer;
    const detail = answer?.detail ?? `The server answered ${response.status} without saying why.`;
    const refusal = new Refusal({ ...answer, detail, status: response.status });
    if (response.status !== 401 || !(await askForKey(detail))) throw refusal;
    options.signal?.throwIfAborted();
  }
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, headers: { ...options.headers, ...keyHeaders() } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal({ code: "no_connection", detail: "The server cannot be reached." });
  }
}

// A browser says the same of a server that is gone, of a body it does not want, and of a file it cannot read any more.
async function lostConnection(file, error) {
  const readable = await file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  if (!readable) return new Refusal({ code: "unreadable_file", detail: "The file cannot be read any more." });
  if (file.size < LARGE_BYTES) return error;
  const size = `${Math.round(file.size / 1e6)} MB`;
  return new Refusal({ code: "no_connection", detail: `The server closed the connection; ${size} may be too much for it.` });
}
