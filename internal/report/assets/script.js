"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  all(".tools").forEach(e => { e.hidden = false; });

  // Copy.
  const copyText = async (text, from) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(from);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    }
  };
  all(".copy").forEach(button => button.addEventListener("click", async () => {
    const from = button.dataset.copy ? document.getElementById(button.dataset.copy) : one("code", button.parentElement);
    const done = await copyText(from.textContent, from);
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }));

  // Sorting and filtering of tables with one body per row.
  all("th[data-sort]").forEach(th => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = th.textContent;
    th.replaceChildren(button);
    th.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sortBy(th));
  });
  const valueOf = (body, column, numeric) => {
    const cell = body.rows[0].cells[column];
    if (!numeric) return cell.textContent.trim().toLowerCase();
    return Number(cell.dataset.v ?? cell.textContent.replaceAll(",", "")) || 0;
  };
  const sortBy = th => {
    const table = th.closest("table"), numeric = th.dataset.sort === "number", column = th.cellIndex;
    const before = th.getAttribute("aria-sort");
    const down = before === "none" ? numeric : before === "ascending";
    all("th[aria-sort]", table).forEach(other => other.setAttribute("aria-sort", "none"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const bodies = [...table.tBodies].map((body, i) => ({ body, i, value: valueOf(body, column, numeric) }));
    bodies.sort((a, b) => {
      const order = numeric ? a.value - b.value : a.value.localeCompare(b.value);
      return (down ? -order : order) || a.i - b.i;
    });
    table.append(...bodies.map(b => b.body));
  };
  const filter = one("#filter");
  filter?.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const bodies = [...one("#connection-table").tBodies];
    let shown = 0;
    bodies.forEach(body => {
      const text = body.textContent.toLowerCase();
      body.hidden = !words.every(word => text.includes(word));
      shown += body.hidden ? 0 : 1;
    });
    one("#filtered").textContent = words.length ? `${shown} of ${bodies.length} shown` : "";
  });

  // What is folded is printed, too.
  let folded = [];
  addEventListener("beforeprint", () => { folded = all("details:not([open])"); folded.forEach(d => { d.open = true; }); });
  addEventListener("afterprint", () => { folded.forEach(d => { d.open = false; }); });

  // Zoom of the timeline: the range shown, in bars.
  const plot = one("#timeline-plot");
  if (!plot) return;
  const bars = Number(plot.dataset.bars), from = Number(plot.dataset.from), step = Number(plot.dataset.step);
  const ns = "http://www.w3.org/2000/svg", height = Number(plot.getAttribute("height"));
  const group = one(".ticks", plot), still = [...group.childNodes], lanes = all(".lane", plot), marks = all("[data-a]", plot);
  const least = Math.min(bars, 4);
  let low = 0, high = bars;
  const make = (name, attributes, text) => {
    const e = document.createElementNS(ns, name);
    Object.entries(attributes).forEach(([key, value]) => e.setAttribute(key, value));
    if (text) e.textContent = text;
    return e;
  };
  const steps = [100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5, 6048e5, 2592e6, 31536e6];
  const label = (ms, size) => {
    const iso = new Date(ms).toISOString();
    if (size < 1000) return iso.slice(11, 21);
    if (size < 60000) return iso.slice(11, 19);
    return size < 864e5 && iso.slice(11, 16) !== "00:00" ? iso.slice(11, 16) : iso.slice(5, 10);
  };
  const drawTicks = () => {
    if (low === 0 && high === bars) { group.replaceChildren(...still); return; }
    const first = from + low * step, length = (high - low) * step;
    const size = steps.find(s => length / s < 5) ?? steps.at(-1), made = [];
    for (let at = Math.ceil(first / size) * size; at <= first + length; at += size) {
      const x = `${(100 * (at - first) / length).toFixed(2)}%`;
      made.push(make("line", { class: "grid", x1: x, x2: x, y1: 0, y2: height }), make("text", { x, y: height, dx: 3, dy: -4 }, label(at, size)));
    }
    group.replaceChildren(...made);
  };
  const draw = () => {
    lanes.forEach(lane => lane.setAttribute("viewBox", `${low} 0 ${high - low} 100`));
    marks.forEach(mark => {
      const a = Math.max((mark.dataset.a * bars - low) / (high - low), 0), b = Math.min((mark.dataset.b * bars - low) / (high - low), 1);
      mark.setAttribute("visibility", b > a ? "visible" : "hidden");
      mark.setAttribute("x", `${100 * a}%`);
      mark.setAttribute("width", `${Math.max(100 * (b - a), 0)}%`);
    });
    drawTicks();
    const whole = low === 0 && high === bars;
    plot.dataset.low = low;
    plot.dataset.high = high;
    buttons.out.disabled = buttons.all.disabled = whole;
    buttons.left.disabled = low <= 0;
    buttons.right.disabled = high >= bars;
    buttons.in.disabled = high - low <= least;
  };
  const show = (a, b) => {
    const width = Math.min(Math.max(b - a, least), bars), middle = (a + b) / 2;
    low = Math.round(Math.min(Math.max(middle - width / 2, 0), bars - width));
    high = Math.round(low + width);
    draw();
  };
  const buttons = {};
  const actions = {
    in: () => { const q = (high - low) / 4; show(low + q, high - q); },
    out: () => { const h = (high - low) / 2; show(low - h, high + h); },
    left: () => { const h = (high - low) / 2; show(low - h, high - h); },
    right: () => { const h = (high - low) / 2; show(low + h, high + h); },
    all: () => show(0, bars),
  };
  all("[data-zoom]").forEach(button => {
    buttons[button.dataset.zoom] = button;
    button.addEventListener("click", actions[button.dataset.zoom]);
  });

  // Drag across the plot to zoom; the bar below the pointer is read out.
  plot.classList.add("zoomable");
  const rows = new Map(all("#timeline-numbers tbody tr").map(row => [Number(row.dataset.i), row]));
  const names = all("#timeline-numbers thead th").map(th => th.textContent.trim());
  const readout = one("#readout");
  const share = event => { const box = plot.getBoundingClientRect(); return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1); };
  const read = event => {
    const bar = Math.min(Math.floor(low + share(event) * (high - low)), bars - 1), row = rows.get(bar);
    const time = new Date(from + bar * step).toISOString().slice(0, 19).replace("T", " ");
    const cells = row ? [...row.cells].slice(1).map((cell, i) => [names[i + 1], cell.textContent.trim()]).filter(([, n]) => n !== "0") : [];
    readout.textContent = `${time} UTC: ${cells.length ? cells.map(([name, n]) => `${name} ${n}`).join(", ") : "nothing"}`;
  };
  let start = null, box = null;
  plot.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    start = share(event);
    box = make("rect", { class: "selection", y: 0, height, width: 0 });
    plot.append(box);
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", event => {
    read(event);
    if (start === null) return;
    const now = share(event);
    box.setAttribute("x", `${100 * Math.min(start, now)}%`);
    box.setAttribute("width", `${100 * Math.abs(now - start)}%`);
  });
  const finish = event => {
    if (start === null) return;
    const a = Math.min(start, share(event)), b = Math.max(start, share(event));
    box.remove();
    start = null;
    if (event.type === "pointerup" && b - a > 0.01) show(low + a * (high - low), low + b * (high - low));
  };
  plot.addEventListener("pointerup", finish);
  plot.addEventListener("pointercancel", finish);
  plot.addEventListener("pointerleave", () => { if (start === null) readout.textContent = ""; });
  draw();
})();
