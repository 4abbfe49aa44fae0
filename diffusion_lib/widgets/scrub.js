// Recorded frames: each panel is one sprite sheet, and a step of the slider is one drawImage.

function render({ model, el }) {
  const root = create("div", "dl-widget", el);
  if (model.get("title")) create("div", "dl-title", root, { textContent: model.get("title") });
  const panels = create("div", "dl-panels", root);
  const captions = model.get("captions");
  const [height, width] = model.get("frame_shape");
  const columns = model.get("sheet_columns");
  let current = 0;

  const views = model.get("panel_names").map((name, i) => {
    const figure = create("figure", "dl-panel", panels);
    create("figcaption", "", figure, { textContent: name });
    const canvas = create("canvas", "", figure, { width, height });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    const view = { context: canvas.getContext("2d"), sheet: null };
    createImageBitmap(new Blob([toBytes(model.get("sheets")[i])], { type: "image/png" })).then((bitmap) => {
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
  }

  const slider = addSlider(model, root, {
    last: captions.length - 1,
    label: "frame",
    describe: (i) => captions[i],
    show: (i) => {
      current = i;
      views.forEach(draw);
    },
    play: true,
  });
  return () => slider.dispose();
}

export default { render };
