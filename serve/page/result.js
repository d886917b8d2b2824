// What a reading says: findings, what makes it less sure, labels, facts.

import { element, part } from "./dom.js";
import { showLabels } from "./labels.js";

const SURE_ECG_SCORE = 0.8; // The server refuses below 0.2; between them a page is read, and this is said.

export function showBusy() {
  part("error").hidden = part("result").hidden = true;
  part("status").className = "busy";
  part("status").textContent = "Reading…";
  part("reading").setAttribute("aria-busy", "true");
}

export function showNothing() {
  part("error").hidden = part("result").hidden = true;
  part("status").className = "empty";
  part("status").textContent = "The reading will appear here.";
}

export function showResult(reading, choose) {
  const { answer } = reading;
  part("error").hidden = true;
  const [sure, near] = sentences(verdict(answer));
  part("status").className = "";
  part("status").replaceChildren(element("span", sure), " ", element("span", near, "near"));
  part("warnings").replaceChildren(...warnings(answer).map(([kind, text]) => element("li", text, kind)));
  part("warnings").hidden = !part("warnings").children.length;
  showLabels(answer.labels, choose);
  part("facts").replaceChildren(...facts(reading));
  part("result").hidden = false;
}

// What the model is sure of, and what it had better not decide: names.
export function verdict({ labels, findings }) {
  const near = labels.filter((label) => label.uncertain);
  const sure = findings.filter((finding) => !near.some((label) => label.key === finding.key));
  return {
    sure: sure.map((finding) => finding.display),
    near: near.map((label) => `${label.name} (just ${label.positive ? "over" : "under"})`),
  };
}

function sentences({ sure, near }) {
  const none = near.length ? "No label is clearly positive." : "No label reaches its threshold.";
  return [
    sure.length ? `Positive: ${sure.join(", ")}.` : none,
    near.length ? `Uncertain, too near to the threshold to decide: ${near.join(", ")}.` : "",
  ];
}

// [kind, sentence], the grave ones first.
function warnings({ page, calibrated }) {
  const told = page.warnings.map((warning) => ["warning", warning.text]);
  const isTold = (word) => page.warnings.some((warning) => warning.code.includes(word));
  if (page.ecg_score !== null && page.ecg_score < SURE_ECG_SCORE && !isTold("ecg"))
    told.push(["warning", `This looks only partly like a page of a 12-lead ECG (score ${page.ecg_score.toFixed(2)} of 1).`]);
  if (!page.turn_is_clear && !isTold("turn"))
    told.push(["warning", "Which way up this page belongs is not clear. Turn it upright and read it again if it is not."]);
  if (page.turned_deg) told.push(["hint", `The picture was turned by ${page.turned_deg}° to stand upright.`]);
  if (page.note) told.push(["hint", `Straightened: ${page.note}`]);
  if (!calibrated) told.push(["hint", "The probabilities of this model are not calibrated: take them as scores."]);
  return told;
}

function facts({ answer, time, name }) {
  const { model, page, timing_ms: timing } = answer;
  const pages = page.num_pages > 1 ? `${page.number} of ${page.num_pages}` : "";
  const size = page.width_px ? `${page.width_px} × ${page.height_px} pixels` : "";
  const rows = {
    Picture: [name, size].filter(Boolean).join(", "),
    Page: pages,
    Layout: page.layout ?? "",
    Read: time.toLocaleString(),
    Model: `${model.name}${model.canary ? " (on trial)" : ""}, bundle ${model.bundle_hash.slice(0, 12)}, ${model.backend}`,
    Time: `${timing.decode.toFixed(0)} ms to decode, ${timing.predict.toFixed(0)} ms to read`,
    Request: answer.request_id,
  };
  return Object.entries(rows).flatMap(([term, text]) => (text ? [element("dt", term), element("dd", text)] : []));
}
