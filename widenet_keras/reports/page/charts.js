// Charts: axes, lines, areas and bars.

const HEIGHT = 190;
const MARGIN = { left: 48, right: 12, top: 10, bottom: 38 };

// What turns numbers into places of a drawing of some width.
function frame(width, [x0, x1], [y0, y1], height = HEIGHT) {
  const inner = Math.max(1, width - MARGIN.left - MARGIN.right);
  const tall = height - MARGIN.top - MARGIN.bottom;
  return {
    width,
    height,
    x: (value) => MARGIN.left + ((value - x0) / (x1 - x0 || 1)) * inner,
    y: (value) => MARGIN.top + (1 - (value - y0) / (y1 - y0 || 1)) * tall,
    valueAt: (place) => x0 + ((place - MARGIN.left) / inner) * (x1 - x0),
  };
}

function axes(place, xs, ys, label, written = short) {
  const bottom = place.height - MARGIN.bottom;
  return shape(
    "g",
    { class: "axes" },
    ys.map((value) => [
      shape("line", { x1: MARGIN.left, x2: place.width - MARGIN.right, y1: place.y(value), y2: place.y(value) }),
      shape("text", { x: MARGIN.left - 6, y: place.y(value), "text-anchor": "end", dy: "0.35em" }, written(value)),
    ]).flat(),
    xs.map((value) => shape("text", { x: place.x(value), y: bottom + 16, "text-anchor": "middle" }, short(value))),
    shape("text", { x: (MARGIN.left + place.width - MARGIN.right) / 2, y: place.height - 4, "text-anchor": "middle" }, label),
  );
}

function picture(place, label, ...children) {
  return shape(
    "svg",
    { width: place.width, height: place.height, role: "img", "aria-label": label },
    ...children,
  );
}

function legend(entries) {
  return element(
    "ul",
    { class: "legend" },
    entries.map(({ name, colour, value }) =>
      element(
        "li",
        {},
        element("span", { class: "dot", style: { background: colour } }),
        name,
        value === undefined ? null : element("b", {}, value),
      ),
    ),
  );
}

// Whole epochs at the ends and between.
function epochTicks(epochs, width) {
  const found = ticks(epochs[0], epochs[epochs.length - 1], Math.max(2, Math.min(6, width / 70)));
  return found.filter((each) => Number.isInteger(each));
}

// Lines over the epochs; pointing at one says its values.
function lineChart(title, epochs, lines) {
  const all = lines.flatMap((line) => line.values).filter((value) => value !== null);
  let [least, most] = [Math.min(...all), Math.max(...all)];
  if (least === most) [least, most] = least ? [least - Math.abs(least) / 2, most + Math.abs(most) / 2] : [0, 1];
  const values = element("div");
  const last = (line) => line.values.findLast((value) => value !== null);
  const tell = (index) => {
    const entries = lines.map((line) => ({
      ...line,
      value: short(index === null ? last(line) : line.values[index]),
    }));
    const when = epochs[index ?? epochs.length - 1];
    values.replaceChildren(legend([...entries]), element("p", { class: "when" }, `epoch ${when}`));
  };
  tell(null);
  const draw = (width) => {
    const place = frame(width, [epochs[0], epochs[epochs.length - 1]], [least, most]);
    const mark = shape("line", { class: "mark", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, visibility: "hidden" });
    const label = `${title}: ${lines.map((line) => `${line.name} ends at ${short(last(line))}`).join(", ")}`;
    const drawn = picture(
      place,
      label,
      axes(place, epochTicks(epochs, width), ticks(least, most), "epoch"),
      mark,
      lines.map((line) => {
        const known = line.values.map((value, index) => [place.x(epochs[index]), value]).filter(([, value]) => value !== null);
        const points = known.map(([x, value]) => `${x},${place.y(value)}`);
        const dots = known.length <= 20 ? known : [];
        return [
          shape("polyline", { class: "line", points: points.join(" "), stroke: line.colour }),
          ...dots.map(([x, value]) => shape("circle", { cx: x, cy: place.y(value), r: 2.5, fill: line.colour })),
        ];
      }).flat(),
    );
    drawn.addEventListener("pointermove", (event) => {
      const at = place.valueAt(event.clientX - drawn.getBoundingClientRect().left);
      const gaps = epochs.map((epoch) => Math.abs(epoch - at));
      const index = gaps.indexOf(Math.min(...gaps));
      const x = place.x(epochs[index]);
      filled(mark, { x1: x, x2: x, visibility: "visible" }, []);
      tell(index);
    });
    drawn.addEventListener("pointerleave", () => {
      mark.setAttribute("visibility", "hidden");
      tell(null);
    });
    return drawn;
  };
  return figure(title, responsive(draw), values);
}

// The share of each expert, one above the other, over the epochs.
function areaChart(title, epochs, shares, colours) {
  // One epoch has no width: it is drawn as a band around it.
  const [first, end] = [epochs[0] - 0.5, epochs[epochs.length - 1] + 0.5];
  const draw = (width) => {
    const place = frame(width, [first, end], [0, 1], 150);
    const below = epochs.map(() => 0);
    const areas = colours.map((colour, expert) => {
      const corners = (heights) => epochs.flatMap((epoch, index) => [
        [place.x(epoch - 0.5), place.y(heights[index])],
        [place.x(epoch + 0.5), place.y(heights[index])],
      ]);
      const bottom = corners(below).reverse();
      shares.forEach((row, index) => { below[index] += row[expert]; });
      const points = [...corners(below), ...bottom].map((each) => each.join(",")).join(" ");
      return shape("polygon", { points, fill: colour });
    });
    const fair = colours.slice(1).map((_, index) => {
      const y = place.y((index + 1) / colours.length);
      return shape("line", { class: "fair", x1: place.x(first), x2: place.x(end), y1: y, y2: y });
    });
    const ends = shares[shares.length - 1].map((share, expert) => `expert ${expert} ${percent(share, 0)}`);
    const written = (value) => percent(value, 0);
    return picture(
      place,
      `${title}, at the end: ${ends.join(", ")}`,
      areas,
      fair,
      axes(place, epochTicks(epochs, width), [0, 0.5, 1], "epoch", written),
    );
  };
  return figure(title, responsive(draw));
}

// How often a model is right over how sure it is.
function reliabilityChart(evaluation) {
  const { bins, count } = evaluation;
  const title = `Is it as often right as it says? Calibration error ${percent(evaluation.calibration_error)}`;
  const written = (value) => percent(value, 0);
  const draw = (width) => {
    const place = frame(width, [0, 1], [0, 1], 260);
    const bar = (bin, height, kind) => shape("rect", {
      class: kind,
      x: place.x(bin.low) + 1,
      width: Math.max(1, place.x(bin.high) - place.x(bin.low) - 2),
      y: place.y(height),
      height: place.y(0) - place.y(height),
    });
    const seen = bins.filter((bin) => bin.count);
    return picture(
      place,
      title,
      axes(place, [0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1], "confidence", written),
      seen.map((bin) => filled(bar(bin, bin.accuracy, "bar"), {}, [
        shape("title", {}, `${whole(bin.count)} images, confidence ${percent(bin.confidence, 1)}, right ${percent(bin.accuracy, 1)}`),
      ])),
      seen.map((bin) => shape("line", {
        class: "share", x1: place.x(bin.low), x2: place.x(bin.high), y1: place.y(bin.count / count), y2: place.y(bin.count / count),
      })),
      shape("line", { class: "diagonal", x1: place.x(0), y1: place.y(0), x2: place.x(1), y2: place.y(1) }),
    );
  };
  return figure(title, responsive(draw), legend([
    { name: "accuracy", colour: "var(--accent)" },
    { name: "share of the images", colour: "var(--second)" },
    { name: "as often right as sure", colour: "var(--ink)" },
  ]));
}
