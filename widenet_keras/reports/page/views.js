// The two ways to look at a patch: which experts it goes to, and where it looks.
//
// What is looked at is an image and a token of it: a patch, or "head", the token or the
// tokens that the head reads.

class ExpertsView {
  constructor(samples, routing) {
    Object.assign(this, { name: "experts", samples, ...routing });
    this.headName = samples.class_token ? "class token" : null;
  }

  // The choices of a token at a step: pairs of an expert and its gate.
  chosen({ image, token }, step) {
    const place = token === "head" ? 0 : this.samples.first + token;
    const found = [...this.experts.row(image, step, place)];
    return found.map((expert, choice) => [expert, this.gates.at(image, step, place, choice) / 255]);
  }

  // Red, green, blue and how much they cover, of a patch.
  colour(looked, step, patch) {
    const [[expert]] = this.chosen({ image: looked.image, token: patch }, step);
    const code = expertColour(expert);
    return [...[1, 3, 5].map((start) => parseInt(code.slice(start, start + 2), 16)), 0.6];
  }

  words(looked, step) {
    const each = this.chosen(looked, step).map(([expert, gate]) => `expert ${expert} (gate ${gate.toFixed(2)})`);
    return each.join(" and ");
  }

  rows(looked, now) {
    const used = Array.from({ length: this.count }, (_, expert) => ({ name: `expert ${expert}`, colour: expertColour(expert) }));
    const lines = (place) => this.chosen(looked, place).map(([expert, gate]) =>
      barLine(`expert ${expert}`, gate, expertColour(expert), gate.toFixed(2)),
    );
    return [
      legend(used),
      ...this.steps.map((step, place) =>
        element(
          "div",
          { class: place === now ? "of-step now" : "of-step", "data-step": step },
          element("span", { class: "step" }, `step ${step}`),
          element("div", {}, lines(place)),
        ),
      ),
      element("p", { class: "hint" }, "Colours of the patches: their first expert. Bars: the gates of the chosen patch, the probability that its router gives each expert."),
    ];
  }
}

// Five of the colours of matplotlib's map of that name, as in the pictures of attention.
const INFERNO = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

class AttentionView {
  constructor(samples, attention) {
    Object.assign(this, { name: "attention", samples, ...attention });
    this.steps = Array.from({ length: this.weights.shape[1] }, (_, step) => step);
    this.headName = "what the head reads";
  }

  // Whether the attention of each of its tokens is on the page.
  isWhole(image) {
    return image < this.weights.shape[0];
  }

  // What each patch gets of a token, as shares of the largest, and this one.
  lookedAt({ image, token }, step) {
    if (token === "head" || !this.isWhole(image)) {
      return [this.received.row(image, step), this.receivedMost.at(image, step) / 65535];
    }
    const place = this.samples.first + token;
    return [this.weights.row(image, step, place), this.most.at(image, step, place) / 65535];
  }

  // The hue says how much, so that it is seen on black images and on white ones.
  colour(looked, step, patch) {
    const share = this.lookedAt(looked, step)[0][patch] / this.levels;
    const place = share * (INFERNO.length - 1);
    const below = Math.min(Math.floor(place), INFERNO.length - 2);
    const mixed = INFERNO[below].map((from, channel) => from + (place - below) * (INFERNO[below + 1][channel] - from));
    return [...mixed, 0.75];
  }

  words(looked, step) {
    const [shares, most] = this.lookedAt(looked, step);
    const best = shares.indexOf(Math.max(...shares));
    const columns = this.samples.grid[1];
    const where = `row ${Math.floor(best / columns) + 1}, column ${(best % columns) + 1}`;
    const missing = looked.token === "head" || this.isWhole(looked.image) ? "" : "; of this image the page has only what the head reads";
    return `most, ${percent(most, 1)}, to the patch in ${where}${missing}`;
  }

  rows(looked) {
    return [
      ...this.steps.map((step, place) => {
        const most = this.lookedAt(looked, place)[1];
        return barLine(`step ${step}`, most, "var(--second)", percent(most, 1));
      }),
      element("p", { class: "hint" }, "Bars: how much the patch that gets most gets, the mean of the heads. Each map has a scale of its own, from black for nothing to yellow for most."),
    ];
  }
}

function barLine(name, share, colour, text) {
  return element(
    "div",
    { class: "bar-line" },
    element("span", { class: "name" }, element("span", { class: "dot", style: { background: colour } }), name),
    bar(share, colour),
    element("span", { class: "value" }, text),
  );
}
