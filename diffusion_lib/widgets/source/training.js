// Training, live or afterwards: the loss curve with a marker, and samples on the same noise at successive steps.

import { COLOURS, create, toArray, addRoot, addPanels, addPanel, bindPlace, decode, addSlider } from "./controls.js";
import { addPlot } from "./curves.js";

const SMOOTH = 0.95; // of the running mean of the loss
const MAX_POINTS = 1500; // a screen has no more columns

function render({ model, el }) {
  const root = addRoot(model, el, "training");
  const [height, width] = model.get("panel_shape");
  const names = model.get("panel_names");
  const bitmaps = [];
  let current = 0;
  let place = null;

  const plot = addPlot(root, { title: "loss of each step, and its running mean", x: [0, model.get("total")], y: [0.01, 1], log: true, width: 640, pick: (step) => place.go(step) });
  const body = addPanels(root, names.length);
  const views = names.map((name) => addPanel(body, name, height, width));
  const steps = () => model.get("steps");

  function drawSamples() {
    const bitmap = bitmaps[current];
    if (!bitmap) return; // the old picture stays until the new one is decoded
    views.forEach((canvas, i) => {
      canvas.getContext("2d").drawImage(bitmap, i * width, 0, width, height, 0, 0, width, height);
      canvas.setAttribute("aria-label", `${names[i]} after ${steps()[current]} steps`);
    });
  }

  function drawLosses() {
    const losses = toArray(model.get("losses"), Float32Array);
    if (losses.length === 0) return;
    const positive = losses.filter((v) => v > 0 && Number.isFinite(v)); // skipped steps have losses that are not finite
    if (positive.length === 0) return;
    let [average, seen] = [0, 0];
    const smooth = Array.from(losses, (loss) => {
      if (Number.isFinite(loss)) average += (loss - average) * Math.max(1 - SMOOTH, 1 / ++seen);
      return seen ? average : NaN;
    });
    const stride = Math.max(1, Math.floor(losses.length / MAX_POINTS));
    const points = (values) =>
      Array.from(values, (v, i) => [i + 1, v]).filter(([, v], i) => v > 0 && Number.isFinite(v) && (i % stride === 0 || i === values.length - 1));
    const [low, high] = [Math.min, Math.max].map((f) => positive.reduce((a, b) => f(a, b)));
    plot.setRange([0, model.get("total")], low < high ? [low, high] : [low / 2, high * 2]);
    plot.curve(0, points(losses), { stroke: COLOURS[0], "stroke-opacity": 0.3, "stroke-width": 0.7 });
    plot.curve(1, points(smooth), { stroke: COLOURS[0] });
    if (steps().length) plot.mark(steps()[current]);
  }

  function take() {
    const pictures = model.get("pictures");
    for (let i = bitmaps.length; i < pictures.length; i++) {
      bitmaps[i] = null;
      decode(pictures[i], (bitmap) => {
        bitmaps[i] = bitmap;
        if (i === current) drawSamples();
      });
    }
  }

  const slider = addSlider(model, root, {
    name: "frame",
    label: "training step",
    last: Math.max(0, steps().length - 1),
    describe: (i) => (steps().length ? `after ${steps()[i]} of ${model.get("total")} steps` : "no samples yet"),
    show: (i) => {
      current = i;
      drawSamples();
      if (steps().length) plot.mark(steps()[i]);
      place?.moved(i);
    },
  });
  place = bindPlace(model, "step", slider, steps);
  const status = model.get("live") ? addStatus() : null;

  function addStatus() {
    const row = create("div", "dl-controls", root);
    const stop = create("button", "dl-button dl-stop", row, { type: "button", textContent: "Stop after this step" });
    stop.title = "If the button has no effect while the kernel works, interrupt the kernel: the run then also stops after the current step";
    const text = create("span", "dl-value", row, {}, { role: "status" });
    stop.addEventListener("click", () => {
      model.send({ stop: true }); // not a change of state, which would wait for the answer to the last one
      // a kernel reads messages when the cell has ended; JupyterLab's manager of widgets knows it, and can interrupt it
      model.widget_manager?.kernel?.interrupt?.()?.catch?.(() => {});
      stop.disabled = true;
      text.textContent = "stopping …";
    });
    function update() {
      const running = model.get("running");
      const done = model.get("losses").byteLength / 4;
      stop.disabled = !running || model.get("stop");
      if (running) text.textContent = model.get("stop") ? "stopping …" : "training";
      else text.textContent = done < model.get("total") ? `stopped after ${done} steps; nothing is lost` : "finished";
    }
    update();
    return { update };
  }

  const listeners = {
    "change:losses": drawLosses,
    "change:pictures": () => {
      const wasLast = current === Math.max(0, bitmaps.length - 1);
      take();
      slider.extend(bitmaps.length - 1);
      if (wasLast) slider.set(bitmaps.length - 1);
    },
    "change:running": () => status?.update(),
    "change:stop": () => status?.update(),
  };
  for (const [event, listener] of Object.entries(listeners)) model.on(event, listener);
  take();
  drawLosses();
  return () => {
    slider.dispose();
    place.dispose();
    for (const [event, listener] of Object.entries(listeners)) model.off(event, listener);
  };
}

export default { render };
