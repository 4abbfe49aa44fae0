// Built from source/training.js by tools/bundle_widgets.py. Change the source, and build again.
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
const { COLOURS, create, toArray, addRoot, addPanels, addPanel, bindPlace, decode, addSlider } = $controls;
const { addPlot } = $curves;
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
