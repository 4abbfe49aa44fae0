// Panels of recorded frames: each is one sprite sheet, and a frame is one drawImage.

import { addPanels, addPanel, decode } from "./controls.js";

export function addSheets(model, parent) {
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
