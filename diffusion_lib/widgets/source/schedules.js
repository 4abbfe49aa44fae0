// The schedule explorer: curves of any number of schedules, a marker at t, and what the images look like there.

import { COLOURS, create, addRoot, addCanvas, fixed, number, addSlider } from "./controls.js";
import { addPlot } from "./curves.js";
import { readMix, readSchedules, mixer } from "./mix.js";

const ROW_HEIGHT = 140; // px, of a few large images; many small ones fill the width

function render({ model, el }) {
  const root = addRoot(model, el, "schedule explorer");
  const names = model.get("names");
  const schedules = readSchedules(model);
  const T = schedules[0].T;
  const colour = (i) => COLOURS[i % COLOURS.length];

  const plots = create("div", "dl-plots", root);
  const quantities = [
    { title: "β", of: (schedule, t) => schedule.beta(t), y: [1e-5, 1], log: true, ticks: { x: [1, T], y: [1e-4, 1e-2, 1] } },
    { title: "ᾱ", of: (schedule, t) => schedule.alphaBar(t), y: [0, 1], ticks: { x: [1, T], y: [0, 0.5, 1] } },
    { title: "log SNR = log(ᾱ / (1 − ᾱ))", of: (schedule, t) => schedule.logSnr(t), y: [-12, 12], ticks: { x: [1, T], y: [-10, 0, 10] } },
  ];
  const stride = Math.max(1, Math.floor(T / 400)); // no plot is 400 pixels wide
  const ts = Array.from({ length: Math.floor((T - 1) / stride) + 1 }, (_, i) => 1 + i * stride);
  if (ts.at(-1) !== T) ts.push(T);
  for (const quantity of quantities) {
    quantity.plot = addPlot(plots, { ...quantity, x: [1, T], pick: (t) => slider.set(t) });
    schedules.forEach((schedule, i) => quantity.plot.curve(i, ts.map((t) => [t, quantity.of(schedule, t)]), { stroke: colour(i) }));
  }

  const mix = model.get("shape").length ? readMix(model) : null;
  const rows = create("div", "dl-rows", root);
  const views = names.map((name, i) => {
    const row = create("div", "dl-row", rows);
    const label = create("div", "dl-label", row);
    create("span", "dl-key", label, {}, { style: `background: ${colour(i)}` });
    label.append(name);
    const text = create("div", "dl-numbers", label);
    const canvas = mix && addCanvas(row, mix.shape[0], mix.shape[1], `the images under the ${name} schedule`);
    if (canvas) canvas.style.maxWidth = `${(ROW_HEIGHT * mix.shape[1]) / mix.shape[0]}px`;
    return { text, draw: mix && mixer(mix, canvas) };
  });

  function show(t) {
    for (const { plot, of } of quantities) plot.mark(t, schedules.map((schedule) => of(schedule, t)));
    views.forEach(({ text, draw }, i) => {
      const { signal, noise, alphaBar, beta, logSnr } = schedules[i];
      text.textContent = `β ${number(beta(t))}  ᾱ ${number(alphaBar(t))}  log SNR ${fixed(logSnr(t), 1)}`;
      if (draw) draw(signal(t), noise(t));
    });
  }

  const slider = addSlider(model, root, { name: "t", label: "timestep t", first: 1, last: T, describe: (t) => `t = ${t}`, show });
  return () => slider.dispose();
}

export default { render };
