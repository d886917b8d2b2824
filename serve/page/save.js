// A reading on paper, and as a file for a program.

import { part, say } from "./dom.js";

export function wireSave(current) {
  part("save").addEventListener("click", () => saveJson(current()));
  part("print").addEventListener("click", () => window.print());
  let wasOpen = false; // On paper nobody can unfold.
  addEventListener("beforeprint", () => {
    wasOpen = part("more").open;
    part("more").open = true;
  });
  addEventListener("afterprint", () => (part("more").open = wasOpen));
}

function saveJson({ answer, name }) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_-]+/gu, "-");
  const page = answer.page.num_pages > 1 ? `-page-${answer.page.number}` : "";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answer, null, 2)], { type: "application/json" }));
  link.download = `vizecg-${stem}${page}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // The browser fetches it after this turn.
  say(`Saved as ${link.download}`);
}
