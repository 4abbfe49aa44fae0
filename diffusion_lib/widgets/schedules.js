// Built from source/schedules.js by tools/bundle_widgets.py. Change the source, and build again.
const $controls = (() => {
const KERNEL_DELAY = 150; // ms: the page redraws at once; the kernel is informed when the slider rests
const KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const COLOURS = ["#2f7fc1", "#d9730d", "#2e9e5b", "#c0497b", "#8a63d2", "#8c7a3d"]; // each 3:1 or better on white and on near-black
function create(tag, className, parent, properties = {}, attributes = {}) {
const node = document.createElement(tag);
if (className) node.className = className;
Object.assign(node, properties);
for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
parent.append(node);
return node;
}
function toBytes(data) {
return data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
function toArray(data, Type) {
return new Type(toBytes(data).slice().buffer); // sliced: a view must start at a multiple of its item size
}
function addRoot(model, el, name) {
const root = create("div", "dl-widget", el, {}, { role: "group", "aria-label": model.get("title") || name });
if (model.get("title")) create("div", "dl-title", root, { textContent: model.get("title") });
root.addEventListener("keydown", (event) => {
const isLetter = event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey;
if (isLetter || KEYS.includes(event.key)) event.stopPropagation();
});
return root;
}
function addCanvas(parent, height, width, label) {
return create("canvas", "", parent, { height, width }, { role: "img", "aria-label": label });
}
function addPanels(parent, n) {
return create("div", "dl-panels", parent, {}, { style: `--dl-columns: ${n === 4 ? 2 : Math.min(n, 3)}` });
}
function addPanel(parent, name, height, width) {
const figure = create("figure", "dl-panel", parent);
create("figcaption", "", figure, { textContent: name });
return addCanvas(figure, height, width, name);
}
function addSelect(parent, label, names, chosen, choose) {
const select = create("select", "", parent, {}, { "aria-label": label });
names.forEach((name, i) => create("option", "", select, { value: i, textContent: name }));
select.value = chosen;
select.addEventListener("change", () => choose(Number(select.value)));
return select;
}
function bind(model, name, apply) {
let saving = null;
const changed = () => apply(model.get(name));
model.on(`change:${name}`, changed);
return {
set(value) {
if (value === model.get(name)) return;
model.set(name, value); // calls `changed`
clearTimeout(saving);
if (!model.get("running")) saving = setTimeout(() => model.save_changes(), KERNEL_DELAY);
},
dispose() {
clearTimeout(saving);
model.off(`change:${name}`, changed);
},
};
}
function number(v) {
if (v === 0 || !Number.isFinite(v)) return fixed(v, 0);
return v >= 0.001 && v < 10000 ? v.toPrecision(3) : v.toExponential(1);
}
function fixed(v, digits) {
return Number.isFinite(v) ? v.toFixed(digits) : String(v).replace("Infinity", "∞");
}
function bindPlace(model, name, slider, places) {
const nearest = (place) => {
const distances = places().map((value) => Math.abs(value - place));
return Math.max(0, distances.indexOf(Math.min(...distances)));
};
const bound = bind(model, name, (place) => slider.set(nearest(place)));
return {
moved: (frame) => nearest(model.get(name)) !== frame && bound.set(places()[frame]),
go: (place) => slider.set(nearest(place)),
dispose: bound.dispose,
};
}
function decode(bytes, ready) {
createImageBitmap(new Blob([toBytes(bytes)], { type: "image/png" })).then(ready);
}
function addSlider(model, parent, { name, label, first = 0, last, describe, show, play = true }) {
const row = create("div", "dl-controls", parent);
const playButton = play ? create("button", "dl-button", row, { type: "button" }) : null;
const input = create("input", "dl-slider", row, { type: "range", min: first, max: last, step: 1 }, { "aria-label": label });
const text = create("span", "dl-value", row, {}, { "aria-hidden": "true" });
const loop = play ? create("button", "dl-button", row, { type: "button", textContent: "↻" }, { "aria-pressed": "false" }) : null;
let end = last;
let current = null;
function widen() {
let longest = 0;
for (let i = first; i <= end; i++) longest = Math.max(longest, describe(i).length);
text.style.minWidth = `${longest}ch`; // nothing moves when the words change
}
function apply(value) {
current = Math.max(first, Math.min(end, value));
input.value = current;
text.textContent = describe(current);
input.setAttribute("aria-valuetext", describe(current));
show(current);
}
const bound = bind(model, name, apply);
const player = play ? addPlayer() : { pause() {} };
input.addEventListener("input", () => {
player.pause();
bound.set(Number(input.value));
});
function addPlayer() {
let request = null;
let speed = 1;
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const label = () => {
playButton.textContent = request ? "❚❚" : "▶";
playButton.setAttribute("aria-label", request ? "pause" : "play");
};
const pause = () => {
cancelAnimationFrame(request);
request = null;
label();
};
const start = () => {
const perSecond = Math.max((end - first) / 8, Math.min(12, (end - first) / 2));
let position = current === end ? first : current;
let before = performance.now();
const frame = (now) => {
request = requestAnimationFrame(frame);
if (still.matches && now - before < 500) return; // two pictures a second, and no motion between them
position += Math.max(0, ((now - before) / 1000) * perSecond * speed);
before = now;
const looping = loop.getAttribute("aria-pressed") === "true";
if (looping && position >= end + 1) position = first; // the last frame has its time, too
bound.set(Math.min(end, Math.floor(position)));
if (!looping && position >= end) pause();
};
bound.set(Math.floor(position));
request = requestAnimationFrame(frame);
label();
};
playButton.addEventListener("click", () => (request ? pause() : start()));
loop.setAttribute("aria-label", "loop");
loop.title = "loop";
loop.addEventListener("click", () => loop.setAttribute("aria-pressed", loop.getAttribute("aria-pressed") !== "true"));
const times = SPEEDS.map((s) => `${s}×`);
addSelect(row, "speed", times, SPEEDS.indexOf(1), (i) => (speed = SPEEDS[i]));
input.addEventListener("keydown", (event) => {
if (event.key !== " ") return;
event.preventDefault(); // the page would scroll
playButton.click();
});
label();
return { pause };
}
widen();
apply(model.get(name));
return {
row,
set: bound.set,
redraw: () => apply(current),
widen,
extend(newLast) {
end = newLast;
input.max = end;
widen();
apply(model.get(name));
},
dispose() {
player.pause();
bound.dispose();
},
};
}
return { COLOURS, create, toBytes, toArray, addRoot, addCanvas, addPanels, addPanel, addSelect, bind, number, fixed, bindPlace, decode, addSlider };
})();
const $curves = (() => {
const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 260, height: 150, left: 38, right: 8, top: 20, bottom: 20 };
function svg(tag, parent, attributes = {}, text = "") {
const node = document.createElementNS(SVG, tag);
for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
if (text) node.textContent = text;
parent.append(node);
return node;
}
function addPlot(parent, { title, x, y, log = false, ticks, width = PLOT.width, pick = null }) {
const box = { ...PLOT, width };
const node = svg("svg", parent, { viewBox: `0 0 ${box.width} ${box.height}`, class: "dl-plot", role: "img", "aria-label": title });
const scale = (v, [from, to], a, b) => a + ((v - from) / (to - from)) * (b - a);
let range = { x, y };
const level = (v) => (log ? Math.log10(v) : v);
const atX = (v) => scale(v, range.x, box.left, box.width - box.right);
const atY = (v) => {
const [low, high] = range.y.map(level);
return scale(Math.max(low, Math.min(high, level(v))), [low, high], box.height - box.bottom, box.top);
};
svg("text", node, { x: box.left, y: 12, class: "dl-plot-title" }, title);
const axes = svg("g", node, { class: "dl-axes" });
const curves = svg("g", node, { fill: "none", "stroke-width": 1.5 });
const marker = svg("line", node, { y1: box.top, y2: box.height - box.bottom, class: "dl-marker", visibility: "hidden" });
const dots = [];
function drawAxes() {
axes.replaceChildren();
svg("path", axes, { d: `M${box.left} ${box.top}V${box.height - box.bottom}H${box.width - box.right}`, fill: "none" });
for (const v of ticks?.y ?? range.y) {
svg("text", axes, { x: box.left - 4, y: atY(v) + 3, "text-anchor": "end" }, String(Number(v.toPrecision(2))));
svg("path", axes, { d: `M${box.left - 2} ${atY(v)}h2` });
}
for (const v of ticks?.x ?? range.x) {
svg("text", axes, { x: atX(v), y: box.height - box.bottom + 12, "text-anchor": v === range.x[1] ? "end" : "middle" }, String(v));
svg("path", axes, { d: `M${atX(v)} ${box.height - box.bottom}v2` });
}
}
if (pick) {
node.classList.add("dl-pick");
const point = (event) => {
const at = ((event.clientX - node.getBoundingClientRect().left) / node.getBoundingClientRect().width) * box.width;
const [low, high] = range.x;
pick(Math.max(low, Math.min(high, Math.round(scale(at, [box.left, box.width - box.right], low, high)))));
};
node.addEventListener("pointerdown", (event) => {
node.setPointerCapture(event.pointerId);
point(event);
});
node.addEventListener("pointermove", (event) => event.buttons && point(event));
}
drawAxes();
return {
setRange(newX, newY) {
range = { x: newX, y: newY };
drawAxes();
},
curve(i, points, attributes = {}) {
const line = curves.children[i] ?? svg("path", curves);
for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
line.setAttribute("d", points.map(([a, b], k) => `${k ? "L" : "M"}${atX(a).toFixed(1)} ${atY(b).toFixed(1)}`).join(""));
},
mark(v, values = []) {
marker.removeAttribute("visibility");
marker.setAttribute("x1", atX(v));
marker.setAttribute("x2", atX(v));
values.forEach((value, i) => {
dots[i] ??= svg("circle", node, { r: 3, fill: COLOURS[i % COLOURS.length] });
dots[i].setAttribute("cx", atX(v));
dots[i].setAttribute("cy", atY(value));
});
},
};
}
return { addPlot };
})();
const $mix = (() => {
const { toBytes, toArray } = $controls;
function makeSchedule(signal, noise) {
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
function readSchedules(model) {
const [signals, noises] = ["signal", "noise"].map((name) => model.get(name).map((table) => toArray(table, Float64Array)));
return signals.map((signal, i) => makeSchedule(signal, noises[i]));
}
function readMix(model) {
return {
shape: model.get("shape"), // [height, width, channels]
vacant: model.get("vacant"), // [height, width] of what is no image, at the lower right
x0: toBytes(model.get("x0")),
eps: toArray(model.get("eps"), Int8Array),
epsScale: model.get("eps_scale"),
};
}
function mixer(mix, canvas, bins = null) {
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
return { makeSchedule, readSchedules, readMix, mixer };
})();
const { COLOURS, create, addRoot, addCanvas, fixed, number, addSlider } = $controls;
const { addPlot } = $curves;
const { readMix, readSchedules, mixer } = $mix;
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
