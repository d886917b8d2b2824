// One picture in, one reading out.

import { Refusal, listModels, predict } from "./api.js";
import { element, part, say } from "./dom.js";
import { showError } from "./errors.js";
import { forgetAll, markShown, remember } from "./history.js";
import { wireIntake } from "./intake.js";
import { wireKey } from "./key.js";
import { showPages, wirePages } from "./pages.js";
import { showNoPicture, showRead, showSent, toggleHighlights, wirePicture } from "./picture.js";
import { showBusy, showNothing, showResult } from "./result.js";
import { wireSave } from "./save.js";

let source = null; // {file, name, page, model, straighten}: what was asked for last.
let reading = null; // The same with its answer: what is shown.
let work = null; // AbortController of the picture in work: a newer one takes its place.

async function read(wanted) {
  work?.abort();
  const mine = (work = new AbortController());
  if (wanted.file !== source?.file) showPages(wanted.file, 1, 1); // Else they stay, and so does the focus in them.
  source = { ...wanted, model: part("model").value, straighten: part("straighten").checked };
  reading = null;
  markShown(null);
  showSent(source);
  showBusy();
  try {
    const answer = await predict(source, mine.signal);
    if (mine.signal.aborted) return;
    const made = { ...source, answer, time: new Date(), highlights: new Map(), highlighted: null };
    remember(made, open);
    show(made);
    if (part("model-choice").hidden) offerModels();
  } catch (error) {
    if (mine.signal.aborted) return;
    if (!(error instanceof Refusal)) throw error;
    showPages(source.file, source.page, null);
    showError(error, () => read(source));
  } finally {
    if (work === mine) part("reading").removeAttribute("aria-busy");
  }
}

function show(made) {
  reading = source = made;
  showRead(made);
  showPages(made.file, made.answer.page.number, made.answer.page.num_pages);
  showResult(made, toggleHighlights);
  markShown(made);
  part("status").scrollIntoView({ block: "nearest" });
}

// One of the session's readings again.
function open(made) {
  work?.abort();
  part("reading").removeAttribute("aria-busy");
  if ([...part("model").options].some((option) => option.value === made.model)) part("model").value = made.model;
  part("straighten").checked = made.straighten;
  show(made);
}

function clear() {
  work?.abort();
  source = reading = null;
  forgetAll();
  showNoPicture();
  showNothing();
  part("pages").hidden = true;
  part("file").focus();
  say("All readings are cleared.");
}

// The one on trial shares the name of the default: requests cannot ask for it.
async function offerModels() {
  const models = await listModels().catch(() => []);
  const names = [...new Set(models.map((model) => model.name))];
  part("model").replaceChildren(...names.map((name) => element("option", name)));
  part("model-choice").hidden = names.length < 2;
}

function readAgain() {
  if (source) read(source);
}

wireKey();
wirePicture();
wireSave(() => reading);
wirePages((page) => read({ ...source, page }));
wireIntake((file, { name, photo, more }) => {
  if (photo) part("straighten").checked = true;
  read({ file, name, page: 1 });
  if (more) say(`One picture at a time: the first of ${more + 1} is read.`);
});
part("model").addEventListener("change", readAgain);
part("straighten").addEventListener("change", readAgain);
part("clear").addEventListener("click", clear);
part("example").textContent = `curl --data-binary @page.png ${new URL("v1/predict", document.baseURI)}`;
showNothing();
offerModels();
