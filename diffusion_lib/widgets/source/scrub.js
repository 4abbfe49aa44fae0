// Recorded frames under a slider.

import { addRoot, bindPlace, addSlider } from "./controls.js";
import { addSheets } from "./sheets.js";

function render({ model, el }) {
  const root = addRoot(model, el, "frames");
  const captions = model.get("captions");
  const ts = model.get("ts"); // of a chain; undefined or empty for other frames
  const sheets = addSheets(model, root);
  let place = null;

  const slider = addSlider(model, root, {
    name: "frame",
    label: "frame",
    last: captions.length - 1,
    describe: (i) => captions[i],
    show: (i) => {
      sheets.show(i, captions[i]);
      place?.moved(i);
    },
  });
  if (ts?.length) place = bindPlace(model, "t", slider, () => ts);
  return () => {
    slider.dispose();
    place?.dispose();
  };
}

export default { render };
