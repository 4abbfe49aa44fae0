// Small line plots with a marker that moves. Plain SVG in the page's own text colour, so that they follow its theme.

const SVG = "http://www.w3.org/2000/svg";
const PLOT = { width: 260, height: 150, left: 38, right: 8, top: 20, bottom: 20 };

function svg(tag, parent, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  parent.append(node);
  return node;
}

// A plot over x = [from, to] and y = [from, to] (log: of positive values). `pick(x)` is called with where the reader points.
export function addPlot(parent, { title, x, y, log = false, ticks, width = PLOT.width, pick = null }) {
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
    // points: [[x, y], ...]; a curve that is there already is drawn anew
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
