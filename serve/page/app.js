// One picture in, one reading out. All text is set as text, never as HTML: file names and labels are foreign words.

const part = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const SHOWN_LABELS = 10; // A label space may have 71; of the negative ones the likeliest are enough at first.
let reading = null; // AbortController of the picture in work: a newer one takes its place.

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function read(file) {
  reading?.abort();
  const mine = (reading = new AbortController());
  showPicture(file);
  showBusy();
  try {
    const response = await fetch("v1/predict", { method: "POST", body: file, signal: mine.signal });
    const answer = await response.json().catch(() => null);
    if (mine.signal.aborted) return;
    if (response.ok && answer) showResult(answer);
    else showError(answer?.detail ?? `The server answered ${response.status}.`, answer?.code ?? "", answer?.request_id);
  } catch (error) {
    if (error.name !== "AbortError") showError("The server cannot be reached. Is it still running?", "no_connection");
  }
}

function showPicture(file) {
  const picture = part("picture");
  URL.revokeObjectURL(picture.src);
  picture.hidden = false;
  picture.alt = `The picture being read: ${file.name || "pasted"}`;
  part("caption").textContent = `${file.name || "Pasted picture"}, ${Math.max(1, Math.round(file.size / 1024))} kB`;
  picture.onerror = () => {
    picture.hidden = true; // A TIFF that the server reads, or no picture at all, which the server will say.
    part("caption").textContent += " (this browser cannot show it)";
  };
  picture.src = URL.createObjectURL(file);
  part("figure").hidden = false;
  part("drop").classList.add("small");
}

function showBusy() {
  part("error").hidden = part("result").hidden = true;
  part("status").className = "busy";
  part("status").textContent = "Reading…";
}

function showError(detail, code, requestId) {
  const advice = {
    not_an_ecg: "Send one whole page of a 12-lead ECG, as straight as you can.",
    not_an_image: "Send a picture or a PDF of the page.",
    truncated: "Open it in a picture viewer and save it again.",
    too_large: "Save it smaller: 2,000 pixels across are plenty.",
    too_many_pixels: "Save it smaller: 2,000 pixels across are plenty.",
    too_small: "Send the picture at its original size.",
    bad_aspect: "Send the whole page rather than a strip of it.",
    busy: "Many are asking at once. Try again in a moment.",
  }[code];
  part("status").textContent = "";
  const error = part("error");
  error.replaceChildren(element("strong", "This picture was not read."), element("span", detail));
  if (advice) error.append(" ", element("span", advice));
  if (requestId) error.append(element("small", `Request ${requestId}`));
  error.hidden = false;
}

function showResult(answer) {
  const positive = answer.labels.filter((label) => label.positive);
  part("status").className = "";
  part("status").textContent = positive.length
    ? `Positive: ${positive.map((label) => label.name).join(", ")}`
    : "No label reaches its threshold";
  showLabels(answer.labels, Math.max(SHOWN_LABELS, positive.length));
  part("facts").replaceChildren(
    ...fact("Model", `${answer.model.name}, bundle ${answer.model.bundle_hash.slice(0, 12)}`),
    ...fact("Page", answer.page.turned_deg ? `turned by ${answer.page.turned_deg}°` : "upright"),
    ...fact("Time", `${answer.timing_ms.decode.toFixed(0)} ms to decode, ${answer.timing_ms.predict.toFixed(0)} ms to read`),
    ...fact("Request", answer.request_id),
  );
  part("result").hidden = false;
}

function showLabels(labels, shown) {
  const sorted = labels.toSorted((a, b) => b.positive - a.positive || b.probability - a.probability);
  const rest = sorted.slice(shown);
  part("labels").replaceChildren(...sorted.slice(0, shown).map(labelRow));
  part("more").hidden = !rest.length;
  part("more").querySelector("summary").textContent = `${rest.length} more below their thresholds`;
  part("more").querySelector("ol").replaceChildren(...rest.map(labelRow));
}

function labelRow(label) {
  const row = element("div", "", "row");
  row.append(element("span", label.name, "name"));
  if (label.positive) row.append(element("span", "positive", "mark-positive"));
  row.append(element("span", percent(label.probability), "value"));
  row.append(element("span", `, threshold ${percent(label.threshold)}`, "unseen"));
  const item = element("li", "", label.positive ? "positive" : "");
  item.title = `${label.key}: ${label.probability.toFixed(3)}, threshold ${label.threshold.toFixed(3)}`;
  item.append(row, bar(label));
  return item;
}

// Drawn as SVG, because the content security policy forbids inline styles.
function bar(label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.append(
    shape("rect", { class: "fill", width: 100 * label.probability, height: 10 }),
    shape("line", { class: "threshold", x1: 100 * label.threshold, x2: 100 * label.threshold, y1: -4, y2: 14 }),
  );
  const holder = element("div", "", "bar");
  holder.setAttribute("aria-hidden", "true");
  holder.append(svg);
  return holder;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function fact(term, text) {
  return [element("dt", term), element("dd", text)];
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.001 && share < 0.1 ? 1 : 0)} %`;
}

function takeFrom(transfer) {
  const [file] = transfer?.files ?? [];
  if (file) read(file);
  return Boolean(file);
}

part("file").addEventListener("change", (event) => {
  takeFrom(event.target);
  event.target.value = ""; // The same file may be chosen again.
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  part("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) part("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  part("drop").classList.remove("over");
  takeFrom(event.dataTransfer);
});
document.addEventListener("paste", (event) => {
  if (takeFrom(event.clipboardData)) event.preventDefault();
});
part("status").className = "busy";
part("status").textContent = "The reading will appear here.";
part("example").textContent = `curl --data-binary @page.png ${new URL("v1/predict", document.baseURI)}`;
