// Making elements. Texts become text nodes only, never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") {
      for (const [property, each] of Object.entries(value)) {
        made.style.setProperty(property, each);
      }
    } else if (name.startsWith("on")) {
      made.addEventListener(name.slice(2), value);
    } else {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children.flat().filter((child) => child !== null));
  return made;
}

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function section(id, title, ...children) {
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title),
    ...children,
  );
}

function figure(title, ...children) {
  return element(
    "figure",
    {},
    element("figcaption", {}, title),
    ...children,
  );
}

// A box that draws itself anew for every width, so that its letters keep their size.
function responsive(draw) {
  const box = element("div", { class: "drawing" });
  let last = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width > 0 && width !== last) {
      last = width;
      box.replaceChildren(draw(width));
    }
  }).observe(box);
  return box;
}

// A table of pairs.
function pairs(rows) {
  return element(
    "dl",
    { class: "pairs" },
    rows.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value)),
    ),
  );
}

// A table that scrolls by itself where it is wider than the page. Its head are pairs of
// a name and the class of the column.
function table(label, head, rows) {
  return element(
    "div",
    { class: "scrolls", tabindex: 0, role: "region", "aria-label": label },
    element(
      "table",
      {},
      element("thead", {}, element("tr", {}, head.map(([name, kind]) => element("th", { scope: "col", class: kind }, name)))),
      element("tbody", {}, rows),
    ),
  );
}

function details(title, ...children) {
  return element("details", {}, element("summary", {}, title), ...children);
}
