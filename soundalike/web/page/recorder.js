// @ts-check
/** The microphone, loaded when something is recorded. */

/** Samples per channel of which a level is taken. */
const LEVEL_SAMPLES = 1024;

/** From the microphone to 16-bit WAV, which every server reads: what browsers record differs from one to the next. */
export class Recorder {
  /** @type {MediaRecorder | null} */
  recorder = null;
  /** @type {AudioContext | null} */
  context = null;
  /** @type {Blob[]} */
  pieces = [];
  began = 0;

  /** @param {(level: number, seconds: number) => void} show called each frame, the level from 0 to 1 */
  async start(show) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    this.context = new AudioContext();
    const meter = this.context.createAnalyser();
    meter.fftSize = LEVEL_SAMPLES;
    this.context.createMediaStreamSource(stream).connect(meter);
    this.pieces = [];
    const recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => this.pieces.push(event.data));
    recorder.start();
    this.recorder = recorder;
    this.began = performance.now();
    const samples = new Float32Array(LEVEL_SAMPLES);
    const look = () => {
      if (recorder.state !== "recording") return;
      meter.getFloatTimeDomainData(samples);
      // The cube root shows quiet sounds too, much as decibels would.
      show(Math.cbrt(samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0)), (performance.now() - this.began) / 1000);
      requestAnimationFrame(look);
    };
    look();
  }

  /** End the recording and let go of the microphone. @returns {Promise<Blob>} WAV */
  async stop() {
    const { recorder, context } = this;
    if (!recorder || !context) throw new Error("Nothing is being recorded.");
    const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
    recorder.stop();
    await ended;
    for (const track of recorder.stream.getTracks()) track.stop();
    this.recorder = null;
    const sound = await context.decodeAudioData(await new Blob(this.pieces).arrayBuffer());
    await context.close();
    return toWav(sound);
  }

  async cancel() {
    if (this.recorder?.state === "recording") this.recorder.stop();
    for (const track of this.recorder?.stream.getTracks() ?? []) track.stop();
    this.recorder = null;
    await this.context?.close();
  }
}

/** @param {AudioBuffer} sound @returns {Blob} WAV of 16-bit samples, one or two channels */
export function toWav(sound) {
  const channels = Math.min(2, sound.numberOfChannels);
  const bytes = sound.length * channels * 2;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  text(8, "WAVEfmt ");
  text(36, "data");
  const { sampleRate } = sound;
  for (const [at, number] of [[4, 36 + bytes], [16, 16], [24, sampleRate], [28, sampleRate * channels * 2], [40, bytes]]) view.setUint32(at, number, true);
  for (const [at, number] of [[20, 1], [22, channels], [32, channels * 2], [34, 16]]) view.setUint16(at, number, true);
  for (let channel = 0; channel < channels; channel += 1) {
    const samples = sound.getChannelData(channel);
    for (let index = 0; index < samples.length; index += 1) {
      view.setInt16(44 + (index * channels + channel) * 2, Math.round(Math.max(-1, Math.min(1, samples[index])) * 32767), true);
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
