// Inside the U-Net: what a position attends to, and the feature maps, for a layer, a timestep and a position that the reader picks.

import { create, addRoot, addCanvas, addPanel, addSelect, bind, bindPlace, decode, addSlider } from "./controls.js";

// what the greys of a layer's attention mean, as in attention.py
function scale([height, width], top) {
  return `attention (grey: uniform, 1/${height * width}; white: ${top} times that or more; black: 1/${top} of it or less)`;
}

function render({ model, el }) {
  const root = addRoot(model, el, "attention and feature maps");
  const layers = model.get("layers"); // [{name, size: [h, w], heads, channels, top}, ...]
  const names = layers.map((layer) => layer.name);
  const [height, width] = model.get("image_shape");
  const ts = model.get("ts");
  const sheets = {};
  let frame = 0;

  const body = create("div", "dl-side-by-side", root);
  const image = addPanel(body, "xt: click the position that attends", height, width);
  image.classList.add("dl-pick");
  const maps = create("div", "dl-maps", body);
  const features = create("div", "dl-maps", body);
  let views = [];

  const layer = bind(model, "layer", (name) => {
    select.value = names.indexOf(name);
    build();
  });
  const pixel = bind(model, "pixel", draw);

  function build() {
    const { size, heads, channels, top } = layers[names.indexOf(model.get("layer"))];
    maps.replaceChildren();
    features.replaceChildren();
    create("div", "dl-label", maps, { textContent: heads ? scale(size, top) : "attention: none in this layer" });
    const grid = create("div", "dl-grid", maps, {}, { style: `--dl-columns: ${Math.min(heads, 4)}` });
    views = Array.from({ length: heads }, (_, i) => addPanel(grid, `head ${i}`, ...size));
    create("div", "dl-label", features, { textContent: `${channels} feature maps (grey: 0)` });
    const featureGrid = create("div", "dl-grid", features, {}, { style: "--dl-columns: 4" });
    views.push(...Array.from({ length: channels }, (_, i) => addCanvas(featureGrid, ...size, `feature map ${i}`)));
    draw();
  }

  function draw() {
    const index = names.indexOf(model.get("layer"));
    const { size, heads } = layers[index];
    const [h, w] = size;
    const [row, column] = model.get("pixel");
    const i = Math.floor((row * h) / height);
    const j = Math.floor((column * w) / width);
    const cell = [(j * width) / w, (i * height) / h, width / w, height / h];
    if (sheets.images) {
      const context = image.getContext("2d");
      context.drawImage(sheets.images, frame * width, 0, width, height, 0, 0, width, height);
      context.strokeStyle = "#ff5a36";
      context.strokeRect(cell[0] + 0.5, cell[1] + 0.5, cell[2] - 1, cell[3] - 1);
      image.setAttribute("aria-label", `xt at t = ${ts[frame]}; the position at row ${row}, column ${column} attends`);
    }
    // attention: positions lie side by side, heads and timesteps below one another; feature maps: channels, and timesteps
    const [attention, feature] = [sheets[`attention ${index}`], sheets[`features ${index}`]];
    views.forEach((canvas, k) => {
      const context = canvas.getContext("2d");
      if (k < heads && attention) context.drawImage(attention, (i * w + j) * w, (frame * heads + k) * h, w, h, 0, 0, w, h);
      if (k >= heads && feature) context.drawImage(feature, (k - heads) * w, frame * h, w, h, 0, 0, w, h);
    });
  }

  function pick(event) {
    const box = image.getBoundingClientRect();
    const at = (fraction, n) => Math.max(0, Math.min(n - 1, Math.floor(fraction * n)));
    pixel.set([at((event.clientY - box.top) / box.height, height), at((event.clientX - box.left) / box.width, width)]);
  }
  image.addEventListener("pointerdown", (event) => {
    image.setPointerCapture(event.pointerId);
    pick(event);
  });
  image.addEventListener("pointermove", (event) => event.buttons && pick(event));
  // and by keys: a picture that can be pointed into is a control
  image.tabIndex = 0;
  image.setAttribute("role", "application");
  image.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const [h, w] = layers[names.indexOf(model.get("layer"))].size;
    const [row, column] = model.get("pixel");
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));
    pixel.set([clamp(row + (move[0] * height) / h, height), clamp(column + (move[1] * width) / w, width)]);
  });

  let place = null;
  const slider = addSlider(model, root, {
    name: "frame",
    label: "timestep",
    last: ts.length - 1,
    describe: (i) => `t = ${ts[i]}`,
    show: (i) => {
      frame = i;
      draw();
      place?.moved(i);
    },
  });
  place = bindPlace(model, "t", slider, () => ts);
  const select = addSelect(slider.row, "layer", names, names.indexOf(model.get("layer")), (i) => layer.set(names[i]));
  build();

  for (const [name, bytes] of Object.entries(model.get("sheets"))) {
    decode(bytes, (bitmap) => {
      sheets[name] = bitmap;
      draw();
    });
  }
  return () => [slider, place, layer, pixel].forEach((part) => part.dispose());
}

export default { render };
