// The page: its head, its parts, and what is to be known before one reads them.

function notes(content) {
  const { run } = content;
  const found = run ? [...run.notes] : [];
  if (run && !run.finished) {
    found.unshift("This run has not ended: the model is the best one so far.");
  }
  return found.map((note) => element("p", { class: "note", role: "note" }, note));
}

function head(content) {
  const facts = new Map(content.facts);
  const { evaluation, run } = content;
  const settings = new Map(run ? run.settings : []);
  const known = new Map(run ? run.metrics : []).get("accuracy");
  return element(
    "header",
    {},
    element("p", { class: "kind" }, "widenet report"),
    element("h1", {}, content.name),
    element("p", { class: "lead" }, facts.get("architecture"), ". Experts: ", facts.get("experts"), "."),
    tiles([
      ["top-1 accuracy", evaluation ? percent(evaluation.top1) : null],
      ["accuracy at the end of the run", evaluation || !known ? null : percent(Number(known))],
      ["calibration error", evaluation ? percent(evaluation.calibration_error) : null],
      ["parameters", facts.get("parameters")],
      ["per image", facts.get("forward pass").replace(" per image", "")],
      ["epochs", run && run.epochs.length ? `${run.epochs[run.epochs.length - 1]}` : settings.get("epochs") ?? null],
      ["trained on", settings.get("data") ?? null],
    ]),
    ...notes(content),
  );
}

async function draw() {
  const content = JSON.parse(document.getElementById("content").textContent);
  colours.push(...content.colours);
  const parts = [
    await explorerSection(content),
    evaluationSection(content),
    trainingSection(content),
    modelSection(content),
  ];
  const links = parts.map((part) => element("a", { href: `#${part.id}` }, part.querySelector("h2").textContent));
  const file = content.model_file ? `${content.model_file} · ` : "";
  document.getElementById("report").replaceChildren(
    head(content),
    element("nav", { "aria-label": "parts of this page" }, links),
    ...parts,
    element("footer", {}, `${file}written by ${content.made_with}. This page loads nothing from anywhere.`),
  );
  document.documentElement.dataset.drawn = "yes";
}

draw();
