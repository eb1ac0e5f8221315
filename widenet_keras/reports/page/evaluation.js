// How good the model is: figures, classes, mistakes, who did the work.

const MOST_ROWS = 20;
const MOST_COUNTS = 15;

function tiles(entries) {
  return element(
    "ul",
    { class: "tiles" },
    entries.filter(([, value]) => value !== null).map(([name, value]) =>
      element("li", {}, element("b", { class: value.length > 14 ? "long" : null }, value), element("span", {}, name)),
    ),
  );
}

// A cell whose colour says a share; the root makes a few in a hundred visible.
function heatCell(share, text, title) {
  const strength = Math.round(100 * Math.sqrt(Math.min(1, share)));
  return element(
    "td",
    { class: strength > 70 ? "heat strong" : "heat", style: { "--strength": `${strength}%` }, title },
    text,
  );
}

function confusionMatrix(confusion, names) {
  const told = element("p", { class: "told", "aria-live": "polite" }, "Rows are the true classes, columns what they are taken for. Point at a cell.");
  const rows = confusion.map((counts, row) => {
    const all = counts.reduce((sum, each) => sum + each, 0);
    return element(
      "tr",
      {},
      element("th", { scope: "row", title: names[row] }, element("span", { class: "name" }, names[row])),
      counts.map((count, column) => {
        const text = count && confusion.length <= MOST_COUNTS ? whole(count) : "";
        const cell = heatCell(count / (all || 1), text);
        const words = row === column
          ? `${whole(count)} of ${whole(all)} images of “${names[row]}” are recognised.`
          : `${whole(count)} of ${whole(all)} images of “${names[row]}” are taken for “${names[column]}”.`;
        cell.addEventListener("pointerenter", () => { told.textContent = words; });
        return cell;
      }),
    );
  });
  const head = element(
    "tr",
    {},
    element("td"),
    names.map((name) => element("th", { scope: "col", title: name }, element("span", { class: "name" }, name))),
  );
  const matrix = element("table", { class: "matrix" }, element("thead", {}, head), element("tbody", {}, rows));
  const box = element("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "confusion matrix" }, matrix);
  return figure("What the images are taken for", box, told);
}

function classTable(classes) {
  const seen = classes.filter((each) => each.count).sort((one, other) => one.accuracy - other.accuracy);
  const rows = seen.slice(0, MOST_ROWS).map((each) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, each.name),
      element("td", { class: "number" }, whole(each.count)),
      element("td", { class: "number" }, percent(each.accuracy, 1)),
      element("td", { class: "wide" }, bar(each.accuracy, "var(--accent)")),
      element("td", {}, each.confused ? `${each.confused_with} (${whole(each.confused)})` : "–"),
    ),
  );
  const title = seen.length > MOST_ROWS ? `Classes, the ${MOST_ROWS} hardest of ${seen.length}` : "Classes, the hardest first";
  return figure(title, table("classes", [["class"], ["images", "number"], ["accuracy", "number"], ["", "wide"], ["most often taken for"]], rows));
}

function bar(share, colour) {
  return element(
    "span",
    { class: "track" },
    element("span", { style: { width: `${100 * share}%`, background: colour } }),
  );
}

function routingTable(routing) {
  const fractions = routing.fractions;
  const count = fractions[0].length;
  const experts = fractions[0].map((_, expert) => [`${expert}`, "heat"]);
  const head = [["step"], ...experts, ["busiest / fair", "number"], ["dead", "number"]];
  const rows = fractions.map((row, place) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, `${routing.steps[place]}`),
      row.map((share) => heatCell((share * count) / 4, percent(share, 0))),
      element("td", { class: "number" }, routing.busiest[place].toFixed(2)),
      element("td", { class: "number" }, routing.dead[place].length ? routing.dead[place].join(" ") : "–"),
    ),
  );
  return figure(
    `Share of its choices that each of the ${count} experts got, step by step (fair: ${percent(1 / count, 0)})`,
    table("load of the experts", head, rows),
  );
}

function evaluationSection(content) {
  const { evaluation } = content;
  if (!evaluation) {
    const note = content.run
      ? "Of this run there is only what its metrics say: widenet report RUN --data DATA evaluates it."
      : "No labelled images were given, so nothing was evaluated: widenet report … --data DATA does.";
    return section("evaluation", "Evaluation", element("p", { class: "note" }, note));
  }
  const speed = evaluation.throughput.images_per_second;
  const { routing } = evaluation;
  return section(
    "evaluation",
    "Evaluation",
    content.data ? element("p", { class: "data" }, content.data) : null,
    tiles([
      ["top-1 accuracy", percent(evaluation.top1)],
      ["top-5 accuracy", evaluation.top5 === null ? null : percent(evaluation.top5)],
      ["negative log-likelihood, nats", evaluation.nll.toFixed(4)],
      ["calibration error", percent(evaluation.calibration_error)],
      ["experts that nothing chose", routing ? `${routing.dead_experts}` : null],
      ["images", whole(evaluation.count)],
      [`images per second, ${evaluation.throughput.backend}`, speed === null ? null : short(speed)],
    ]),
    element(
      "div",
      { class: "columns" },
      evaluation.confusion ? confusionMatrix(evaluation.confusion, evaluation.classes.map((each) => each.name)) : null,
      reliabilityChart(evaluation),
      classTable(evaluation.classes),
      routing ? routingTable(routing) : null,
    ),
  );
}
