// @ts-check
/** How a question begins: a file dropped, chosen, pasted or recorded, a window's id, words; and the examples as chips. */

import { at, clean, clock, colour, emit, icon, iconButton, make, on, refill, span, visible } from "./dom.js";
import { player, whyNoMicrophone } from "./sound.js";
import { aboutOf, audioOf, upload } from "./server.js";
import { isWindow, keyOf } from "./address.js";

/** @typedef {import("./address.js").Example} Example */

/**
 * @typedef {object} Asked what to do with what is asked
 * @property {(sounds: {sound: Blob, name: string}[], add: boolean) => void} sounds `add`: beside the examples there are
 * @property {(id: string) => void} window
 * @property {(words: string, projection: string) => void} words
 */

/** @param {string} sentence empty: none; alone it is what went wrong @param {Node[]} more */
export function sayAtTop(sentence, ...more) {
  const isWrong = Boolean(sentence) && !more.length;
  at("ask-state").hidden = !sentence;
  at("ask-state").classList.toggle("bad", isWrong);
  at("ask-state").replaceChildren(isWrong ? icon("wrong") : "", sentence, ...more);
}

let uploading = new AbortController();

/**
 * Send sounds to the server, one after the other; what is sent later ends what is under way.
 * @param {{sound: Blob, name: string}[]} sounds @param {number} most bytes that the server takes
 * @param {(clip: any, index: number) => void} take what the server knows of each
 * @returns {Promise<number>} the status with which the server refused, 0 where all went well
 */
export async function send(sounds, most, take) {
  uploading.abort();
  uploading = new AbortController();
  const { signal } = uploading;
  for (const [index, { sound, name }] of sounds.entries()) {
    if (sound.size > most) {
      sayAtTop(`${visible(name)} is too large: at most ${Math.round(most / 1e6)} MB are taken. Cut it first.`);
      return 413;
    }
    const stopSaying = sayUploading(name, () => uploading.abort());
    try {
      const clip = await upload(sound, name, signal);
      stopSaying("");
      if (!signal.aborted) take(clip, index);
    } catch (error) {
      stopSaying(signal.aborted ? "" : /** @type {Error} */ (error).message);
      return signal.aborted ? 0 : /** @type {any} */ (error).status;
    }
  }
  return 0;
}

/** @param {string} name @param {() => void} cancel @returns {(sentence: string) => void} to say how it ended */
function sayUploading(name, cancel) {
  const began = performance.now();
  const seconds = make("span", { "aria-hidden": "true" });
  const ticking = setInterval(() => { seconds.textContent = ` ${((performance.now() - began) / 1000).toFixed(1)} s `; }, 100);
  sayAtTop(`Listening to ${visible(name)}…`, seconds, make("button.button.plain", { onclick: cancel }, "Cancel"));
  return (sentence) => {
    clearInterval(ticking);
    sayAtTop(sentence);
  };
}

/** Whether the next chosen file is one more example. */
let adding = false;

/** @param {boolean} add */
export function chooseFile(add) {
  adding = add;
  at("file").click();
}

/** @param {Asked} asked */
export function listen(asked) {
  const take = (/** @type {Iterable<File>} */ files, add) => {
    const sounds = [...files].map((file) => ({ sound: file, name: file.name || "pasted sound" }));
    if (sounds.length) asked.sounds(sounds, add);
  };
  at("window-go").append(icon("search"));
  at("words-go").append(icon("search"));
  at("record").prepend(icon("mic"));
  at("choose").prepend(icon("file"));
  on("choose", "click", () => chooseFile(false));
  on("file", "change", () => {
    take(at("file").files, adding);
    at("file").value = "";
  });
  const sayId = (sentence) => at("window-id").setCustomValidity(sentence);
  on("window-id", "invalid", () => sayId("A window id is a number of up to 19 digits"));
  on("window-id", "input", () => sayId(""));
  on("window-form", "submit", (event) => {
    event.preventDefault();
    const id = at("window-id").value.trim();
    if (isWindow(id)) asked.window(id);
    at("window-id").value = "";
  });
  const words = () => asked.words(at("words").value.trim(), at("projection").value);
  on("words-form", "submit", (event) => {
    event.preventDefault();
    words();
  });
  on("projection", "change", () => at("words").value.trim() && words());
  document.addEventListener("paste", (event) => {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    const { files } = event.clipboardData ?? { files: [] };
    const text = event.clipboardData?.getData("text").trim() ?? "";
    if (files.length) take(files, false);
    else if (!typing && isWindow(text)) asked.window(text);
  });
  listenToDrops((files) => take(files, false));
  listenToMicrophone((sound) => asked.sounds([{ sound, name: `recording ${new Date().toLocaleTimeString("en-GB")}.wav` }], false));
}

/** @param {(files: FileList) => void} take */
function listenToDrops(take) {
  const overlay = at("overlay");
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => { if (hasFiles(event)) overlay.hidden = false; });
  addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) overlay.hidden = true; });
  addEventListener("drop", (event) => {
    overlay.hidden = true;
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  });
}

/** @param {(sound: Blob) => void} take */
function listenToMicrophone(take) {
  /** @type {any} loaded when it is wanted first */
  let recorder;
  const close = () => {
    at("recording").hidden = true;
    at("record").disabled = false;
    at("record").focus();
  };
  const draw = (level, seconds) => {
    at("record-time").textContent = clock(Math.floor(seconds));
    const { pen, width, height } = clean(at("record-level"));
    pen.fillStyle = colour("line");
    pen.fillRect(0, 0, width, height);
    pen.fillStyle = colour("minus");
    pen.fillRect(0, 0, width * Math.min(1, level), height);
  };
  on("record", "click", async () => {
    const why = whyNoMicrophone();
    if (why) return sayAtTop(why);
    player.stop();
    try {
      recorder ??= new (await import("./recorder.js")).Recorder();
      await recorder.start(draw);
    } catch {
      return sayAtTop("The browser gave no microphone: allow it for this page, or choose a file.");
    }
    sayAtTop("");
    at("recording").hidden = false;
    at("record").disabled = true;
    at("record-stop").focus();
  });
  on("record-stop", "click", async () => {
    close();
    try {
      take(await recorder.stop());
    } catch {
      sayAtTop("The browser could not read its own recording: record once more, or choose a file.");
    }
  });
  on("record-cancel", "click", async () => {
    close();
    await recorder.cancel();
  });
}

/** The examples; emits `pick`, `swap` and `remove` with {index}, and `more`. */
class ExampleChips extends HTMLElement {
  connectedCallback() {
    on(player, "change", () => this.follow());
  }

  /** @param {Example[]} examples @param {number} shown index of the one whose waveform is shown @param {string} noMinus why none can be turned */
  show(examples, shown, noMinus) {
    this.hidden = !examples.length;
    const more = make("button.button.plain", { id: "add-sound", onclick: () => emit(this, "more") }, icon("plus"), "Add a sound");
    refill(this, make("ul.chips", { "aria-label": "Examples" }, examples.map((example, index) => make("li", {}, this.chip(example, index, index === shown, noMinus))), make("li", {}, more)));
    this.follow();
  }

  /** @param {Example} example @param {number} index @param {boolean} shown @param {string} noMinus */
  chip(example, index, shown, noMinus) {
    const tell = (what) => emit(this, what, { index });
    const name = make("bdi.chip-name", {}, example.kind === "w" ? `window ${example.id}` : "uploaded sound");
    const time = make("small", {});
    const sign = example.minus ? "−" : "+";
    const pick = make("button.chip-pick", { "aria-pressed": String(shown), title: "Show it above its region", onclick: () => tell("pick") }, make("span.sign", {}, sign), name, time);
    aboutOf(example).then((about) => {
      name.textContent = about.name;
      pick.title = about.path || about.name;
      time.textContent = span(about.offset + (example.start ?? 0), about.offset + (example.end ?? about.duration));
    }).catch(() => { time.textContent = "not there"; });
    const key = keyOf(example);
    const play = iconButton("play", "Play this example", () => player.toggle(key, audioOf(example, example.start, example.end), { from: example.start ?? 0 }), { "data-key": key });
    const swap = iconButton("swap", example.minus ? "Turn to: like this" : noMinus || "Turn to: not like this", () => tell("swap"), { "data-do": "swap", disabled: !example.minus && Boolean(noMinus) });
    return make(`div.chip${example.minus ? ".minus" : ""}${shown ? ".shown" : ""}`, { "data-example": key }, pick, play, swap, iconButton("close", "Remove this example", () => tell("remove"), { "data-do": "remove" }));
  }

  follow() {
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("[data-key]"))) {
      const mine = player.playing && player.key === button.dataset.key;
      if (button.dataset.plays === String(mine)) continue;
      button.dataset.plays = String(mine);
      button.replaceChildren(icon(mine ? "stop" : "play"));
    }
  }
}

customElements.define("example-chips", ExampleChips);
