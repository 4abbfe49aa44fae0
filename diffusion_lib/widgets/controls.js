// Shared by the widgets: a labelled slider with a value text, optionally with a play button.
// `show(i)` is called at once on every move; the kernel hears of it 150 ms after the last one.

const KERNEL_DELAY = 150;

function create(tag, className, parent, attributes = {}) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  Object.assign(node, attributes);
  parent.append(node);
  return node;
}

// Binary traits arrive as a DataView (with an offset of its own), a typed array, or an ArrayBuffer.
function toBytes(data) {
  return data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

function addSlider(model, parent, { last, label, describe, show, play }) {
  const row = create("div", "dl-controls", parent);
  const slider = { node: null, stop() {} };
  const playButton = play ? create("button", "dl-play", row, { type: "button", textContent: "▶" }) : null;
  const input = create("input", "dl-slider", row, { type: "range", min: 0, max: last, step: 1, value: model.get("value") });
  input.setAttribute("aria-label", label);
  const text = create("output", "dl-value", row);
  slider.node = row;

  let saving = null;
  function move(value, fromKernel = false) {
    const i = Math.max(0, Math.min(last, value));
    input.value = i;
    text.textContent = describe(i);
    input.setAttribute("aria-valuetext", describe(i));
    show(i);
    if (fromKernel) return;
    model.set("value", i);
    clearTimeout(saving);
    saving = setTimeout(() => model.save_changes(), KERNEL_DELAY);
  }

  input.addEventListener("input", () => move(Number(input.value)));
  // JupyterLab would take the arrow keys for its own
  row.addEventListener("keydown", (event) => event.stopPropagation());
  const onKernel = () => model.get("value") !== Number(input.value) && move(model.get("value"), true);
  model.on("change:value", onKernel);

  if (playButton) {
    let timer = null;
    const label = () => {
      playButton.textContent = timer ? "❚❚" : "▶";
      playButton.setAttribute("aria-label", timer ? "pause" : "play");
    };
    const pause = () => {
      clearInterval(timer);
      timer = null;
      label();
    };
    playButton.addEventListener("click", () => {
      if (timer) return pause();
      if (Number(input.value) === last) move(0);
      timer = setInterval(() => {
        if (Number(input.value) === last) return pause();
        move(Number(input.value) + 1);
      }, 1000 / 15);
      label();
    });
    input.addEventListener("pointerdown", pause);
    slider.stop = pause;
    label();
  }

  move(model.get("value"), true);
  return {
    refresh: () => move(Number(input.value), true),
    dispose() {
      slider.stop();
      clearTimeout(saving);
      model.off("change:value", onKernel);
    },
  };
}

