// Which page of a document of several is read.

import { part } from "./dom.js";

const MAY_HAVE_PAGES = /\.(pdf|tiff?|dcm)$|^(application\/(pdf|dicom)|image\/tiff)$/i;

let at = 1;

// numPages is null where the page was refused, so that nobody has counted: a PDF may open with a letter.
export function showPages(file, page, numPages) {
  at = page;
  const several = numPages === null ? MAY_HAVE_PAGES.test(file.name) || MAY_HAVE_PAGES.test(file.type) : numPages > 1;
  part("pages").hidden = !several;
  part("page-number").value = page;
  part("page-number").max = numPages ?? "";
  part("page-count").textContent = numPages ? `of ${numPages}` : "";
  // Not `disabled`: that would take the focus away from who pages through.
  part("page-before").setAttribute("aria-disabled", page <= 1);
  part("page-after").setAttribute("aria-disabled", numPages !== null && page >= numPages);
}

export function wirePages(read) {
  part("pages").addEventListener("submit", (event) => {
    event.preventDefault();
    read(part("page-number").valueAsNumber);
  });
  for (const [id, step] of [["page-before", -1], ["page-after", 1]]) {
    part(id).addEventListener("click", () => {
      if (part(id).getAttribute("aria-disabled") !== "true") read(at + step);
    });
  }
}
