// The noising scrubber: every timestep is mixed here, for whichever schedule is chosen.

import { COLOURS, create, addRoot, addPanel, addSelect, bind, fixed, number, addSlider } from "./controls.js";
import { addPlot } from "./curves.js";
import { readMix, readSchedules, mixer } from "./mix.js";

function render({ model, el }) {
  const root = addRoot(model, el, "noising scrubber");
  const mix = readMix(model);
  const names = model.get("names");
  const schedules = readSchedules(model);
  const bins = { low: -3.5, high: 3.5, counts: new Int32Array(70) };
  const pixels = mix.x0.length - mix.vacant[0] * mix.vacant[1] * mix.shape[2];

  const body = create("div", "dl-side-by-side", root);
  const canvas = addPanel(body, "xt", mix.shape[0], mix.shape[1]);
  const side = create("div", "dl-side", body);
  const facts = create("dl", "dl-facts", side);
  const fact = (name) => {
    create("dt", "", facts, { textContent: name });
    return create("dd", "", facts);
  };
  const [mean, alphaBar, snr, logSnr] = ["xt =", "ᾱ", "SNR = ᾱ / (1 − ᾱ)", "log SNR"].map(fact);
  const ticks = { x: [-3, -1, 0, 1, 3], y: [0, 1] };
  const histogram = addPlot(side, { title: "pixel values of xt; line: N(0, 1)", x: [bins.low, bins.high], y: [0, 1.2], ticks });
  const normal = Array.from({ length: 71 }, (_, i) => {
    const u = bins.low + (i / 70) * (bins.high - bins.low);
    return [u, Math.exp((-u * u) / 2) / Math.sqrt(2 * Math.PI)];
  });
  histogram.curve(1, [], {});
  const draw = mixer(mix, canvas, bins);

  function show(t) {
    const chosen = schedules[names.indexOf(model.get("schedule"))];
    const [signal, noise] = [chosen.signal(t), chosen.noise(t)];
    draw(signal, noise);
    mean.textContent = `${signal.toFixed(3)} x0 + ${noise.toFixed(3)} eps`;
    alphaBar.textContent = number(chosen.alphaBar(t));
    snr.textContent = number(chosen.snr(t));
    logSnr.textContent = fixed(chosen.logSnr(t), 2);
    const width = (bins.high - bins.low) / bins.counts.length;
    const outline = [[bins.low, 0]];
    bins.counts.forEach((count, i) => {
      const height = count / pixels / width;
      outline.push([bins.low + i * width, height], [bins.low + (i + 1) * width, height]);
    });
    histogram.curve(0, [...outline, [bins.high, 0]], { class: "dl-bars" });
    histogram.curve(1, normal, { stroke: COLOURS[1] });
    canvas.setAttribute("aria-label", `the images at t = ${t}, with ${Math.round(100 * signal)} percent of the signal's amplitude`);
  }

  const slider = addSlider(model, root, { name: "t", label: "timestep t", last: schedules[0].T, describe: (t) => `t = ${t}`, show });
  const schedule = bind(model, "schedule", (name) => {
    if (select) select.value = names.indexOf(name);
    slider.redraw();
  });
  const select = names.length > 1 && addSelect(slider.row, "noise schedule", names, names.indexOf(model.get("schedule")), (i) => schedule.set(names[i]));
  return () => {
    slider.dispose();
    schedule.dispose();
  };
}

export default { render };
