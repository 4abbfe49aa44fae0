// xt = signal x0 + noise eps, for all pixels at once, and what else a schedule's two tables say.

import { toBytes, toArray } from "./controls.js";

// A schedule's quantities as functions of t = 0..T. At the ends signal or noise may be 0, and snr and logSnr 0 or infinite
export function makeSchedule(signal, noise) {
  const alphaBar = (t) => signal[t] ** 2 / (signal[t] ** 2 + noise[t] ** 2); // of the path that preserves variance
  return {
    T: signal.length - 1,
    signal: (t) => signal[t],
    noise: (t) => noise[t],
    alphaBar,
    beta: (t) => 1 - alphaBar(t) / alphaBar(t - 1),
    snr: (t) => (signal[t] / noise[t]) ** 2,
    logSnr: (t) => 2 * Math.log(signal[t] / noise[t]),
  };
}

// The schedules of a widget, one for each of its `names`
export function readSchedules(model) {
  const [signals, noises] = ["signal", "noise"].map((name) => model.get(name).map((table) => toArray(table, Float64Array)));
  return signals.map((signal, i) => makeSchedule(signal, noises[i]));
}

export function readMix(model) {
  return {
    shape: model.get("shape"), // [height, width, channels]
    vacant: model.get("vacant"), // [height, width] of what is no image, at the lower right
    x0: toBytes(model.get("x0")),
    eps: toArray(model.get("eps"), Int8Array),
    epsScale: model.get("eps_scale"),
  };
}

// Returns a function of signal and noise that draws xt on a canvas, and counts the images' values into `bins` if there are any.
export function mixer(mix, canvas, bins = null) {
  const [height, width, channels] = mix.shape;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  picture.data.fill(255);
  const { x0, eps } = mix;
  const full = (height - mix.vacant[0]) * width; // pixels in rows of images without gaps
  const isImage = (i) => i < full || i % width < width - mix.vacant[1];
  return (signal, noise) => {
    const greys = (noise * mix.epsScale * 255) / 2; // in a step of eps
    if (bins) bins.counts.fill(0);
    for (let i = 0, j = 0; i < height * width; i++, j += 4) {
      for (let c = 0; c < 3; c++) {
        const k = channels === 1 ? i : 3 * i + c;
        const grey = 127.5 + signal * (x0[k] - 127.5) + greys * eps[k];
        picture.data[j + c] = grey; // ImageData clips to 0..255 and rounds
        if (bins && c < channels && isImage(i)) bins.counts[binOf(bins, grey / 127.5 - 1)]++;
      }
    }
    context.putImageData(picture, 0, 0);
  };
}

function binOf(bins, value) {
  const i = Math.floor(((value - bins.low) / (bins.high - bins.low)) * bins.counts.length);
  return Math.max(0, Math.min(bins.counts.length - 1, i));
}
