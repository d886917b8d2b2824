// Small tools for the document. What is foreign (file names, labels, sentences of the server) becomes text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

export const part = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

export function button(text, act, className = "") {
  const made = element("button", text, className);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

// For those who hear the page: what happened that is to be seen elsewhere.
export function say(text) {
  part("said").textContent = text;
}

// A picture of an answer as the address of an <img>; null where there is none.
export function dataUrl(picture) {
  return picture ? `data:${picture.media_type};base64,${picture.image}` : null;
}
