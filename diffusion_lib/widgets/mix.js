// xt = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, for all pixels at once.

function readMix(model) {
  return {
    shape: model.get("shape"), // [height, width, channels]
    vacant: model.get("vacant"), // [height, width] of what is no image, at the lower right
    x0: toBytes(model.get("x0")),
    eps: new Int8Array(toBytes(model.get("eps")).slice().buffer),
    epsScale: model.get("eps_scale"),
  };
}

// Returns a function of alpha_bar that draws xt on a canvas, and counts the images' values into `bins` if there are any.
function mixer(mix, canvas, bins = null) {
  const [height, width, channels] = mix.shape;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  picture.data.fill(255);
  const { x0, eps } = mix;
  const full = (height - mix.vacant[0]) * width; // pixels in rows of images without gaps
  const isImage = (i) => i < full || i % width < width - mix.vacant[1];
  return (alphaBar) => {
    const signal = Math.sqrt(alphaBar);
    const noise = (Math.sqrt(1 - alphaBar) * mix.epsScale * 255) / 2; // eps in grey levels
    if (bins) bins.counts.fill(0);
    for (let i = 0, j = 0; i < height * width; i++, j += 4) {
      for (let c = 0; c < 3; c++) {
        const k = channels === 1 ? i : 3 * i + c;
        const grey = 127.5 + signal * (x0[k] - 127.5) + noise * eps[k];
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
