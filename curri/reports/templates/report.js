"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const settings = { displayModeBar: false, responsive: false, showTips: false };
  const PRINTED = 660;
  const drawn = new Map();

  // Colours of the figures on a dark screen; on paper they stay as they are.
  const DARK = {
    "#ffffff": "#0f1419", "#1b1f24": "#e6edf3", "#d8dee4": "#363d47", "#d0d7de": "#4a525c", "#8c959f": "#9ba5b0",
    "#0072B2": "#4da3dc", "#9ab8cc": "#3d6785", "#f3f7fb": "#18222c", "#9ccbe8": "#1f4f74", "#0b3c5d": "#bfe3ff",
  };
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const tinted = (value) => {
    const text = JSON.stringify(value);
    if (!night.matches || printing) return JSON.parse(text);
    return JSON.parse(text.replace(/"(#[0-9A-Fa-f]{6})"/g, (all, colour) => (DARK[colour] ? `"${DARK[colour]}"` : all)));
  };

  const width = (place) => Math.max(220, Math.floor(place.clientWidth));

  const layoutFor = (figure, pixels) => {
    const layout = tinted(figure.layout);
    layout.width = figure.square ? Math.min(figure.square + 60, pixels) : pixels;
    if (figure.square) layout.height = Math.min(figure.square, pixels) + (figure.extra || 0);
    if (pixels < 520 && figure.narrow) {
      for (const [path, value] of Object.entries(figure.narrow)) {
        const parts = path.split(".");
        let at = layout;
        for (const part of parts.slice(0, -1)) at = at[part] = at[part] || {};
        at[parts[parts.length - 1]] = value;
      }
    }
    return layout;
  };

  const draw = (place) => {
    const figure = figures[place.dataset.figure];
    const pixels = width(place);
    if (drawn.get(place) === pixels) return;
    drawn.set(place, pixels);
    Plotly.react(place, tinted(figure.data), layoutFor(figure, pixels), settings);
    place.dataset.drawn = "yes";
  };

  const places = [...document.querySelectorAll("[data-figure]")];
  const shown = (place) => place.offsetParent !== null;
  const drawAll = (queue) => {
    const place = queue.find((each) => shown(each) && !drawn.has(each));
    if (!place) {
      document.documentElement.dataset.ready = "yes";
      return;
    }
    draw(place);
    setTimeout(drawAll, 0, queue);
  };
  drawAll(places);

  let later = 0;
  const redraw = () => places.filter(shown).forEach(draw);
  window.addEventListener("resize", () => {
    clearTimeout(later);
    later = setTimeout(redraw, 150);
  });
  night.addEventListener("change", () => {
    drawn.clear();
    redraw();
  });
  document.querySelectorAll("details").forEach((each) => each.addEventListener("toggle", redraw));

  // On paper everything is open, and no figure is wider than the page.
  let closed = [];
  window.addEventListener("beforeprint", () => {
    printing = true;
    closed = [...document.querySelectorAll("details:not([open]):not(.bulk)")];
    closed.forEach((each) => { each.open = true; });
    places.filter(shown).forEach((place) => {
      const pixels = place.closest(".grid") ? PRINTED / 2 - 10 : PRINTED;
      const figure = figures[place.dataset.figure];
      drawn.set(place, 0);
      Plotly.react(place, tinted(figure.data), layoutFor(figure, pixels), settings);
      place.dataset.drawn = "yes";
    });
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    closed.forEach((each) => { each.open = false; });
    redraw();
  });

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const before = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const rising = heading.getAttribute("aria-sort") !== "ascending";
      const body = heading.closest("table").tBodies[0];
      const rows = [...body.rows];
      const factor = rising ? 1 : -1;
      rows.sort((a, b) => factor * before(valueOf(a, heading.cellIndex), valueOf(b, heading.cellIndex)));
      rows.forEach((row) => body.appendChild(row));
      heading.parentElement.querySelectorAll("th").forEach((each) => each.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    });
  });
})();
