// Images, their patches, and what happens when one points at a patch.

class Explorer {
  constructor(content, views) {
    this.classes = content.classes;
    this.samples = content.samples;
    this.views = views;
    [this.view] = views;
    [this.rows, this.columns] = content.samples.grid;
    this.image = 0;
    this.step = 0;
    // A patch, or "head".
    this.token = Math.floor(this.rows / 2) * this.columns + Math.floor(this.columns / 2);
    this.make();
    this.show();
  }

  make() {
    this.picture = element("img", { alt: "", draggable: "false" });
    this.overlay = element("canvas", { width: this.columns, height: this.rows });
    this.outline = element("div", { class: "outline" });
    this.stage = element(
      "div",
      {
        class: "stage",
        tabindex: 0,
        role: "application",
        "aria-roledescription": "patch grid",
        "aria-label": "Patches of the image: arrow keys move, Page Up and Page Down change the step",
        style: { "aspect-ratio": `${this.columns} / ${this.rows}` },
        onpointerdown: (event) => this.point(event),
        onpointermove: (event) => this.point(event),
        onkeydown: (event) => this.press(event),
      },
      this.picture,
      this.overlay,
      this.outline,
    );
    this.told = element("p", { class: "told", "aria-live": "polite" });
    this.caption = element("p", { class: "caption" });
    this.predictions = element("div", { class: "bars" });
    this.strip = element("div", { class: "strip", role: "group", "aria-label": "steps" });
    this.panel = element("div", { class: "panel" });
    this.head = element("button", { type: "button", class: "quiet", onclick: () => this.pick("head") });
    this.tabs = this.views.map((view) =>
      element("button", { type: "button", onclick: () => this.look(view) }, view.name),
    );
    this.cover = element("input", { type: "checkbox", checked: true, onchange: () => this.show() });
    this.thumbs = this.samples.images.map((each, index) =>
      element(
        "button",
        { type: "button", class: this.isWrong(each) ? "thumb wrong" : "thumb", onclick: () => this.choose(index) },
        element("img", { src: each.png, alt: "" }),
        element("span", {}, this.nameOf(each)),
      ),
    );
    this.box = element(
      "div",
      { class: "explorer" },
      element("div", { class: "thumbs", role: "group", "aria-label": "images" }, this.thumbs),
      element(
        "div",
        { class: "inside" },
        element(
          "div",
          { class: "left" },
          element(
            "div",
            { class: "controls" },
            this.tabs.length > 1 ? element("div", { class: "switch", role: "group", "aria-label": "what to show" }, this.tabs) : null,
            element("label", {}, this.cover, "colours"),
            this.head,
          ),
          this.stage,
          this.caption,
          this.predictions,
        ),
        element("div", { class: "right" }, this.strip, this.told, this.panel),
      ),
    );
  }

  isWrong(sample) {
    return sample.label !== null && sample.label !== sample.top[0][0];
  }

  nameOf(sample) {
    const taken = this.classes[sample.top[0][0]];
    if (sample.label === null) return taken;
    return this.isWrong(sample) ? `${this.classes[sample.label]} ✗ ${taken}` : taken;
  }

  point(event) {
    // A finger that passes over the picture scrolls the page.
    if (event.pointerType === "touch" && event.type === "pointermove") return;
    const box = this.stage.getBoundingClientRect();
    const within = (value, count) => Math.max(0, Math.min(count - 1, Math.floor(value * count)));
    const row = within((event.clientY - box.top) / box.height, this.rows);
    const column = within((event.clientX - box.left) / box.width, this.columns);
    this.pick(row * this.columns + column);
  }

  press(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const turns = { PageUp: -1, PageDown: 1 };
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      const token = this.token === "head" ? 0 : this.token;
      const row = Math.floor(token / this.columns) + down;
      const column = (token % this.columns) + right;
      if (row >= 0 && row < this.rows && column >= 0 && column < this.columns) {
        this.pick(row * this.columns + column);
      }
    } else if (event.key in turns) {
      this.go(Math.max(0, Math.min(this.view.steps.length - 1, this.step + turns[event.key])));
    } else {
      return;
    }
    event.preventDefault();
  }

  pick(token) {
    if (token === this.token) return;
    this.token = token;
    this.show();
  }

  go(step) {
    this.step = step;
    this.show();
  }

  choose(image) {
    this.image = image;
    this.show();
  }

  // The other view, at the same step if it has it.
  look(view) {
    const place = view.steps.indexOf(this.view.steps[this.step]);
    this.view = view;
    this.step = Math.max(0, place);
    if (this.token === "head" && view.headName === null) this.token = 0;
    this.show();
  }

  paint(canvas, step) {
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.columns, this.rows);
    for (let patch = 0; patch < this.rows * this.columns; patch += 1) {
      const [red, green, blue, cover] = this.view.colour(this, step, patch);
      pixels.data.set([red, green, blue, Math.round(255 * cover)], 4 * patch);
    }
    context.putImageData(pixels, 0, 0);
  }

  show() {
    const sample = this.samples.images[this.image];
    this.picture.src = sample.png;
    this.paint(this.overlay, this.step);
    this.overlay.hidden = !this.cover.checked;
    this.showOutline();
    this.head.textContent = this.view.headName ?? "";
    this.head.hidden = this.view.headName === null;
    const pressed = (button, is) => button.setAttribute("aria-pressed", String(is));
    pressed(this.head, this.token === "head");
    this.tabs.forEach((button, index) => pressed(button, this.views[index] === this.view));
    this.thumbs.forEach((button, index) => pressed(button, index === this.image));
    this.caption.replaceChildren(...this.captionOf(sample));
    this.predictions.replaceChildren(...sample.top.map(([index, share]) => {
      const right = sample.label === null || index === sample.label;
      return barLine(this.classes[index], share, right ? "var(--accent)" : "var(--muted)", percent(share, 1));
    }));
    this.strip.replaceChildren(...this.view.steps.map((step, place) => this.film(step, place)));
    this.panel.replaceChildren(...this.view.rows(this, this.step));
    const words = this.view.words(this, this.step);
    this.told.replaceChildren(element("b", {}, this.tokenName()), ` at step ${this.view.steps[this.step]}: ${words}.`);
  }

  showOutline() {
    this.outline.hidden = this.token === "head";
    if (this.outline.hidden) return;
    const [row, column] = [Math.floor(this.token / this.columns), this.token % this.columns];
    const style = {
      left: `${(100 * column) / this.columns}%`,
      top: `${(100 * row) / this.rows}%`,
      width: `${100 / this.columns}%`,
      height: `${100 / this.rows}%`,
    };
    filled(this.outline, { style }, []);
  }

  captionOf(sample) {
    const taken = element("b", {}, this.classes[sample.top[0][0]]);
    if (sample.label === null) return ["Taken for ", taken];
    if (!this.isWrong(sample)) return ["Recognised as ", taken];
    return ["A mistake: ", element("b", {}, this.classes[sample.label]), " taken for ", taken];
  }

  // A step as a small picture; pressed, it is the step that the large one shows.
  film(step, place) {
    const canvas = element("canvas", { width: this.columns, height: this.rows });
    const picture = element("img", { src: this.samples.images[this.image].png, alt: "" });
    this.paint(canvas, place);
    return element(
      "button",
      { type: "button", class: "film", "aria-pressed": String(place === this.step), onclick: () => this.go(place) },
      element("span", { class: "layers", style: { "aspect-ratio": `${this.columns} / ${this.rows}` } }, picture, canvas),
      `step ${step}`,
    );
  }

  tokenName() {
    if (this.token === "head") return this.view.headName.replace(/^./, (first) => first.toUpperCase());
    return `Patch in row ${Math.floor(this.token / this.columns) + 1}, column ${(this.token % this.columns) + 1}`;
  }
}

async function explorerSection(content) {
  const { samples } = content;
  if (!samples) {
    const note = "No images were given to look at: widenet report … --data DATA shows some, patch by patch.";
    return section("explorer", "Look inside", element("p", { class: "note" }, note));
  }
  const views = [];
  const { routing, attention } = samples;
  if (routing) {
    views.push(new ExpertsView(samples, {
      steps: routing.steps,
      count: routing.num_experts,
      experts: await unpacked(routing.experts),
      gates: await unpacked(routing.gates),
    }));
  }
  views.push(new AttentionView(samples, {
    levels: attention.levels,
    weights: await unpacked(attention.weights),
    most: await unpacked(attention.most),
    received: await unpacked(attention.received),
    receivedMost: await unpacked(attention.received_most),
  }));
  const what = routing ? "which experts it goes to and how sure its router is" : "where it looks";
  const last = samples.mistakes ? ` The last ${samples.mistakes} are mistakes, the most confident first.` : "";
  return section(
    "explorer",
    "Look inside",
    element("p", {}, `Choose an image and point at a patch to see ${what}, at every step; arrow keys move it.${last}`),
    new Explorer(content, views).box,
  );
}
