// @ts-check
/** How many windows have a learned tag from each probability on, and how many of them rightly: drawn, and as a table. */

import { clean, colour, counted, make } from "./dom.js";

/** @typedef {{threshold: number, num_windows: number, num_judged: number, num_right: number, num_drawn: number, low: number, high: number, precision: number | null}} Estimate */

/** From here on a learned tag is heard. */
const HEARD = 0.5;
/** Room below for numbers, and at the sides, in pixels. */
const [FOOT, SIDE] = [16, 30];

/** @param {number} share */
const percent = (share) => `${Math.round(share * 100)} %`;

/** @param {Estimate} one */
const rightly = ({ num_judged: judged, num_right: right, low, high }) => (judged ? `${right} of ${judged}, ${percent(low)} to ${percent(high)}` : "not known");

/** @param {() => void} draws some windows at random, to be labelled */
export function makeCurve(draws) {
  /** @type {Estimate[]} */
  let estimates = [];
  const canvas = make("canvas", { role: "img" });
  const caption = make("p.quiet", { id: "curve-caption" });
  const table = make("div.curve-table", { tabindex: "0", role: "region", "aria-label": "Estimates as a table" });
  const legend = make("p.curve-legend.quiet", { "aria-hidden": "true" }, make("i.yield"), "windows that have it", make("i.right"), "share that is right, with its 95 % interval");
  const ask = make("button.button", { id: "curve-draw", onclick: draws }, "Draw some to label");
  const place = make("div", { id: "curve", class: "curve", hidden: true }, canvas, make("div", {}, legend, caption, ask, make("details", {}, make("summary", {}, "As a table"), table)));
  new ResizeObserver(() => draw()).observe(canvas);
  document.addEventListener("look", () => draw());

  function draw() {
    if (place.hidden || !canvas.clientWidth) return;
    const { pen, width, height } = clean(canvas);
    const foot = height - FOOT;
    const x = (/** @type {number} */ threshold) => SIDE + threshold * (width - 2 * SIDE);
    const y = (/** @type {number} */ share) => foot - share * (foot - 8);
    const most = Math.max(1, ...estimates.map((one) => one.num_windows));
    pen.fillStyle = colour("bars");
    for (const { threshold, num_windows: number } of estimates) pen.fillRect(x(threshold) - 5, y(number / most), 10, foot - y(number / most));
    pen.fillStyle = colour("quiet");
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    for (const threshold of [0.1, HEARD, 0.9]) pen.fillText(String(threshold), x(threshold), height - 3);
    pen.textAlign = "right";
    for (const share of [0, 1]) pen.fillText(percent(share), SIDE + 6, y(share) + (share ? 8 : 0));
    pen.textAlign = "left";
    pen.fillText(most.toLocaleString("en"), x(estimates[0].threshold) + 8, 17);
    pen.setLineDash([3, 3]);
    pen.strokeStyle = colour("quiet");
    pen.beginPath();
    pen.moveTo(x(HEARD), 4);
    pen.lineTo(x(HEARD), foot);
    pen.stroke();
    const judged = estimates.filter((one) => one.num_judged);
    if (!judged.length) return;
    pen.setLineDash([]);
    pen.strokeStyle = pen.fillStyle = colour("accent");
    pen.globalAlpha = 0.2;
    pen.beginPath();
    for (const one of judged) pen.lineTo(x(one.threshold), y(one.high));
    for (const one of [...judged].reverse()) pen.lineTo(x(one.threshold), y(one.low));
    pen.fill();
    pen.globalAlpha = 1;
    pen.lineWidth = 2;
    pen.beginPath();
    for (const one of judged) pen.lineTo(x(one.threshold), y(one.precision ?? 0));
    pen.stroke();
    for (const one of judged) pen.fillRect(x(one.threshold) - 2, y(one.precision ?? 0) - 2, 4, 4);
  }

  return {
    place,
    /** @param {Estimate[]} found none: nothing is drawn */
    show(found) {
      estimates = found;
      place.hidden = !found.length;
      if (!found.length) return;
      const now = found.find((one) => one.threshold === HEARD) ?? found[0];
      ask.hidden = now.num_judged > 0;
      const right = now.num_judged ? `Of those drawn at random ${now.num_right} of ${now.num_judged} have it rightly: ${percent(now.low)} to ${percent(now.high)}, by the 95 % interval.` : now.num_drawn ? `How many of them rightly is not known: of those drawn at random so far, ${now.num_drawn.toLocaleString("en")}, none is among them.` : "How many of them rightly is not known: only labels of windows that were drawn at random tell that.";
      caption.textContent = `From ${now.threshold} on ${counted(now.num_windows, "window")} ${now.num_windows === 1 ? "has" : "have"} it. ${right}`;
      canvas.setAttribute("aria-label", caption.textContent);
      const cells = (/** @type {string} */ tag, /** @type {string[]} */ texts) => make("tr", {}, texts.map((text) => make(tag, tag === "th" ? { scope: "col" } : {}, text)));
      table.replaceChildren(make("table", {}, make("thead", {}, cells("th", ["from", "windows", "right (95 %)"])), make("tbody", {}, found.map((one) => cells("td", [String(one.threshold), one.num_windows.toLocaleString("en"), rightly(one)])))));
      draw();
    },
  };
}
