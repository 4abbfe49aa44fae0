// Built from source/grid.js by tools/bundle_widgets.py. Change the source, and build again.
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
const $sheets = (() => {
const { addPanels, addPanel, decode } = $controls;
function addSheets(model, parent) {
const [height, width] = model.get("frame_shape");
const columns = model.get("sheet_columns");
const names = model.get("panel_names");
const body = addPanels(parent, names.length);
let current = 0;
let caption = "";
const views = names.map((name, i) => {
const canvas = addPanel(body, name, height, width);
const view = { name, canvas, context: canvas.getContext("2d"), sheet: null };
decode(model.get("sheets")[i], (bitmap) => {
view.sheet = bitmap;
draw(view);
});
return view;
});
function draw(view) {
if (!view.sheet) return;
const left = (current % columns) * width;
const top = Math.floor(current / columns) * height;
view.context.drawImage(view.sheet, left, top, width, height, 0, 0, width, height);
view.canvas.setAttribute("aria-label", `${view.name}, ${caption}`);
}
return {
show(frame, words) {
[current, caption] = [frame, words];
views.forEach(draw);
},
};
}
return { addSheets };
})();
const { create, addRoot, addSlider } = $controls;
const { addSheets } = $sheets;
const FEW = 6; // an axis of fewer places has no play button
function render({ model, el }) {
const root = addRoot(model, el, "frames");
const [names, values, captions] = ["axis_names", "axis_values", "captions"].map((name) => model.get(name));
const place = [model.get("first"), model.get("second")];
const sheets = addSheets(model, root);
const caption = create("div", "dl-label", root, {}, { role: "status" });
function move(axis, i) {
place[axis] = i;
const frame = place[0] * values[1].length + place[1];
sheets.show(frame, `${names[0]} ${values[0][place[0]]}, ${names[1]} ${values[1][place[1]]}`);
caption.textContent = captions[frame];
}
const sliders = ["first", "second"].map((name, axis) =>
addSlider(model, root, {
name,
label: names[axis],
last: values[axis].length - 1,
describe: (i) => `${names[axis]} ${values[axis][i]}`,
show: (i) => move(axis, i),
play: values[axis].length >= FEW,
}),
);
return () => sliders.forEach((slider) => slider.dispose());
}
export default { render };
