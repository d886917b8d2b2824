// The labels of a reading: bars beside their thresholds. Each is a button that asks what speaks for it.

import { element, part, shape } from "./dom.js";

const NUM_SHOWN = 10; // A label space may have 71; of the negative ones the likeliest are enough at first.

export function showLabels(labels, choose) {
  const sorted = labels.toSorted((a, b) => rank(a) - rank(b) || b.probability - a.probability);
  const notable = labels.filter((label) => label.positive || label.uncertain).length;
  part("threshold-source").textContent = source(labels);
  const rest = sorted.slice(Math.max(NUM_SHOWN, notable));
  const rows = sorted.map((label) => labelRow(label, choose));
  part("labels").replaceChildren(...rows.slice(0, sorted.length - rest.length));
  part("more").hidden = !rest.length;
  part("more").open = false;
  part("more").querySelector("summary").textContent = `${rest.length} more below their thresholds`;
  part("more").querySelector("ol").replaceChildren(...rows.slice(sorted.length - rest.length));
}

function source(labels) {
  const set = labels.filter((label) => label.threshold_source === "endpoint");
  if (!set.length) return "threshold, chosen on validation data";
  const which = set.length < labels.length ? ` for ${set.map((label) => label.name).join(", ")}` : "";
  return `threshold, set by whoever runs this endpoint${which}`;
}

// Surely positive, barely so, barely not, not.
function rank({ positive, uncertain }) {
  return positive ? Number(uncertain) : 3 - Number(uncertain);
}

// Which label the picture is highlighted for; null for none.
export function markExplained(key) {
  for (const made of document.querySelectorAll(".label")) made.setAttribute("aria-pressed", made.dataset.key === key);
}

export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.1 || share > 0.99 ? 1 : 0)} %`;
}

// Two shares as text that differs wherever they do.
function compared(a, b) {
  const texts = [percent(a), percent(b)];
  if (a === b || texts[0] !== texts[1]) return texts;
  return [a, b].map((share) => `${(100 * share).toFixed(2)} %`);
}

function labelRow(label, choose) {
  const made = element("button", "", "label");
  made.type = "button";
  made.dataset.key = label.key;
  made.setAttribute("aria-pressed", "false");
  made.title = `${label.key}: show what on the page speaks for ${label.name}`;
  if (label.positive) made.classList.add("positive");
  if (label.uncertain) made.classList.add("uncertain");
  made.append(heading(label), bar(label));
  made.addEventListener("click", () => choose(label.key));
  const item = element("li");
  item.append(made);
  return item;
}

function heading(label) {
  const [probability, threshold] = compared(label.probability, label.threshold);
  const row = element("span", "", "row");
  const named = element("span", "", "named");
  named.append(element("span", label.name, "name"));
  const side = label.positive ? "just over" : "just under";
  if (label.uncertain) named.append(" ", element("span", `uncertain: ${side}`, "chip uncertain-chip"));
  else if (label.positive) named.append(" ", element("span", "positive", "chip positive-chip"));
  const against = element("span", "", "against");
  const sign = element("span", label.positive ? "≥" : "<");
  sign.setAttribute("aria-hidden", "true");
  against.append(sign, element("span", ", threshold ", "unseen"), ` ${threshold}`);
  row.append(named, " ", element("span", probability, "value"), against);
  return row;
}

// Drawn as SVG, because the content security policy forbids inline styles.
function bar({ probability, threshold, positive, uncertain }) {
  const svg = shape("svg", {});
  const at = (share) => `${(100 * share).toFixed(2)}%`;
  const block = (className, from, to) =>
    shape("rect", { class: className, x: at(from), width: at(Math.max(0, to - from)), height: "100%" });
  svg.append(block("fill", 0, positive ? threshold : probability));
  if (positive) svg.append(block("excess", threshold, probability));
  else svg.append(shape("line", { class: "gap", x1: at(probability), x2: at(threshold), y1: "50%", y2: "50%" }));
  if (uncertain) {
    const hatched = block("hatched", 0, probability);
    hatched.setAttribute("fill", "url(#hatch)");
    svg.append(hatched);
  }
  svg.append(shape("line", { class: "threshold", x1: at(threshold), x2: at(threshold), y1: -4, y2: 14 }));
  const holder = element("span", "", "bar");
  holder.setAttribute("aria-hidden", "true");
  holder.append(svg);
  return holder;
}
