// Recorded frames under two sliders: one for each of two axes, such as training steps and timesteps.

import { create, addRoot, addSlider } from "./controls.js";
import { addSheets } from "./sheets.js";

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
