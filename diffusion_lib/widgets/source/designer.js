// The schedule designer: a schedule from parameters, computed here, and a model's estimates at its noise levels.

import { COLOURS, create, toArray, addRoot, addPanel, addSelect, bind, decode, addSlider } from "./controls.js";
import { addPlot } from "./curves.js";
import { makeSchedule, readMix, mixer } from "./mix.js";

const MAX_BETA = 0.999; // as in schedules.py
const PER_MILLE = 1000; // the slider over t / T has this many steps
const ALARM = 0.05; // the image's factor at T above which the alarm is on

const logistic = (a) => 1 / (1 + Math.exp(-a));

// beta_t of t = 1..T; the formulas of schedules.py
const BETAS = {
  linear: ({ beta_start, beta_end }, T) => line(beta_start, beta_end, T).map((beta) => (1000 / T) * beta),
  "linear, not scaled": ({ beta_start, beta_end }, T) => line(beta_start, beta_end, T),
  cosine: ({ s }, T) => fromCurve((u) => Math.cos((((u + s) / (1 + s)) * Math.PI) / 2) ** 2, T),
  sigmoid: ({ start, end, tau }, T) => fromCurve((u) => logistic(end / tau) - logistic((start + u * (end - start)) / tau), T),
};

function line(first, last, T) {
  return Array.from({ length: T }, (_, i) => first + (i / (T - 1)) * (last - first));
}

function fromCurve(f, T) {
  return Array.from({ length: T }, (_, i) => 1 - Math.max(0, f((i + 1) / T)) / f(i / T));
}

function designed(kind, values, T) {
  const alphaBar = [1];
  for (const beta of BETAS[kind](values, T)) alphaBar.push(alphaBar.at(-1) * (1 - Math.min(MAX_BETA, beta)));
  return makeSchedule(alphaBar.map(Math.sqrt), alphaBar.map((a) => Math.sqrt(1 - a)));
}

function render({ model, el }) {
  const root = addRoot(model, el, "schedule designer");
  const parameters = model.get("parameters"); // [name, kinds, values]
  const kinds = Object.keys(BETAS);
  const levels = toArray(model.get("levels"), Float64Array); // sqrt(alpha_bar) at which the model was evaluated, falling
  const mix = readMix(model);
  let schedule = designed("linear", { beta_start: 0.5, beta_end: 0.5 }, 2); // until the first is designed, below
  let time = null; // the slider over t, built last

  const plots = create("div", "dl-plots", root);
  const quantities = [
    { title: "β", of: (t) => schedule.beta(t), y: [1e-5, 1], log: true, ticks: { x: [0, 1], y: [1e-4, 1e-2, 1] } },
    { title: "ᾱ", of: (t) => schedule.alphaBar(t), y: [0, 1], ticks: { x: [0, 1], y: [0, 0.5, 1] } },
    { title: "log SNR = log(ᾱ / (1 − ᾱ))", of: (t) => schedule.logSnr(t), y: [-12, 12], ticks: { x: [0, 1], y: [-10, 0, 10] } },
  ];
  for (const quantity of quantities) quantity.plot = addPlot(plots, { ...quantity, x: [0, 1] });

  const alarm = create("div", "dl-label dl-alarm", root, {}, { role: "status" });
  const choices = create("div", "dl-controls", root);
  create("span", "", choices, { textContent: "schedule" });
  const kind = bind(model, "kind", redesign);
  const select = addSelect(choices, "schedule", kinds, kinds.indexOf(model.get("kind")), (i) => kind.set(kinds[i]));

  const timestep = (permille) => Math.max(1, Math.round((permille / PER_MILLE) * schedule.T));
  const body = create("div", "dl-panels", root, {}, { style: "--dl-columns: 3" });
  const canvas = addPanel(body, "xt", mix.shape[0], mix.shape[1]);
  const draw = mixer(mix, canvas);
  const estimates = ["estimate x0_hat from xt", "estimate x0_hat from pure noise at T"].map((name, i) => {
    const context = addPanel(body, name, mix.shape[0], mix.shape[1]).getContext("2d");
    const view = { context, sheet: null, frame: 0 };
    decode(model.get("sheets")[i], (bitmap) => {
      view.sheet = bitmap;
      drawEstimate(view);
    });
    return view;
  });

  function drawEstimate({ context, sheet, frame }) {
    const [height, width] = mix.shape;
    const columns = model.get("sheet_columns");
    if (sheet) context.drawImage(sheet, (frame % columns) * width, Math.floor(frame / columns) * height, width, height, 0, 0, width, height);
  }

  // the index of the model's nearest noise level, compared as angles: cos(phi) = sqrt(alpha_bar)
  function nearestLevel(a) {
    const distances = Array.from(levels, (level) => Math.abs(Math.acos(level) - Math.acos(Math.sqrt(a))));
    return distances.indexOf(Math.min(...distances));
  }

  function show(permille) {
    const t = timestep(permille);
    draw(schedule.signal(t), schedule.noise(t));
    for (const { plot, of } of quantities) plot.mark(t / schedule.T, [of(t)]);
    canvas.setAttribute("aria-label", `the images at t = ${t} of ${schedule.T}`);
    [t, schedule.T].forEach((asked, i) => {
      estimates[i].frame = nearestLevel(schedule.alphaBar(asked));
      drawEstimate(estimates[i]);
    });
  }

  const sliders = parameters.map(([name, belongs, values]) => {
    const describe = (i) => `${name} = ${values[i]}`;
    const slider = addSlider(model, root, { name, label: name, last: values.length - 1, describe, show: () => redesign(), play: false });
    return { belongs, slider };
  });
  time = addSlider(model, root, {
    name: "t_permille",
    label: "timestep t",
    last: PER_MILLE,
    describe: (permille) => `t = ${timestep(permille)} of ${schedule.T}`,
    show,
  });

  function redesign() {
    if (!time) return;
    const chosen = model.get("kind");
    select.value = kinds.indexOf(chosen);
    const values = Object.fromEntries(parameters.map(([name, , all]) => [name, all[model.get(name)]]));
    schedule = designed(chosen, values, values.T);
    const last = schedule.T;
    for (const { belongs, slider } of sliders) slider.row.hidden = !belongs.includes(chosen);
    const stride = Math.max(1, Math.floor(last / 200));
    const ts = Array.from({ length: Math.floor((last - 1) / stride) + 1 }, (_, i) => 1 + i * stride);
    if (ts.at(-1) !== last) ts.push(last);
    for (const { plot, of } of quantities) plot.curve(0, ts.map((t) => [t / last, of(t)]), { stroke: COLOURS[0] });
    const left = schedule.signal(last);
    alarm.classList.toggle("dl-alarmed", left > ALARM);
    alarm.textContent =
      left > ALARM
        ? `⚠ ${(100 * left).toFixed(0)}% of the image is left at T, but a sampler starts from pure noise`
        : `${(100 * left).toFixed(left < 0.001 ? 3 : 1)}% of the image is left at T: as good as pure noise`;
    time.widen();
    time.redraw();
  }

  redesign();
  return () => {
    kind.dispose();
    time.dispose();
    sliders.forEach(({ slider }) => slider.dispose());
  };
}

export default { render };
