// @ts-check
/** What the map is made of: points as the server sends them, which is near what, and colours. */

import { colour } from "./dom.js";

/** @typedef {{name: string, tags: string[], x: number, y: number, num_windows: number}} Region */
/** @typedef {{kind: "region" | "tag" | "folder" | "clock" | "place", values: Uint8Array, names: string[]}} Shades */

/** From one hue to the next, of the circle: neighbours in number differ most. */
const GOLDEN = 0.618033988749895;

export class Points {
  /** @param {ArrayBuffer} bytes as `/api/v1/map/points` has them */
  constructor(bytes) {
    const number = bytes.byteLength / 13;
    this.count = number;
    this.ids = new BigUint64Array(bytes, 0, number);
    const [x, y] = [8, 10].map((at) => new Uint16Array(bytes, at * number, number));
    this.regions = new Uint8Array(bytes, 12 * number, number);
    this.pairs = new Uint16Array(2 * number);
    for (let index = 0; index < number; index += 1) {
      this.pairs[2 * index] = x[index];
      this.pairs[2 * index + 1] = y[index];
    }
  }

  /** @param {number} index @returns {[number, number]} from 0 to 1 */
  at(index) {
    return [this.pairs[2 * index] / 65535, this.pairs[2 * index + 1] / 65535];
  }

  /** Where a window is among the points; -1 if it is on no map. @param {string} window */
  find(window) {
    const wanted = BigInt(window);
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ids[middle] < wanted) low = middle + 1;
      else high = middle;
    }
    return this.ids[low] === wanted ? low : -1;
  }

  /** The point that is nearest to a place, within some distance; -1 for none. @param {number} x @param {number} y @param {number} within */
  nearest(x, y, within) {
    const [wantedX, wantedY] = [x * 65535, y * 65535];
    let [best, found] = [(within * 65535) ** 2, -1];
    for (let index = 0; index < this.count; index += 1) {
      const [dx, dy] = [this.pairs[2 * index] - wantedX, this.pairs[2 * index + 1] - wantedY];
      const away = dx * dx + dy * dy;
      if (away < best) [best, found] = [away, index];
    }
    return found;
  }

  /** The nearest point in a direction, more ahead than aside; -1 for none. @param {number} from index @param {number} right 1, 0 or -1 @param {number} up likewise */
  beside(from, right, up) {
    const [x, y] = [this.pairs[2 * from], this.pairs[2 * from + 1]];
    let [best, found] = [Infinity, -1];
    for (let index = 0; index < this.count; index += 1) {
      const [dx, dy] = [this.pairs[2 * index] - x, this.pairs[2 * index + 1] - y];
      const [ahead, aside] = [dx * right + dy * up, Math.abs(dx * up) + Math.abs(dy * right)];
      if (ahead > 0 && aside <= ahead && ahead + 2 * aside < best) [best, found] = [ahead + 2 * aside, index];
    }
    return found;
  }
}

/** @param {string} text in base64 */
export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let index = 0; index < letters.length; index += 1) bytes[index] = letters.charCodeAt(index);
  return bytes;
}

/** Red, green and blue of a colour of the style sheet. @param {string} name */
const partsOf = (name) => (colour(name).match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);

/** @param {number} hue from 0 to 1 @param {number} light from 0 to 1 */
function hued(hue, light) {
  const chroma = 0.62 * Math.min(light, 1 - light);
  return [0, 8, 4].map((shift) => {
    const turn = (shift + hue * 12) % 12;
    return 255 * (light - chroma * Math.max(-1, Math.min(turn - 3, 9 - turn, 1)));
  });
}

/** Colours of numbers in a row, light or dark. @param {number} number */
export function kindColour(number) {
  const isDark = partsOf("text")[0] > 128;
  return hued((number * GOLDEN) % 1, isDark ? 0.66 : 0.42);
}

/** Colour and alpha of each value. @param {Shades} shades @param {number} alpha of what is not faint @returns {(value: number) => number[]} */
function paint({ kind, names }, alpha) {
  const [quiet, accent, warm] = [partsOf("quiet"), partsOf("accent"), partsOf("minus")];
  const between = (from, to, share) => from.map((part, index) => part + (to[index] - part) * share);
  if (kind === "tag") return (value) => [...between(quiet, accent, Math.min(1, value / 160)), alpha * (0.14 + 0.86 * Math.min(1, value / 160))];
  if (kind === "clock" || kind === "place") return (value) => (value > 254 ? [...quiet, alpha * 0.3] : [...between(warm, accent, value / 254), alpha]);
  return (value) => [...(kind === "folder" && names[value] === "others" ? quiet : kindColour(value)), alpha];
}

/** @param {Shades} shades @param {number} alpha @returns {Uint8Array} red, green, blue and alpha of each point */
export function painted(shades, alpha) {
  const colours = Array.from({ length: 256 }, (_, value) => value).map(paint(shades, alpha)).map(([red, green, blue, clear]) => [red, green, blue, clear * 255].map(Math.round));
  const { values } = shades;
  const found = new Uint8Array(values.length * 4);
  values.forEach((value, index) => found.set(colours[value], index * 4));
  return found;
}
