// Built from source/attention.js by tools/bundle_widgets.py. Change the source, and build again.
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
const { create, addRoot, addCanvas, addPanel, addSelect, bind, bindPlace, decode, addSlider } = $controls;
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
