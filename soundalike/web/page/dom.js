// @ts-check
/** Elements, icons, times as text, and what this browser remembers. */

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Make an element: `make("button.icon", {title: "Play", onclick: play}, icon("play"))`.
 * @param {string} what tag name and classes
 * @param {Record<string, any>} [props] functions listen, `style` is set by property, the rest are attributes
 * @param {...(Child | Child[])} children
 * @returns {any}
 */
export function make(what, props = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = /** @type {any} */ (document.createElement(tag));
  if (tag === "button") element.type = "button";
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked" || name === "indeterminate") element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

/** @param {string} id @returns {any} */
export const at = (id) => document.getElementById(id);

/** @param {string | EventTarget} what an element's id, or what tells of itself @param {string} event @param {(event: any) => any} act */
export const on = (what, event, act) => (typeof what === "string" ? at(what) : what).addEventListener(event, act);

/** @param {EventTarget} who @param {string} event @param {any} [detail] */
export const emit = (who, event, detail) => who.dispatchEvent(new CustomEvent(event, { detail }));

/** What an icon is drawn with: paths on 24 by 24, in lines unless the name is in FULL. @type {Record<string, string>} */
const PATHS = {
  play: "M7 4.5v15l12.5-7.5z", stop: "M6 6h12v12H6z",
  plus: "M12 5v14M5 12h14", minus: "M5 12h14", close: "M6 6l12 12M18 6L6 18", wrong: "M12 3.5L22 20H2z M12 10v4.5M12 17.3h.01",
  alike: "M3 12h2l2-6 3 13 3-16 3 12 2-3h3", copy: "M9 9h11v11H9z M15 9V4H4v11h5", down: "M12 4v12M7 11.5l5 5 5-5M5 20h14",
  lasso: "M12 4c5 0 9 2.6 9 6s-4 6-9 6-9-2.6-9-6 4-6 9-6z M7 15.5c-2 1-2 3.5 0 4s2.5 2 1.5 2.5",
  mic: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3z M5.5 11a6.5 6.5 0 0 0 13 0 M12 17.5V21", file: "M6 3h8l4 4v14H6z M14 3v4h4",
  swap: "M7 4v16M3.5 7.5L7 4l3.5 3.5 M17 20V4M13.5 16.5L17 20l3.5-3.5", search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z M15.5 15.5L20.5 20.5",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z M12 2v2.5M12 19.5V22M2 12h2.5M19.5 12H22M5 5l1.7 1.7M17.3 17.3L19 19M19 5l-1.7 1.7M6.7 17.3L5 19",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z", auto: "M12 3.5a8.5 8.5 0 1 0 0 17z M12 3.5a8.5 8.5 0 0 1 0 17",
  link: "M10 14a4 4 0 0 0 6 .4l3-3a4.2 4.2 0 0 0-6-6l-1.5 1.5 M14 10a4 4 0 0 0-6-.4l-3 3a4.2 4.2 0 0 0 6 6l1.5-1.5", keys: "M3 6.5h18v11H3z M7 10h.01M11 10h.01M15 10h.01M8 14h8",
  whole: "M4 6v12M20 6v12M7 12h10M10 9l-3 3 3 3M14 9l3 3-3 3", zoom: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13z M15.5 15.5L20.5 20.5 M7.5 10.5h6 M10.5 7.5v6", filter: "M4 6h16M7 12h10M10 18h4",
};
const FULL = new Set(["play", "stop"]);

/** @param {string} name of PATHS */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  drawing.setAttribute("class", FULL.has(name) ? "svg full" : "svg");
  path.setAttribute("d", PATHS[name]);
  drawing.append(path);
  return drawing;
}

/**
 * A button that shows an icon and has a name for those who do not see it.
 * @param {string} name of the icon @param {string} label @param {(event: any) => void} onclick @param {Record<string, any>} [props]
 */
export const iconButton = (name, label, onclick, props = {}) =>
  make("button.icon", { title: label, "aria-label": label, onclick, ...props }, icon(name));

/**
 * Put other children in a place, and the focus back to the control that had it, or to the one that took its turn.
 * @param {Element} place @param {...(Node | string)} children
 */
export function refill(place, ...children) {
  const controls = () => /** @type {HTMLElement[]} */ ([...place.querySelectorAll("button, input")]);
  const before = controls();
  const index = before.findIndex((control) => control === document.activeElement);
  place.replaceChildren(...children);
  if (index < 0) return;
  const now = controls();
  const same = now.filter((control) => control.title && control.title === before[index].title);
  const next = same.length === 1 ? same[0] : now[Math.min(index, now.length - 1)];
  (next ?? at("results"))?.focus({ preventScroll: true });
}

/** Milliseconds after which a picture that did not come is asked for once more: the server may have been busy. */
const PICTURE_AGAIN_MS = 3000;

/** @param {HTMLImageElement} picture @param {string} source */
export function fetchPicture(picture, source) {
  picture.onload = () => picture.classList.add("here");
  picture.onerror = () => {
    picture.onerror = null;
    setTimeout(() => { if (picture.isConnected && picture.getAttribute("src") === source) picture.src = source; }, PICTURE_AGAIN_MS);
  };
  picture.src = source;
}

/** Seconds as a clock shows them: 65.25 is "1:05.3", 3600 is "1:00:00". @param {number} seconds */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const [hours, minutes, rest] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, (tenths % 600) / 10];
  const last = (rest < 10 ? "0" : "") + (Number.isInteger(rest) ? String(rest) : rest.toFixed(1));
  return hours ? `${hours}:${minutes < 10 ? "0" : ""}${minutes}:${last}` : `${minutes}:${last}`;
}

/** @param {number} start @param {number} end both in seconds */
export const span = (start, end) => `${clock(start)}–${clock(end)}`;

/** @param {number} count @param {string} one @param {string} [many] */
export const counted = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** A text from a file, with what would not be seen in it, or would turn what follows it, written out. @param {string} text */
export const visible = (text) => text.replace(/[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029]/gu, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A file's name, after the folder it lies in. @param {string} name @param {string} path @returns {Node[]} */
export function inFolder(name, path) {
  const folder = path.endsWith(name) && /[^\\/]+[\\/]$/.exec(path.slice(0, path.length - name.length))?.[0];
  return [...(folder ? [make("bdi.folder", {}, folder)] : []), make("bdi.file", {}, name)];
}

/** What was kept in this browser, or null where it keeps nothing. @param {string} name */
export function recall(name) {
  try {
    return localStorage.getItem(`soundalike.${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(`soundalike.${name}`, value);
  } catch {
    // A browser that keeps nothing forgets it with the page.
  }
}

const LOOKS = ["auto", "light", "dark"];

/** Light, dark, or as the system has it; the button goes round. @param {HTMLElement} button */
export function offerLooks(button) {
  const show = (look) => {
    document.documentElement.dataset.look = look;
    button.replaceChildren(icon(look));
    button.title = `Colours: ${look === "auto" ? "as the system has them" : look}`;
    button.setAttribute("aria-label", button.title);
    document.dispatchEvent(new Event("look"));
  };
  let look = recall("look") ?? "auto";
  button.addEventListener("click", () => {
    look = LOOKS[(LOOKS.indexOf(look) + 1) % LOOKS.length];
    keep("look", look);
    show(look);
  });
  show(LOOKS.includes(look) ? look : "auto");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("look")));
}

/** A colour of the style sheet as it is now, light or dark, for a canvas. @param {string} name */
export function colour(name) {
  const probe = make("i", { hidden: true, style: { color: `var(--${name})` } });
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/**
 * A canvas's context in which one unit is one CSS pixel, emptied.
 * @param {HTMLCanvasElement} canvas
 * @returns {{pen: CanvasRenderingContext2D, width: number, height: number}}
 */
export function clean(canvas) {
  const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio || 1];
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  pen.scale(ratio, ratio);
  return { pen, width, height };
}

/** @type {number | undefined} */
let fading;

/** One sentence at the foot of the page, for some seconds. @param {string} sentence */
export function mention(sentence) {
  const place = at("mention");
  place.textContent = sentence;
  place.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { place.hidden = true; }, 5000);
}

/** @param {string} text @param {string} what it is, for the sentence */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    mention(`Copied ${what}.`);
  } catch {
    // Off this computer and without https there is no clipboard: let people copy it by hand.
    prompt(`Copy ${what}:`, text);
  }
}
