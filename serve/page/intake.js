// Ways in: choose, drop, paste, take a picture.

import { part } from "./dom.js";

// take(file, {name, photo, more}): one file; whether a camera made it; how many others came with it.
export function wireIntake(take) {
  const takeFrom = (transfer, { photo = false, nameless = "" } = {}) => {
    const [file, ...others] = transfer?.files ?? [];
    const name = !file || file.name === nameless ? "Pasted picture" : file.name;
    if (file) take(file, { name, photo, more: others.length });
    return Boolean(file);
  };
  for (const id of ["file", "camera"]) {
    part(id).addEventListener("change", (event) => {
      takeFrom(event.target, { photo: id === "camera" });
      event.target.value = ""; // The same file may be chosen again.
    });
  }
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
    // What browsers call a picture that was copied rather than a file.
    if (takeFrom(event.clipboardData, { nameless: "image.png" })) event.preventDefault();
  });
}
