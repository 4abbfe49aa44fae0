// Recorded frames: each panel is one sprite sheet, and a step of the slider is one drawImage.

function render({ model, el }) {
  const root = addRoot(model, el, "frames");
  const [height, width] = model.get("frame_shape");
  const columns = model.get("sheet_columns");
  const captions = model.get("captions");
  const ts = model.get("ts"); // of a chain; undefined or empty for other frames
  let current = 0;
  let place = null;

  const names = model.get("panel_names");
  const body = addPanels(root, names.length);
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
    view.canvas.setAttribute("aria-label", `${view.name}, ${captions[current]}`);
  }

  const slider = addSlider(model, root, {
    name: "frame",
    label: "frame",
    last: captions.length - 1,
    describe: (i) => captions[i],
    show: (i) => {
      current = i;
      views.forEach(draw);
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
