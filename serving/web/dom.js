// Elements made of values. Text stays text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

/** Make an HTML element; `on…` properties are listeners, the others attributes. */
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

/** Make an SVG element. */
export function s(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/** Put these children in the place of all there are. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child != null));
  return element;
}

/** Set the text, unless it is there already: a selection in it then stays. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

export function seconds(value) {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const minutes = Math.floor(value / 60);
  return `${minutes} min ${Math.round(value - 60 * minutes)} s`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}
