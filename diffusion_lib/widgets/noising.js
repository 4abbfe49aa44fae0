// xt = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, mixed here for whichever t and schedule is asked for.

function render({ model, el }) {
  const root = create("div", "dl-widget", el);
  if (model.get("title")) create("div", "dl-title", root, { textContent: model.get("title") });
  const [height, width, channels] = model.get("shape");
  const x0 = toBytes(model.get("x0"));
  const eps = new Int8Array(toBytes(model.get("eps")).slice().buffer);
  const schedules = model.get("schedules"); // [{name, alpha_bar: [T + 1 numbers]}, ...]

  const canvas = create("canvas", "", root, { width, height });
  canvas.setAttribute("role", "img");
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  picture.data.fill(255);
  let current = schedules[0];

  function show(t) {
    const alphaBar = current.alpha_bar[t];
    const signal = Math.sqrt(alphaBar);
    const noise = (Math.sqrt(1 - alphaBar) * model.get("eps_scale") * 255) / 2; // eps in grey levels
    for (let i = 0, j = 0; i < width * height; i++, j += 4) {
      for (let c = 0; c < 3; c++) {
        const k = channels === 1 ? i : 3 * i + c;
        // ImageData clips to 0..255 and rounds
        picture.data[j + c] = 127.5 + signal * (x0[k] - 127.5) + noise * eps[k];
      }
    }
    context.putImageData(picture, 0, 0);
  }

  function describe(t) {
    const a = current.alpha_bar[t];
    const snr = t === 0 ? "∞" : (a / (1 - a)).toPrecision(3);
    return `t = ${t}   ᾱ = ${a.toPrecision(3)}   SNR = ${snr}`;
  }

  const slider = addSlider(model, root, { last: current.alpha_bar.length - 1, label: "timestep t", describe, show });
  if (schedules.length > 1) {
    const choose = create("select", "", root.querySelector(".dl-controls"));
    choose.setAttribute("aria-label", "noise schedule");
    schedules.forEach((s, i) => create("option", "", choose, { value: i, textContent: s.name }));
    choose.addEventListener("change", () => {
      current = schedules[Number(choose.value)];
      slider.refresh();
    });
  }
  return () => slider.dispose();
}

export default { render };
