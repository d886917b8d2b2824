// Readings of this session. In memory alone: sessionStorage would come back with a tab that is opened again.

import { dataUrl, element, part } from "./dom.js";
import { verdict } from "./result.js";

const MOST = 30;
const THUMBNAIL_PX = 144;

let readings = []; // The newest first.

export async function remember(reading, open) {
  readings = [reading, ...readings].slice(0, MOST);
  reading.card = card(reading, open);
  const item = element("li");
  item.append(reading.card);
  part("readings").prepend(item);
  part("readings").children[MOST]?.remove();
  part("history").hidden = false;
  reading.card.prepend(await thumbnail(reading));
}

export function markShown(reading) {
  for (const each of readings) {
    if (each === reading) each.card.setAttribute("aria-current", "true");
    else each.card.removeAttribute("aria-current");
  }
}

export function forgetAll() {
  readings = [];
  part("readings").replaceChildren();
  part("history").hidden = true;
}

function card(reading, open) {
  const { answer, name, time } = reading;
  const made = element("button", "", "card");
  made.type = "button";
  const text = element("span", "", "card-text");
  const place = answer.page.num_pages > 1 ? `, page ${answer.page.number}` : "";
  const when = element("time", time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  when.dateTime = time.toISOString();
  const { sure, near } = verdict(answer);
  text.append(element("span", sure.join(", ") || "Nothing clearly positive", "card-said"), " ");
  if (near.length) text.append(element("span", `Uncertain: ${near.join(", ")}`, "card-near"), " ");
  text.append(element("span", `${name}${place}`, "card-name"), " ", when);
  made.append(text);
  made.addEventListener("click", () => open(reading));
  return made;
}

async function thumbnail({ answer, file }) {
  const small = element("canvas", "", "thumbnail");
  small.setAttribute("aria-hidden", "true");
  try {
    const blob = answer.page_image ? await fromBase64(dataUrl(answer.page_image)) : file;
    const picture = await createImageBitmap(blob, { resizeWidth: THUMBNAIL_PX, resizeQuality: "medium" });
    [small.width, small.height] = [picture.width, picture.height];
    small.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
  } catch {
    small.classList.add("blank"); // A TIFF without a page image: this browser cannot show it.
  }
  return small;
}

async function fromBase64(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  return picture;
}
