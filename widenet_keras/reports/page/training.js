// How the model was made: what it is, settings, curves, experts over the epochs.

const PANELS = [
  ["loss", ["loss", "val_loss", "task_loss", "val_task_loss"]],
  ["accuracy", ["accuracy", "val_accuracy"]],
  ["load of the busiest expert / fair share", ["utilization", "val_utilization"]],
  ["balance loss", ["balance_loss", "val_balance_loss"]],
  ["experts that nothing chose", ["dead_experts", "val_dead_experts"]],
  ["fraction of the choices over capacity", ["dropped_fraction", "val_dropped_fraction"]],
  ["learning rate", ["learning_rate"]],
  ["images per second", ["images_per_second"]],
];
const LINES = ["var(--accent)", "var(--second)", "var(--third)", "var(--fourth)"];

function lineName(column) {
  const held = column.startsWith("val_");
  const name = column.replace(/^val_/, "").replaceAll("_", " ");
  return held ? `${name}, validation` : name;
}

function curves(run) {
  const columns = new Map(Object.entries(run.history));
  const known = PANELS.flatMap(([, names]) => names);
  const others = [...columns.keys()].filter((name) => !known.includes(name) && !name.startsWith("val_"));
  const panels = [...PANELS, ...others.map((name) => [name.replaceAll("_", " "), [name, `val_${name}`]])];
  const same = (one, other) => columns.has(other) && columns.get(one).join() === columns.get(other).join();
  return panels.map(([title, names]) => {
    const found = names.filter((name) => columns.has(name) && columns.get(name).some((value) => value !== null));
    // Without terms of its own the task's loss is the loss.
    const told = found.filter((name) => !(/^(val_)?task_loss$/.test(name) && same(name, name.replace("task_", ""))));
    if (!told.length) return null;
    const lines = told.map((name, index) => ({ name: lineName(name), values: columns.get(name), colour: LINES[index] }));
    return lineChart(title, run.epochs, lines);
  });
}

function loadOverTraining(loads) {
  const experts = loads.values[0][0].length;
  const ofExperts = Array.from({ length: experts }, (_, expert) => expertColour(expert));
  const panels = loads.steps.map((step, place) =>
    areaChart(`step ${step}`, loads.epochs, loads.values.map((epoch) => epoch[place]), ofExperts),
  );
  return element(
    "div",
    {},
    element("h3", {}, "Load of the experts over training"),
    element("p", {}, "The share of its choices that each expert got on the same images after each epoch. Dotted lines: fair shares."),
    legend(ofExperts.map((colour, expert) => ({ name: `expert ${expert}`, colour }))),
    element("div", { class: "panels" }, panels),
  );
}

function trainingSection(content) {
  const { run } = content;
  if (!run) {
    const note = "This is a model's file alone: curves and settings are in the folder of its run, widenet report RUN.";
    return section("training", "Training", element("p", { class: "note" }, note));
  }
  const charts = run.epochs.length ? curves(run) : [];
  return section(
    "training",
    "Training",
    run.metrics.length ? element("div", {}, element("h3", {}, "What the run is known by"), pairs(run.metrics)) : null,
    charts.length ? element("div", { class: "panels" }, charts) : element("p", { class: "note" }, "There is no table of epochs to draw."),
    run.loads ? loadOverTraining(run.loads) : null,
    run.settings.length
      ? details(`All ${run.settings.length} settings`, pairs(run.settings))
      : element("p", { class: "note" }, "The folder does not say its settings."),
  );
}

function modelSection(content) {
  return section(
    "model",
    "Model",
    pairs(content.facts),
    details("Parameters of each part", element("pre", {}, content.parts.join("\n"))),
  );
}
