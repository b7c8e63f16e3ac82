// Three planes with a cross-hair: NiiVue, as ipyniivue brings it, fed with what the kernel sends. NiiVue
// believes it talks to widget models; these hold the volume in this page only, and send nothing back.

const PROGRAM = Symbol.for("voxelvault.niivue");
const PREFIX = "IPY_MODEL_";
const MARGIN = 6;

async function inflate(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

class LocalModel {
  constructor(values, heard = () => {}) {
    this.values = values;
    this.handlers = new Map();
    this.heard = heard;
    this._comm_live = false;
  }
  get(name) { return this.values[name]; }
  set(name, value) { this.values[name] = value; }
  change(name, value) {
    this.values[name] = value;
    (this.handlers.get(`change:${name}`) ?? []).forEach((handler) => handler());
  }
  tell(message) { (this.handlers.get("msg:custom") ?? []).forEach((handler) => handler(message, [])); }
  on(event, handler) { this.handlers.set(event, [...(this.handlers.get(event) ?? []), handler]); }
  off(event, handler) { this.handlers.set(event, (this.handlers.get(event) ?? []).filter((h) => handler && h !== handler)); }
  send(message) { this.heard(message); }
  save_changes() {}
  send_sync_message() { return ""; }
  rememberLastUpdateFor() {}
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

// Ask the kernel for something that it answers with buffers.
function fetched(model, name) {
  return new Promise((resolve) => {
    const heard = (message, buffers) => {
      if (message[name] === undefined) return;
      model.off("msg:custom", heard);
      resolve(Promise.all(buffers.map(inflate)));
    };
    model.on("msg:custom", heard);
    model.send({ want: name });
  });
}

async function niivue(model) {
  globalThis[PROGRAM] ??= fetched(model, "program").then(([text]) => new Blob([text], { type: "text/javascript" }));
  const address = URL.createObjectURL(await globalThis[PROGRAM]);
  try {
    return (await import(/* webpackIgnore: true */ address)).default;
  } finally {
    URL.revokeObjectURL(address);
  }
}

function volumeModel(id, data, more) {
  return new LocalModel({
    id, data: new DataView(data), name: `${id}.nii`, path: {}, paired_img_path: {}, opacity: 1,
    colormap: "gray", colormap_negative: "", colormap_type: 0, colorbar_visible: false, frame_4d: 0,
    cal_min: null, cal_max: null, cal_min_neg: null, cal_max_neg: null, ...more,
  });
}

function labelColours(colours) {
  const lut = [0, 0, 0, 0];
  for (let label = 1; label < 256; label++) lut.push(...colours[(label - 1) % colours.length], 255);
  return { lut, min: 0, max: 255 };
}

async function render({ model, el }) {
  const stage = element("div", { class: "vv-planes" });
  const place = element("div", { class: "vv-place", text: "loading …" });
  const root = element("div", { class: "vv-viewer vv-wider", "data-lm-suppress-shortcuts": "true" }, [stage, place]);
  el.append(root);

  const [program, volumes] = await Promise.all([niivue(model), fetched(model, "volumes")]);
  const image = volumeModel("image", volumes[0], { cal_min: model.get("low"), cal_max: model.get("high") });
  const labels = volumes.length > 1 ? volumeModel("labels", volumes[1], {
    opacity: model.get("opacity"), cal_min: 0, cal_max: 255, colormap_label: labelColours(model.get("colours")),
  }) : null;
  const held = { image, labels };

  let later = null;
  const heard = ({ event, data }) => {
    if (event !== "location_change") return;
    const mm = data.mm.slice(0, 3);
    const value = data.values?.[0]?.value;
    const label = labels ? Math.round(data.values?.[1]?.value ?? 0) : 0;
    const unit = model.get("unit");
    const said = [`x ${mm[0].toFixed(1)}  y ${mm[1].toFixed(1)}  z ${mm[2].toFixed(1)} mm (RAS)`];
    if (value !== undefined) said.push(`${Number(value.toPrecision(5))}${unit ? " " + unit : ""}`);
    if (label) said.push(model.get("names")[label] ?? `label ${label}`);
    place.textContent = said.join(" · ");
    clearTimeout(later);
    later = setTimeout(() => { model.set("at", mm); model.save_changes(); }, 200);
  };
  // Axial, coronal, sagittal in a row, all at one scale: as high as their width leaves them.
  const height = () => {
    const [x, y, z] = model.get("extent");
    return Math.round(Math.min(Math.max((stage.clientWidth / (2 * x + y)) * Math.max(y, z), 160), 720)) + 2 * MARGIN;
  };
  const hair = () => { // mm that are a line of 1.5 pixels
    const [x, y] = model.get("extent");
    return (1.5 * (2 * x + y)) / Math.max(stage.clientWidth, 300);
  };
  const inner = new LocalModel({
    height: height(), meshes: [], this_model_id: "", background_masks_overlays: 0, draw_lut: null,
    draw_opacity: 0.8, draw_fill_overwrites: true, graph: null, scene: { crosshairPos: model.get("cross") },
    overlay_outline_width: 0, overlay_alpha_shader: 1, draw_bitmap: null,
    volumes: [PREFIX + "image", ...(labels ? [PREFIX + "labels"] : [])],
    // No rendering in depth, not by a key either: a head's shows the face.
    opts: {
      sliceType: 3, multiplanarShowRender: 0, multiplanarLayout: 3, multiplanarEqualSize: false,
      isRadiologicalConvention: true, sagittalNoseLeft: true, viewModeHotKey: "", clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "", dragAndDropEnabled: false, dragMode: 2, showLegend: false, isColorbar: false,
      showAllOrientationMarkers: true, crosshairColor: [0.35, 0.75, 0.35, 1], crosshairWidthUnit: "mm",
      crosshairWidth: hair(), fontColor: [1, 0.84, 0.4, 1], fontMinPx: 15,
      tileMargin: MARGIN, atlasOutline: 1, isNearestInterpolation: false, logLevel: "error", loadingText: "",
    },
  }, heard);
  inner.widget_manager = { get_model: async (id) => held[id] };

  const synced = [];
  const follow = (names, handler) => names.forEach((name) => synced.push([`change:${name}`, handler]));
  follow(["low", "high"], () => {
    image.change("cal_min", model.get("low"));
    image.change("cal_max", model.get("high"));
  });
  follow(["opacity"], () => labels?.change("opacity", model.get("opacity")));

  const bind = (control, names, show, write) => {
    control.addEventListener("input", () => { write(); model.save_changes(); });
    follow(names, show);
    show();
  };
  const choice = element("select", {}, ["custom", ...Object.keys(model.get("presets"))].map((name) => element("option", { value: name, text: name })));
  bind(choice, ["low", "high"], () => {
    const same = ([low, high]) => low === model.get("low") && high === model.get("high");
    choice.value = Object.entries(model.get("presets")).find(([, ends]) => same(ends))?.[0] ?? "custom";
  }, () => {
    const ends = model.get("presets")[choice.value];
    if (ends) { model.set("low", ends[0]); model.set("high", ends[1]); }
    choice.blur();
  });
  const [least, most] = model.get("range");
  const slider = (name, other, keep) => {
    const input = element("input", { type: "range", min: least, max: most, step: (most - least) / 1000 });
    bind(input, [name], () => { input.value = model.get(name); }, () => {
      model.set(name, keep(Number(input.value), model.get(other)));
    });
    return input;
  };
  const thin = (most - least) / 1000;
  root.append(element("div", { class: "vv-row" }, [
    labelled("window", choice),
    labelled("black", slider("low", "high", (value, high) => Math.min(value, high - thin))),
    labelled("white", slider("high", "low", (value, low) => Math.max(value, low + thin))),
  ]));
  if (labels) {
    const opacity = element("input", { type: "range", min: 0, max: 1, step: 0.05 });
    bind(opacity, ["opacity"], () => { opacity.value = model.get("opacity"); }, () => model.set("opacity", Number(opacity.value)));
    const legend = Object.entries(model.get("names")).map(([label, name]) => {
      const colour = model.get("colours")[(Number(label) - 1) % model.get("colours").length];
      const swatch = element("span", { class: "vv-swatch", style: `background:rgb(${colour.join(",")})` });
      return element("span", { class: "vv-field" }, [swatch, element("span", { text: name })]);
    });
    root.append(element("div", { class: "vv-row" }, [labelled("opacity", opacity), ...legend]));
  }
  const note = model.get("note") ? ` · ${model.get("note")}` : "";
  root.append(element("div", { class: "vv-hint", text: `click or drag: cross-hair · wheel: slices · right button: measure${note}` }));

  const ended = await program.initialize({ model: inner });
  const left = await program.render({ model: inner, el: stage });
  inner.tell({ type: "move_crosshair_in_vox", data: [0, 0, 0] });
  const resized = new ResizeObserver(() => inner.change("height", height()));
  resized.observe(stage);
  if (model.get("inverted")) image.change("colormap_invert", true);
  synced.forEach(([event, handler]) => model.on(event, handler));
  return () => {
    resized.disconnect();
    synced.forEach(([event, handler]) => model.off(event, handler));
    left?.();
    ended?.();
  };
}

export default { render };
