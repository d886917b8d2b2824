// The page as it was sent, as the model saw it, and under a highlighter.

import { explain } from "./api.js";
import { adviceOn } from "./errors.js";
import { dataUrl, part } from "./dom.js";
import { markExplained } from "./labels.js";

const showable = new WeakMap(); // File -> promise of whether this browser can show it.
let shown = null;
let looking = null; // AbortController of the highlights being asked for.

// Before the answer: what was sent, where the browser can show it.
export async function showSent(source) {
  reset(source);
  part("caption").textContent = `${source.name}, ${size(source.file)}`;
  part("figure").hidden = false;
  part("drop").classList.add("small");
  setPicture(null);
  if (!(await canShow(source.file)) || shown !== source) return;
  setPicture(URL.createObjectURL(source.file), `The picture being read: ${source.name}`);
}

export async function showRead(reading) {
  reset(reading);
  part("figure").hidden = false;
  part("drop").classList.add("small");
  part("caption").textContent = `${reading.name}, ${size(reading.file)}`;
  const sent = await canShow(reading.file);
  if (shown !== reading) return;
  radio("read").parentElement.hidden = !reading.answer.page_image;
  radio("sent").parentElement.hidden = !sent;
  part("views").hidden = false;
  show(reading.answer.page_image ? "read" : "sent");
}

export function showNoPicture() {
  reset(null);
  setPicture(null);
  part("figure").hidden = true;
  part("drop").classList.remove("small");
}

// A label was chosen: highlight what speaks for it, or stop where that is shown already.
export function toggleHighlights(key) {
  const again = shown.highlighted === key && radio("highlights").checked;
  if (again) return show("read");
  shown.highlighted = key;
  part("figure").scrollIntoView({ block: "nearest" });
  return show("highlights");
}

function reset(reading) {
  looking?.abort();
  shown = reading;
  part("views").hidden = true;
  part("view-note").textContent = "";
  markExplained(null);
}

async function show(view) {
  looking?.abort();
  radio(view).checked = true;
  part("view-note").textContent = "";
  markExplained(null);
  if (view === "highlights") return showHighlights(shown);
  if (view === "sent") setPicture(URL.createObjectURL(shown.file), `The page as it was sent: ${shown.name}`);
  else setPicture(dataUrl(shown.answer.page_image), "The page as the model saw it, upright and in the size that it reads");
}

async function showHighlights(reading) {
  const mine = (looking = new AbortController());
  const wanted = reading.highlighted ?? "top";
  part("figure").setAttribute("aria-busy", "true");
  part("view-note").textContent = "Looking for what speaks for it…";
  markExplained(reading.highlighted);
  try {
    const found = reading.highlights.get(wanted) ?? (await explain(reading, wanted, mine.signal));
    if (mine.signal.aborted) return;
    reading.highlights.set(wanted, found).set(found.key, found);
    reading.highlighted = found.key;
    const { name } = reading.answer.labels.find((label) => label.key === found.key);
    setPicture(dataUrl(found), `The page with what speaks for ${name} highlighted`);
    part("view-note").textContent = `Blue marks what speaks for ${name}: roughly where the model looked, not whether it is right.`;
    markExplained(found.key);
  } catch (error) {
    if (mine.signal.aborted) return;
    show("read");
    part("view-note").textContent = `No highlights: ${error.message} ${adviceOn(error)}`;
  } finally {
    if (looking === mine) part("figure").removeAttribute("aria-busy");
  }
}

function setPicture(url, alt = "") {
  const picture = part("picture");
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  picture.hidden = !url;
  picture.alt = alt;
  if (url) picture.src = url;
  else picture.removeAttribute("src");
}

// Whether an <img> takes it: PDFs never, TIFFs in some browsers.
function canShow(file) {
  if (!showable.has(file)) {
    const url = URL.createObjectURL(file);
    const probe = new Image();
    probe.src = url;
    showable.set(file, probe.decode().then(() => true, () => false).finally(() => URL.revokeObjectURL(url)));
  }
  return showable.get(file);
}

function radio(view) {
  return part("views").querySelector(`[value=${view}]`);
}

function size(file) {
  return file.size < 1e6 ? `${Math.max(1, Math.round(file.size / 1e3))} kB` : `${(file.size / 1e6).toFixed(1)} MB`;
}

export function wirePicture() {
  part("views").addEventListener("change", (event) => show(event.target.value));
  part("enlarge").addEventListener("click", () => {
    const large = part("main").classList.toggle("large");
    part("enlarge").setAttribute("aria-pressed", large);
  });
}
