// The page: draws each state that /events sends. Rates and the heat map are differences between two
// states. Every text goes through textContent, because process names are not trusted.
"use strict";

const COLUMNS = 120;
const LEVELS = 7;
const MIN_ROWS = 8;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en-US");
const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);

let shown = null;
let previous = null;
let history = [];
let mark = null;
let paused = false;

function duration(ns) {
  if (ns === null || ns === undefined) return "–";
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  const [value, unit] = ns < 1e6 ? [ns / 1e3, "µs"] : ns < 1e9 ? [ns / 1e6, "ms"] : ns < 6e11 ? [ns / 1e9, "s"] : [ns / 6e10, "min"];
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${unit}`;
}

function perSecond(n) {
  return n === null ? "" : n === 0 || n >= 10 ? n.toFixed(0) : n.toFixed(1);
}

function set(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

// Replaces the body of a table by rows of [text, class] cells.
function fill(id, rows, empty) {
  const body = byId(id).tBodies[0];
  const columns = byId(id).tHead.rows[0].cells.length;
  if (rows.length === 0) rows = [{ cells: [[empty, "empty"]], span: columns }];
  const made = rows.map(({ cells, kind, span }) => {
    const row = document.createElement("tr");
    if (kind) row.className = kind;
    for (const [content, kind] of cells) {
      const cell = row.insertCell();
      if (kind) cell.className = kind;
      if (span) cell.colSpan = span;
      if (kind === "bar") {
        const bar = document.createElement("div");
        bar.style.width = `${100 * content}%`;
        cell.append(bar);
      } else {
        cell.textContent = content;
      }
    }
    return row;
  });
  body.replaceChildren(...made);
}

const totals = (view) => ({
  pins: sum(view.origins, (origin) => origin.pins),
  failed: sum(view.failures, (failures) => failures.count),
  passes: sum(view.origins, (origin) => origin.passes_sum),
  lost: sum(view.lost.filter(([stage]) => stage !== "ring_full"), ([, n]) => n),
});

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, n)) / 10));
  return `${(n / 1024 ** unit).toFixed(unit ? 1 : 0)} ${units[unit]}`;
}

// Octave of a bucket's upper edge: durations up to 2^octave ns.
const octave = (upper) => (upper === null ? 44 : Math.max(9, Math.ceil(Math.log2(upper))));

function octaves(view) {
  const rows = new Map();
  for (const origin of view.origins)
    for (const [upper, n] of origin.durations) rows.set(octave(upper), (rows.get(octave(upper)) ?? 0) + n);
  return rows;
}

// Difference between two states; null if the daemon has restarted between them.
function between(before, view) {
  if (!before || before.now_ns >= view.now_ns || totals(before).pins > totals(view).pins) return null;
  const [old, now] = [totals(before), totals(view)];
  const seconds = (view.now_ns - before.now_ns) / 1e9;
  const earlier = octaves(before);
  const rows = new Map();
  for (const [row, n] of octaves(view)) if (n > (earlier.get(row) ?? 0)) rows.set(row, n - (earlier.get(row) ?? 0));
  return { at: new Date(), seconds, rows, pins: now.pins - old.pins, failed: now.failed - old.failed, passes: now.passes - old.passes };
}

function received(view) {
  const step = between(previous, view);
  if (previous && !step) history = [];
  if (step) history.push(step);
  if (history.length > COLUMNS) history.shift();
  const before = step ? previous : null;
  previous = view;
  if (!paused) {
    shown = { view, before, step };
    draw();
  }
}

function draw() {
  const { view, before, step } = shown;
  const { pins, failed, passes, lost } = totals(view);
  const rate = (n) => (step ? `${perSecond(n / step.seconds)} /s` : "");
  set("release", `${view.release} (${view.era})`);
  set("version", view.version);
  set("silenced", view.silenced.length ? `Attached hooks do not run, and pins are lost: ${view.silenced.join("; ")}` : "");
  set("pins", count(pins));
  set("pins-rate", step ? rate(step.pins) : "");
  set("failed", count(failed));
  set("failed-rate", step ? rate(step.failed) : "");
  const refused = sum(view.refusals ?? [], (refusals) => refusals.count);
  document.getElementById("refused-figure").hidden = refused === 0;
  set("refused", count(refused));
  set("in-flight", count(view.in_flight));
  set("oldest", view.oldest.length ? `oldest ${duration(view.oldest[0].age_seconds * 1e9)}` : "");
  set("passes-mean", pins ? (passes / pins).toFixed(2) : "–");
  set("passes-rate", step && step.pins ? `${(step.passes / step.pins).toFixed(2)} now` : "");
  set("migrated", count(view.pages.migrated));
  set("migrate-failed", count(view.pages.migrate_failed));
  set("lost", count(lost));
  set("lost-rate", lost ? "upper bound" : "");
  set("events-sent", count(view.events_sent));
  const pinned = view.pinned?.pages ?? null;
  set("pinned-pages", pinned === null ? "–" : count(pinned));
  set("pinned-lag", pinned === null ? "" : "by anyone; counters lag");
  flight(view);
  origins(view, before, step);
  failures(view, before, step);
  blockers(view);
  bars("passes", passCounts(view), (upper) => (upper === null ? "more" : count(upper)), count, "No pin yet.");
  bars("phases", view.phases.filter(([, seconds]) => seconds > 0), (phase) => phase, (seconds) => duration(seconds * 1e9), "No pin yet.");
  fill("pinned", (view.pinned?.largest ?? []).map((user) => ({
    cells: [[user.comm, "name"], [String(user.pid), "n"], [bytes(user.pinned_bytes), "n"], [bytes(user.locked_bytes), "n"], [user.cgroup ?? "", "wide"]],
  })), "None.");
  fill("losses", view.lost.map(([stage, n]) => ({ cells: [[stage], [count(n), "n"]] })), "Nothing.");
  fill("hooks", view.hooks.map((hook) => ({
    cells: [[hook.measurement], [hook.verdict.replace("_", " "), hook.verdict], [hook.hook ?? ""], [hook.note ?? "", hook.note ? "wide" : ""]],
  })), "None.");
  heat();
}

function flight(view) {
  fill("flight", view.oldest.map((pin) => ({
    kind: pin.stuck ? "stuck" : "",
    cells: [[duration(pin.age_seconds * 1e9), "n"], [pin.comm ?? "?", "name"], [String(pin.pid), "n"], [pin.signature, "wide"], [pin.origin],
      [count(pin.pages_requested), "n"], [count(pin.passes), "n"], [count(pin.unpinnable), "n"]],
  })), "None.");
  const rest = view.in_flight - view.oldest.length;
  set("flight-rest", rest > 0 ? `and ${count(rest)} younger ones` : "");
}

function origins(view, before, step) {
  const pinsBefore = new Map((before?.origins ?? []).map((origin) => [origin.origin, origin.pins]));
  fill("origins", view.origins.map((origin) => ({
    cells: [[origin.origin], [count(origin.pins), "n"],
      [step ? perSecond((origin.pins - (pinsBefore.get(origin.origin) ?? 0)) / step.seconds) : "", "n"],
      [count(sum(view.failures.filter((failures) => failures.origin === origin.origin), (failures) => failures.count)), "n"],
      [duration(origin.p50_ns), "n"], [duration(origin.p99_ns), "n"], [(origin.passes_sum / origin.pins).toFixed(2), "n"]],
  })), "No pin yet.");
}

function failures(view, before, step) {
  const key = (failures) => `${failures.cause} ${failures.errno} ${failures.origin}`;
  const countBefore = new Map((before?.failures ?? []).map((failures) => [key(failures), failures.count]));
  const most = [...view.failures].sort((a, b) => b.count - a.count);
  fill("failures", most.map((failures) => ({
    cells: [[failures.cause], [failures.errno], [failures.origin], [count(failures.count), "n"],
      [step ? perSecond((failures.count - (countBefore.get(key(failures)) ?? 0)) / step.seconds) : "", "n"]],
  })), "None.");
}

// What was in the way of failed migrations, and who holds it.
function blockers(view) {
  const most = [...(view.blockers ?? [])].sort((a, b) => b.folios - a.folios);
  fill("blockers", most.map((folios) => ({
    cells: [[folios.kind], [folios.memory], [count(folios.folios), "n"],
      [folios.held_p50_ns === null ? "" : duration(folios.held_p50_ns), "n"], [folios.cut_off ? count(folios.cut_off) : "", "n"]],
  })), "Nothing.");
  const holders = view.blocked ?? [];
  byId("holders-figure").hidden = holders.length === 0;
  fill("holders", holders.map((holder) => ({
    cells: [[holder.comm, "name"], [String(holder.pid), "n"], [holder.origin],
      [`${duration(holder.held_ns)}${holder.holds ? ", still" : ""}`, "n"], [String(holder.blocked_pid), "n"]],
  })), "None.");
}

function passCounts(view) {
  const counts = new Map();
  for (const origin of view.origins) for (const [upper, n] of origin.passes) counts.set(upper, (counts.get(upper) ?? 0) + n);
  return [...counts].sort(([a], [b]) => (a ?? Infinity) - (b ?? Infinity));
}

function bars(id, values, label, text, empty) {
  const all = sum(values, ([, n]) => n);
  const kind = id === "passes" ? "n" : "";
  fill(id, values.map(([name, n]) => ({ cells: [[label(name), kind], [text(n), "n"], [n / all, "bar"]] })), empty);
}

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Rows of the heat map: all octaves with pins, and some around them.
function shownRows() {
  const used = history.flatMap((step) => [...step.rows.keys()]);
  let [low, high] = used.length ? [Math.min(...used), Math.max(...used)] : [16, 24];
  while (high - low + 1 < MIN_ROWS) high - low + 1 < MIN_ROWS && low > 9 ? (low -= 1) : (high += 1);
  return { low, high };
}

function heat() {
  const svg = byId("heat");
  const { width, height } = svg.getBoundingClientRect();
  const { low, high } = shownRows();
  const [left, bottom] = [70, 18];
  const columnWidth = (width - left) / COLUMNS;
  const rowHeight = (height - bottom) / (high - low + 1);
  const most = Math.max(1, ...history.flatMap((step) => [...step.rows.values()]));
  const x = (column) => left + (COLUMNS - history.length + column) * columnWidth;
  const y = (row) => (high - row) * rowHeight;
  const parts = [element("rect", { x: left, y: 0, width: width - left, height: height - bottom, class: "h0" })];
  for (let row = low; row <= high; row += rowHeight < 14 ? 2 : 1)
    parts.push(element("text", { x: left - 6, y: y(row) + rowHeight / 2 + 4, "text-anchor": "end" }, row > 43 ? "more" : `≤ ${duration(2 ** row)}`));
  for (const back of [COLUMNS, COLUMNS / 2]) parts.push(element("text", { x: left + (COLUMNS - back) * columnWidth, y: height - 4 }, `−${back} s`));
  parts.push(element("text", { x: width - 2, y: height - 4, "text-anchor": "end" }, "now"));
  history.forEach((step, column) => {
    for (const [row, n] of step.rows) {
      const level = Math.max(1, Math.ceil((LEVELS * Math.log1p(n)) / Math.log1p(most)));
      parts.push(element("rect", { x: x(column), y: y(row), width: columnWidth + 0.4, height: rowHeight - 1, class: `h${level}` }));
    }
  });
  if (mark && history.length) {
    mark.row = Math.min(high, Math.max(low, mark.row));
    const column = history.length - 1 - Math.min(mark.back, history.length - 1);
    parts.push(element("rect", { x: x(column), y: y(mark.row), width: columnWidth, height: rowHeight, class: "mark" }));
    const n = history[column].rows.get(mark.row) ?? 0;
    set("heat-cell", `${history[column].at.toLocaleTimeString()}, above ${duration(2 ** (mark.row - 1))} up to ${duration(2 ** mark.row)}: ${count(n)} pins`);
  } else {
    const pins = sum(history, (step) => step.pins);
    set("heat-cell", pins ? `${count(pins)} pins in the last ${Math.round(sum(history, (step) => step.seconds))} s` : "No pin since this page was opened.");
  }
  svg.replaceChildren(...parts);
}

byId("heat").addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (event.key === "Escape") mark = null;
  else if (steps[event.key]) {
    const { low, high } = shownRows();
    mark ??= { back: 0, row: low };
    mark.back = Math.min(Math.max(0, history.length - 1), Math.max(0, mark.back + steps[event.key][0]));
    mark.row = Math.min(high, Math.max(low, mark.row + steps[event.key][1]));
  } else return;
  event.preventDefault();
  heat();
});

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  set("pause", paused ? "Continue" : "Pause");
  status();
});

let stream = null;
function status() {
  const state = stream.readyState === EventSource.OPEN ? (paused ? "paused" : "live") : "gone";
  byId("status").className = state;
  set("status", { paused: "paused", live: "live", gone: "no connection to the daemon, trying again" }[state]);
}

function connect() {
  stream = new EventSource("/events");
  stream.onopen = status;
  stream.onmessage = (event) => received(JSON.parse(event.data));
  stream.onerror = () => {
    status();
    // A browser does not reconnect by itself after a 503, the status while attaching.
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}
connect();
addEventListener("resize", () => shown && heat());
