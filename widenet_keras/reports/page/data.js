// Numbers: how they are read from the page, and how they are written on it.

// Of the experts, as in the pictures of the package; the content of the page has them.
const colours = [];

function expertColour(expert) {
  return colours[expert % colours.length];
}

function percent(value, digits = 2) {
  return value === null ? "–" : `${(100 * value).toFixed(digits)} %`;
}

function whole(value) {
  return value.toLocaleString("en-US");
}

// A number with as many digits as one wants to read.
function short(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return whole(Math.round(value));
  if (size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
}

async function unpacked({ bytes, shape: axes, data }) {
  const packed = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const values = bytes === 1 ? new Uint8Array(buffer) : new Uint16Array(buffer);
  return {
    shape: axes,
    at: (...place) => values[place.reduce((sum, each, axis) => sum * axes[axis] + each, 0)],
    // The values of the last axis.
    row: (...place) => {
      const length = axes[axes.length - 1];
      const start = place.reduce((sum, each, axis) => sum * axes[axis] + each, 0) * length;
      return values.subarray(start, start + length);
    },
  };
}

// Round numbers from the least to the most, about so many.
function ticks(least, most, about = 4) {
  const span = most - least || Math.abs(most) || 1;
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => span / each <= about + 0.5);
  const found = [];
  for (let at = Math.ceil(least / step - 1e-9); at * step <= most + 1e-9 * span; at += 1) {
    found.push(Number((at * step).toPrecision(12)));
  }
  return found;
}
