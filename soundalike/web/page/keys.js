// @ts-check
/** Keys: what they do is listed in the dialog of index.html. */

import { player } from "./sound.js";

/** @typedef {Record<string, (hits: any) => void>} Doings */

/** @param {EventTarget | null} target */
export const types = (target) => target instanceof HTMLElement && (target.isContentEditable || target.matches("select, textarea, input:not([type=checkbox], [type=radio])"));

/** Whether the element does something of its own with a key. @param {EventTarget | null} target @param {string} key */
export function wants(target, key) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.matches("[role=slider]")) return key.startsWith("Arrow");
  if (key === " ") return target.matches("button, summary, a, input");
  if (key === "Enter") return target.matches("button, summary, a, input");
  return false;
}

/**
 * @param {any} hits the list @param {object} doings
 * @param {() => boolean} doings.preview @param {() => void} doings.playExample @param {(id: string) => void} doings.press a control
 * @param {(hit: any) => void} doings.alike @param {(hit: any, minus: boolean) => void} doings.add
 */
export function listenToKeys(hits, { preview, playExample, press, alike, add }) {
  const withHit = (/** @type {(hit: any) => void} */ act) => () => {
    const hit = hits.currentHit();
    if (hit) act(hit);
  };
  const play = () => {
    const hit = hits.currentHit();
    if (player.playing) player.stop();
    else if (hit?.is_there) hits.play(hit);
    else if (!hit) playExample();
  };
  const more = withHit(alike);
  const minus = withHit((hit) => add(hit, true));
  const down = () => hits.move(1, preview());
  const up = () => hits.move(-1, preview());
  /** @type {Record<string, () => void>} */
  const keys = {
    j: down, ArrowDown: down, k: up, ArrowUp: up, " ": play, l: more, Enter: more, "+": withHit((hit) => add(hit, false)), m: minus, "-": minus, "−": minus,
    x: withHit((hit) => hits.select(hit, !hits.selected.has(hit.window))), "/": () => press("where"), f: () => press("tag-search"), g: () => press("group"), "?": () => press("show-keys"),
  };
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      if (types(event.target)) /** @type {HTMLElement} */ (event.target).blur();
      return player.stop();
    }
    const act = keys[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey || types(event.target) || wants(event.target, event.key)) return;
    // Where there is no hit to go to, or one looks through the filters, arrows scroll as they always do.
    if (event.key.startsWith("Arrow") && (!hits.hits.length || /** @type {HTMLElement} */ (event.target).closest("#filters"))) return;
    event.preventDefault();
    act();
  });
}
