// One slice at a time on a canvas: scroll, window, zoom, pan, overlay. Slices come from the kernel as
// messages, never as widget state, so that a saved notebook holds no volume. Nothing else is loaded.

const CACHE_BYTES = 128 * 2 ** 20;
const KEY_STEPS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
const MOST_ZOOM = 32;

async function inflate(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function decode(message, buffers) {
  const { rows, columns, kind } = message;
  const bytes = await inflate(buffers[0]);
  const values = { int16: Int16Array, float32: Float32Array, rgb: Uint8Array }[kind];
  const mask = buffers.length > 1 ? new Uint8Array(await inflate(buffers[1])) : null;
  return { rows, columns, kind, values: new values(bytes), mask, bytes: bytes.byteLength + (mask?.length ?? 0) };
}

// DICOM PS3.3 C.11.2.1.2.1 (LINEAR), C.11.2.1.3.1 (SIGMOID), C.11.2.1.3.2 (LINEAR_EXACT).
function greyOf(name, center, width, inverted) {
  const linear = width <= 1 ? (v) => (v > center - 0.5 ? 1 : 0) : (v) => (v - (center - 0.5)) / (width - 1) + 0.5;
  const exact = (v) => (v - center) / width + 0.5;
  const sigmoid = (v) => 1 / (1 + Math.exp((-4 * (v - center)) / width));
  const level = { LINEAR_EXACT: exact, SIGMOID: sigmoid }[name] ?? linear;
  return (v) => {
    if (Number.isNaN(v)) return 0;
    const part = Math.min(Math.max(level(v), 0), 1);
    return Math.round((inverted ? 1 - part : part) * 255);
  };
}

function pixelsOf(slice, grey) {
  const { rows, columns, values, kind } = slice;
  const image = new ImageData(columns, rows);
  const out = image.data;
  if (kind === "rgb") {
    for (let i = 0, o = 0; i < values.length; i += 3, o += 4) {
      out[o] = values[i]; out[o + 1] = values[i + 1]; out[o + 2] = values[i + 2]; out[o + 3] = 255;
    }
    return image;
  }
  let level = grey;
  if (kind === "int16") {
    const table = new Uint8Array(65536);
    for (let v = -32768; v < 32768; v++) table[v + 32768] = grey(v);
    level = (v) => table[v + 32768];
  }
  for (let i = 0, o = 0; i < values.length; i++, o += 4) {
    out[o] = out[o + 1] = out[o + 2] = level(values[i]);
    out[o + 3] = 255;
  }
  return image;
}

function fillOf(slice, colours, hidden) {
  const image = new ImageData(slice.columns, slice.rows);
  slice.mask.forEach((label, i) => {
    if (!label || hidden.has(label)) return;
    image.data.set([...colours[(label - 1) % colours.length], 255], 4 * i);
  });
  return image;
}

// Edges between pixels of a label and others, in pixels: lines stay sharp at any zoom.
function edgesOf(slice) {
  const { rows, columns, mask } = slice;
  const paths = new Map();
  const at = (r, c) => (r < 0 || c < 0 || r >= rows || c >= columns ? 0 : mask[r * columns + c]);
  const line = (label, x0, y0, x1, y1) => {
    if (!label) return;
    if (!paths.has(label)) paths.set(label, new Path2D());
    paths.get(label).moveTo(x0, y0);
    paths.get(label).lineTo(x1, y1);
  };
  for (let r = 0; r <= rows; r++) {
    for (let c = 0; c <= columns; c++) {
      const here = at(r, c), left = at(r, c - 1), above = at(r - 1, c);
      if (here !== left) { line(here, c, r, c, r + 1); line(left, c, r, c, r + 1); }
      if (here !== above) { line(here, c, r, c + 1, r); line(above, c, r, c + 1, r); }
    }
  }
  return paths;
}

function element(tag, attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function labelled(text, control) {
  return element("label", { class: "vv-field" }, [element("span", { text }), control]);
}

function render({ model, el }) {
  const count = model.get("count");
  const canvas = element("canvas");
  const [wide, high] = model.get("shape");
  const stage = element("div", {
    class: "vv-stage", tabindex: "0", role: "img", "data-lm-suppress-shortcuts": "true",
    "aria-label": `${count} slices; arrow keys move through them`,
    style: `width:${wide}px;aspect-ratio:${wide}/${high}`,
  }, [canvas]);
  const title = model.get("title") ? [element("div", { class: "vv-title", text: model.get("title") })] : [];
  const root = element("div", { class: "vv-viewer", style: `width:${Math.max(wide, 340)}px` }, [...title, stage]);
  el.append(root);

  const slices = new Map();
  let held = 0, shown = null, asked = null, askedAt = 0, direction = 1, problem = "", cursor = null, painted = {};

  const clamp = (k) => Math.min(Math.max(k, 0), count - 1);
  const keep = (k, slice) => {
    slices.set(k, slice);
    held += slice.bytes;
    for (const [old, other] of slices) {
      if (held <= CACHE_BYTES || old === shown || old === k) continue;
      slices.delete(old);
      held -= other.bytes;
    }
  };
  const ask = (k) => {
    if (asked !== null && performance.now() - askedAt < 20000) return;
    asked = k;
    askedAt = performance.now();
    model.send({ slice: k });
  };
  const settle = () => {
    const k = model.get("index");
    if (slices.has(k)) {
      shown = k;
      const next = [k + direction, k + 2 * direction, k - direction].find((n) => n === clamp(n) && !slices.has(n));
      if (next !== undefined) ask(next);
    } else ask(k);
    draw();
  };
  const received = async (message, buffers) => {
    if (message.slice === undefined) return;
    problem = message.problem ?? "";
    if (!problem && !slices.has(message.slice)) keep(message.slice, await decode(message, buffers));
    if (asked === message.slice) asked = null;
    if (problem) draw();
    else settle();
  };

  const save = () => model.save_changes();
  const go = (k) => {
    const to = clamp(k);
    if (to === model.get("index")) return;
    direction = to > model.get("index") ? 1 : -1;
    model.set("index", to);
    save();
  };
  const setWindow = (center, width) => {
    model.set("preset", "custom");
    model.set("center", center);
    model.set("width", Math.max(width, 1e-6));
  };
  const setView = (zoom, x, y) => {
    const near = Math.min(Math.max(zoom, 1), MOST_ZOOM), half = 0.5 / near;
    const inside = (value) => Math.min(Math.max(value, half), 1 - half);
    model.set("view", [near, inside(x), inside(y)]);
  };

  const placeOf = (event) => {
    const box = stage.getBoundingClientRect();
    const [zoom, cx, cy] = model.get("view");
    const x = (event.clientX - box.left) / box.width - 0.5, y = (event.clientY - box.top) / box.height - 0.5;
    return { x: x / zoom + cx, y: y / zoom + cy, fromLeft: x, fromTop: y, box };
  };
  const zoomAt = (event, factor) => {
    const { x, y, fromLeft, fromTop } = placeOf(event);
    const zoom = Math.min(Math.max(model.get("view")[0] * factor, 1), MOST_ZOOM);
    setView(zoom, x - fromLeft / zoom, y - fromTop / zoom);
    save();
  };

  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) return zoomAt(event, Math.exp(-event.deltaY / 300));
    turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(turned / 40);
    if (!steps) return;
    turned -= steps * 40;
    go(model.get("index") + Math.sign(steps) * Math.min(Math.abs(steps), 3));
  }, { passive: false });

  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    stage.focus();
    if (event.button > 1) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    const moves = event.shiftKey || event.button === 1 || model.get("coloured");
    drag = { moves, x: event.clientX, y: event.clientY, view: model.get("view"),
      center: model.get("center"), width: model.get("width") };
  });
  stage.addEventListener("pointermove", (event) => {
    cursor = placeOf(event);
    if (!drag) return draw();
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (drag.moves) {
      const [zoom, x, y] = drag.view;
      setView(zoom, x - dx / cursor.box.width / zoom, y - dy / cursor.box.height / zoom);
    } else if (Math.abs(dx) + Math.abs(dy) > 3) {
      setWindow(drag.center + (dy * drag.width) / 300, drag.width * Math.exp(dx / 200));
    }
  });
  stage.addEventListener("pointerup", () => { if (drag) { drag = null; save(); } });
  stage.addEventListener("pointerleave", () => { cursor = null; draw(); });
  stage.addEventListener("dblclick", () => { setView(1, 0.5, 0.5); save(); });
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const zoom = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
    const [now, x, y] = model.get("view");
    if (event.key in KEY_STEPS) go(model.get("index") + KEY_STEPS[event.key]);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(count - 1);
    else if (zoom) { setView(now * zoom, x, y); save(); }
    else if (event.key === "0") { setView(1, 0.5, 0.5); save(); }
    else if (event.key === "o") { model.set("overlay", !model.get("overlay")); save(); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const synced = [];
  const row = (...children) => root.append(element("div", { class: "vv-row" }, children));
  const bind = (control, name, read, write) => {
    control.addEventListener("input", () => { const value = read(); if (value !== undefined) write(value); });
    const update = () => { if (document.activeElement !== control || control.type === "range") control.show(); };
    synced.push([`change:${name}`, update]);
    control.show();
  };
  if (count > 1) {
    const slider = element("input", { type: "range", min: 0, max: count - 1, class: "vv-wide" });
    slider.show = () => { slider.value = model.get("index"); };
    bind(slider, "index", () => Number(slider.value), go);
    row(labelled("slice", slider));
  }
  if (!model.get("coloured")) {
    const preset = element("select", {}, model.get("presets").map((name) => element("option", { value: name, text: name })));
    preset.show = () => { preset.value = model.get("preset"); };
    bind(preset, "preset", () => preset.value, (name) => { model.set("preset", name); save(); preset.blur(); });
    const number = (name) => {
      const input = element("input", { type: "number", step: "any" });
      input.show = () => { input.value = Number(model.get(name).toPrecision(4)); };
      const usable = () => (Number.isFinite(input.valueAsNumber) && (name === "center" || input.valueAsNumber > 0)
        ? input.valueAsNumber : undefined);
      bind(input, name, usable, (value) => {
        setWindow(name === "center" ? value : model.get("center"), name === "width" ? value : model.get("width"));
        save();
      });
      return input;
    };
    row(labelled("window", preset), labelled("center", number("center")), labelled("width", number("width")));
  }
  if (model.get("masked")) {
    const tick = (name) => {
      const input = element("input", { type: "checkbox" });
      input.show = () => { input.checked = model.get(name); };
      bind(input, name, () => input.checked, (value) => { model.set(name, value); save(); });
      return input;
    };
    const opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05 });
    opacity.show = () => { opacity.value = model.get("opacity"); };
    bind(opacity, "opacity", () => Number(opacity.value), (value) => { model.set("opacity", value); save(); });
    row(labelled("overlay", tick("overlay")), labelled("opacity", opacity), labelled("outline", tick("outline")));
    row(...Object.entries(model.get("names")).map(([label, name]) => {
      const colour = model.get("colours")[(Number(label) - 1) % model.get("colours").length];
      const input = element("input", { type: "checkbox" });
      const hidden = () => model.get("hidden").filter((other) => other !== Number(label));
      input.show = () => { input.checked = !model.get("hidden").includes(Number(label)); };
      bind(input, "hidden", () => input.checked,
        (on) => { model.set("hidden", on ? hidden() : [...hidden(), Number(label)]); save(); });
      const swatch = element("span", { class: "vv-swatch", style: `background:rgb(${colour.join(",")})` });
      return element("label", { class: "vv-field" }, [input, swatch, element("span", { text: name })]);
    }));
  }
  const pull = model.get("coloured") ? "drag: move" : "drag: window · shift+drag: move";
  row(element("span", { class: "vv-hint", text: `wheel or arrow keys: slices · ${pull} · ctrl+wheel: zoom · double-click: whole slice` }));

  // The grey levels and the overlay are kept until the slice, the window or what is hidden changes.
  const layer = (name, key, make) => {
    if (painted[name]?.key !== key) painted[name] = { key, made: make() };
    return painted[name].made;
  };
  const bitmap = (image) => {
    const made = element("canvas", { width: image.width, height: image.height });
    made.getContext("2d").putImageData(image, 0, 0);
    return made;
  };
  const write = (context, text, x, y, align, base, size) => {
    context.font = `600 ${size}px system-ui, sans-serif`;
    context.textAlign = align;
    context.textBaseline = base;
    context.lineWidth = size / 5;
    context.lineJoin = "round";
    context.strokeStyle = "#000";
    context.fillStyle = "#ffd666";
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  };
  const readout = (slice) => {
    const r = Math.floor(cursor.y * slice.rows), c = Math.floor(cursor.x * slice.columns);
    if (r < 0 || c < 0 || r >= slice.rows || c >= slice.columns) return "";
    const i = r * slice.columns + c;
    const unit = model.get("unit");
    const value = slice.kind === "rgb" ? [...slice.values.subarray(3 * i, 3 * i + 3)].join(" ") : Number(slice.values[i].toPrecision(6));
    const name = slice.mask?.[i] ? ` · ${model.get("names")[slice.mask[i]] ?? slice.mask[i]}` : "";
    return `[${shown}, ${r}, ${c}]  ${value}${unit ? " " + unit : ""}${name}`;
  };

  function paint(context, slice, width, height) {
    const [zoom, cx, cy] = model.get("view");
    const sx = (width / slice.columns) * zoom, sy = (height / slice.rows) * zoom;
    const left = width / 2 - cx * zoom * width, top = height / 2 - cy * zoom * height;
    const seen = ["function", "center", "width", "inverted"].map((name) => model.get(name));
    const grey = layer("grey", [shown, ...seen].join(), () => bitmap(pixelsOf(slice, greyOf(...seen))));
    context.imageSmoothingEnabled = Math.max(sx, sy) < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(grey, left, top, sx * slice.columns, sy * slice.rows);
    if (!slice.mask || !model.get("overlay")) return;
    const hidden = new Set(model.get("hidden")), colours = model.get("colours");
    const fill = layer("fill", `${shown};${[...hidden]}`, () => bitmap(fillOf(slice, colours, hidden)));
    context.globalAlpha = model.get("opacity");
    context.imageSmoothingEnabled = false;
    context.drawImage(fill, left, top, sx * slice.columns, sy * slice.rows);
    context.globalAlpha = 1;
    if (!model.get("outline")) return;
    context.lineWidth = 1.5 * (window.devicePixelRatio || 1);
    for (const [label, path] of layer("edges", shown, () => edgesOf(slice))) {
      if (hidden.has(label)) continue;
      const onScreen = new Path2D();
      onScreen.addPath(path, new DOMMatrix([sx, 0, 0, sy, left, top]));
      context.strokeStyle = `rgb(${colours[(label - 1) % colours.length].join(",")})`;
      context.stroke(onScreen);
    }
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; drawNow(); });
  }
  function drawNow() {
    const dpr = window.devicePixelRatio || 1;
    const width = Math.round(stage.clientWidth * dpr), height = Math.round(stage.clientHeight * dpr);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    const size = Math.max(Math.min(width, height) / 30, 11 * dpr), edge = 4 * dpr;
    const slice = slices.get(shown);
    if (slice) {
      paint(context, slice, width, height);
      const [left, right, top, bottom] = model.get("letters");
      write(context, left, edge, height / 2, "left", "middle", size);
      write(context, right, width - edge, height / 2, "right", "middle", size);
      write(context, top, width / 2, edge, "center", "top", size);
      write(context, bottom, width / 2, height - edge, "center", "bottom", size);
      const zoom = model.get("view")[0];
      const place = `[${shown}] of ${count}` + (zoom > 1.01 ? `  ×${zoom.toFixed(1)}` : "");
      write(context, place, edge, height - edge, "left", "bottom", size * 0.8);
      if (cursor && !drag) write(context, readout(slice), edge, edge, "left", "top", size * 0.7);
    }
    const late = problem || (shown === model.get("index") ? "" : "loading …");
    if (late) write(context, late, width / 2, height * 0.6, "center", "middle", size * 0.8);
  }

  const redrawn = ["center", "width", "function", "view", "opacity", "outline", "overlay", "hidden"];
  synced.push(["change:index", settle], ["msg:custom", received]);
  redrawn.forEach((name) => synced.push([`change:${name}`, draw]));
  synced.forEach(([event, handler]) => model.on(event, handler));
  const resized = new ResizeObserver(draw);
  resized.observe(stage);
  settle();
  return () => {
    resized.disconnect();
    synced.forEach(([event, handler]) => model.off(event, handler));
  };
}

export default { render };
