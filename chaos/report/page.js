
"use strict";
(() => {
  // The data: see chaos/report/trace.py. Instants are milliseconds since the first record.
  const data = JSON.parse(document.getElementById("data").textContent);
  const text = place => data.texts[place];
  const [OK, CUT, OPEN, FAILED] = [0, 1, 2, 3];
  const ROW = 16, PAD = 18, LANE = 24, DENSITY = 34, PRINTED_ROWS = 120;
  const zero = data.faults.length ? Math.min(...data.faults.map(fault => fault[2])) : 0;
  const element = id => document.getElementById(id);

  const runs = data.runs.map(([id, start, end, error, steps, effects]) => {
    const seen = new Set(), again = new Set();
    for (const step of steps) (seen.has(step[0]) ? again : seen).add(step[0]);
    return {
      id, start, end, error, again,
      steps: steps.map(([ordinal, name, region, worker, epoch, begin, until, state, attempt, started, ended]) =>
        ({ordinal, name: text(name), region, worker: text(worker), epoch, begin, until, state, attempt, started, ended})),
      effects: effects.map(([at, kind, outcome, key, line]) => ({at, kind: text(kind), outcome: text(outcome), key: text(key), line})),
      status: text(end[0]), problems: [],
    };
  });
  const byId = new Map(runs.map(run => [run.id, run]));
  const problems = data.problems.map(([check, said, runId, ordinal, at, place]) => {
    const problem = {check: text(check), said, run: byId.get(runId), ordinal, at, place};
    if (problem.run) problem.run.problems.push(problem);
    return problem;
  });
  for (const run of runs) {
    const words = [run.id, run.status, run.error || "", ...run.steps.map(step => `${step.name} ${step.worker} region ${data.regions[step.region]}`)];
    run.words = [...new Set(words)].join("\n").toLowerCase();
  }

  // What all ids begin with tells nothing where there is little room.
  const prefix = Math.max(0, [...(runs.length ? runs[0].id : "")].findIndex((letter, place) => runs.some(run => run.id[place] !== letter)));

  // What is shown, and what of it is selected.
  const work = workSpan();
  const view = {from: work[0], to: work[1]};
  let shown = runs, selected = null, at = -1, hovered = null;

  const chart = element("chart"), lanes = element("lanes"), rows = element("rows"), sizer = element("sizer"), bars = element("bars");
  const labels = element("labels"), tip = element("tip"), detail = element("detail");
  const size = {width: 0, label: 0, rows: 0};
  let colours = {}, queued = false;

  function workSpan() {
    let from = zero, to = zero;
    for (const run of runs) for (const step of run.steps) {
      from = Math.min(from, step.begin);
      to = Math.max(to, step.until);
    }
    if (to === from) [from, to] = [0, data.end];
    const margin = Math.max((to - from) * 0.02, 20);
    return [from - margin, to + margin];
  }

  // Drawing.

  const x = instant => size.label + (instant - view.from) / (view.to - view.from) * (size.width - size.label - PAD);
  const instantAt = px => view.from + (px - size.label) / (size.width - size.label - PAD) * (view.to - view.from);
  const regionColour = region => region === 0 ? colours.a : colours.b;

  function draw() {
    if (!queued) {
      queued = true;
      requestAnimationFrame(() => { queued = false; drawNow(); });
    }
  }

  function drawNow() {
    drawLanes();
    drawRows();
  }

  function readColours() {
    const probe = document.createElement("span");
    document.body.append(probe);
    for (const name of ["a", "b", "ink", "soft", "line", "card", "tint", "fault", "invalid", "unknown", "lost", "link"]) {
      probe.style.color = `var(--${name})`;
      colours[name] = getComputedStyle(probe).color;
    }
    probe.remove();
  }

  function measure() {
    readColours();
    size.width = rows.clientWidth;
    size.label = size.width < 620 ? 96 : 196;
    size.rows = Math.max(ROW, rows.clientHeight);
    sizer.style.height = `${shown.length * ROW}px`;
    size.rows = Math.max(ROW, rows.clientHeight);
    fitCanvas(lanes, size.width, lanesHeight());
    fitCanvas(bars, size.width, Math.min(size.rows, Math.max(shown.length, 1) * ROW));
    draw();
  }

  function fitCanvas(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  const AXIS = 22, EVENT = 14, PLAIN = '11.5px system-ui, "DejaVu Sans", sans-serif', BOLD = `600 ${PLAIN}`;
  const eventRows = () => Math.min(4, Math.max(1, new Set(data.events.map(event => event[1])).size));
  const lanesHeight = () => AXIS + data.regions.length * LANE + (data.faults.length ? LANE : 0) + eventRows() * EVENT + DENSITY + 12;

  function drawLanes() {
    const to = lanes.getContext("2d"), height = lanesHeight();
    to.clearRect(0, 0, size.width, height);
    to.font = PLAIN;
    for (const [instant, label] of ticks()) {
      line(to, x(instant), AXIS - 4, height, colours.line);
      write(to, label, x(instant), AXIS / 2, colours.soft, "center");
    }
    let y = AXIS;
    data.regions.forEach((_, region) => {
      for (const role of data.roles) if (role[0] === region) drawRole(to, role, y + 3);
      y += LANE;
    });
    if (data.faults.length) {
      for (const fault of data.faults) drawFault(to, fault, y + 3, height);
      y += LANE;
    }
    drawEvents(to, y, height);
    y += eventRows() * EVENT;
    drawDensity(to, y + 4);
    if (data.rto !== null) drawRecovery(to, y + 4 + DENSITY / 2);
    clipLeft(to, height);
    labelsOfLanes(to);
  }

  function clipLeft(to, height) {
    to.clearRect(0, 0, size.label - 4, height);
    to.clearRect(size.width - PAD + 8, 0, PAD, height);
  }

  function labelsOfLanes(to) {
    let y = AXIS;
    write(to, data.faults.length ? "since the first fault" : "since the start", 14, AXIS / 2, colours.soft, "left");
    data.regions.forEach((name, region) => {
      write(to, `region ${name}`, 14, y + LANE / 2, regionColour(region), "left", true);
      y += LANE;
    });
    if (data.faults.length) {
      write(to, "faults", 14, y + LANE / 2, colours.fault, "left", true);
      y += LANE;
    }
    write(to, "region agents", 14, y + eventRows() * EVENT / 2, colours.soft, "left");
    y += eventRows() * EVENT;
    write(to, "steps in hand", 14, y + 4 + DENSITY / 2, colours.soft, "left");
  }

  function drawRole(to, [region, role, begin, end, epoch], y) {
    const left = Math.max(x(begin), size.label), right = Math.min(x(end), size.width - PAD), height = LANE - 6;
    const name = text(role), said = epoch === null || name === "lost" ? name : `${name} · epoch ${epoch}`;
    if (right <= left) return;
    to.save();
    to.beginPath();
    to.roundRect(left, y, Math.max(right - left, 1.5), height, 3);
    if (name === "active") {
      to.fillStyle = regionColour(region);
      to.fill();
    } else if (name === "activating" || name === "starting") {
      to.globalAlpha = 0.45;
      to.fillStyle = regionColour(region);
      to.fill();
      to.globalAlpha = 1;
    } else {
      to.setLineDash(name === "standby" ? [] : [3, 3]);
      to.strokeStyle = name === "standby" ? regionColour(region) : colours.lost;
      to.stroke();
    }
    to.clip();
    to.font = name === "active" ? BOLD : PLAIN;
    const ink = name === "active" ? colours.card : name === "standby" ? regionColour(region) : colours.soft;
    if (to.measureText(said).width < right - left - 12) write(to, said, left + 7, y + height / 2, ink, "left", name === "active");
    else if (to.measureText(name).width < right - left - 8) write(to, name, left + 5, y + height / 2, ink, "left", name === "active");
    to.restore();
  }

  function faultSpan(fault) {
    return [x(fault[2]), fault[3] === null ? null : x(fault[3])];
  }

  function drawFault(to, fault, y, height) {
    const [left, right] = faultSpan(fault), until = right === null ? Math.min(left + 34, size.width - PAD) : right;
    hatch(to, left, y, Math.max(until - left, 3), LANE - 6, right === null);
    line(to, left, y, height, colours.fault, 1.5);
    if (right !== null) line(to, right, y, height, colours.fault, 1, [4, 3]);
    const said = `${text(fault[0])}: ${text(fault[1])}${fault[4] ? "" : " (not proven)"}`;
    to.font = BOLD;
    const room = 14 + to.measureText(said).width;
    const place = until - left > room ? left + 7 : until + 6;
    if (place === left + 7) {
      to.fillStyle = colours.card;
      to.fillRect(left + 4, y + 2, room - 4, LANE - 10);
    }
    const beyond = place + room > size.width - PAD;
    write(to, said, beyond ? left - 6 : place, y + (LANE - 6) / 2, colours.fault, beyond ? "right" : "left", true);
  }

  function hatch(to, left, y, width, height, fades) {
    to.save();
    to.beginPath();
    to.rect(left, y, width, height);
    to.clip();
    to.strokeStyle = colours.fault;
    to.lineWidth = 1.6;
    for (let offset = -height; offset < width; offset += 6) {
      to.globalAlpha = fades ? Math.max(0, 0.8 * (1 - offset / width)) : 0.6;
      to.beginPath();
      to.moveTo(left + offset, y + height);
      to.lineTo(left + offset + height, y);
      to.stroke();
    }
    to.restore();
  }

  function drawEvents(to, y, height) {
    const used = Array(eventRows()).fill(-Infinity), seen = data.events.filter(event => x(event[2]) >= size.label && x(event[2]) <= size.width - PAD);
    for (const [region, , instant] of seen) line(to, x(instant), y, height, regionColour(region), 1, [2, 3]);
    to.font = PLAIN;
    for (const [region, name, instant] of seen) {
      const left = x(instant), said = text(name), width = to.measureText(said).width + 12;
      const onLeft = left + width > size.width - PAD, begin = onLeft ? left - width : left;
      const row = used.findIndex(end => end < begin), middle = y + row * EVENT + EVENT / 2;
      if (row < 0) continue;
      used[row] = begin + width;
      to.fillStyle = colours.card;
      to.fillRect(begin + 2, middle - 6, width - 4, 12);
      write(to, said, onLeft ? left - 5 : left + 5, middle, regionColour(region), onLeft ? "right" : "left");
    }
  }

  function drawDensity(to, y) {
    const bins = Math.max(1, Math.floor((size.width - size.label - PAD) / 3));
    const counts = data.regions.map(() => new Float64Array(bins));
    const scale = bins / (view.to - view.from);
    for (const run of shown) for (const step of run.steps) {
      const first = Math.max(0, Math.floor((step.begin - view.from) * scale));
      const last = Math.min(bins - 1, Math.floor((step.until - view.from) * scale));
      for (let bin = first; bin <= last; bin++) counts[step.region][bin]++;
    }
    let most = 1;
    for (let bin = 0; bin < bins; bin++) most = Math.max(most, counts.reduce((sum, own) => sum + own[bin], 0));
    const base = y + DENSITY;
    for (let bin = 0; bin < bins; bin++) {
      let top = base;
      counts.forEach((own, region) => {
        const height = own[bin] / most * DENSITY;
        to.fillStyle = regionColour(region);
        to.fillRect(size.label + bin * 3, top - height, 2.4, height);
        top -= height;
      });
    }
  }

  function drawRecovery(to, y) {
    const left = x(zero), right = x(zero + data.rto), said = `RTO ${(data.rto / 1000).toFixed(2)} s`, middle = (left + right) / 2;
    to.strokeStyle = to.fillStyle = colours.ink;
    to.lineWidth = 1.2;
    to.beginPath();
    to.moveTo(left + 3, y);
    to.lineTo(right - 2, y);
    for (const [tip, way] of [[left + 3, 1], [right - 2, -1]]) {
      to.moveTo(tip + 5 * way, y - 4);
      to.lineTo(tip, y);
      to.lineTo(tip + 5 * way, y + 4);
    }
    to.stroke();
    to.font = BOLD;
    const width = to.measureText(said).width;
    if (width + 40 > right - left) return;
    to.fillStyle = colours.card;
    to.fillRect(middle - width / 2 - 6, y - 8, width + 12, 16);
    write(to, said, middle, y, colours.ink, "center", true);
  }

  function drawRows() {
    const to = bars.getContext("2d"), top = rows.scrollTop, height = parseFloat(bars.style.height);
    to.clearRect(0, 0, size.width, height);
    const first = Math.max(0, Math.floor(top / ROW)), last = Math.min(shown.length, Math.ceil((top + height) / ROW) + 1);
    to.save();
    to.beginPath();
    to.rect(size.label, 0, size.width - size.label - PAD + 6, height);
    to.clip();
    for (const [instant] of ticks()) line(to, x(instant), 0, height, colours.line);
    for (let row = first; row < last; row++) drawRun(to, shown[row], row * ROW - top);
    for (const fault of data.faults) {
      const [left, right] = faultSpan(fault);
      if (right !== null) {
        to.globalAlpha = 0.07;
        to.fillStyle = colours.fault;
        to.fillRect(left, 0, right - left, height);
        to.globalAlpha = 1;
        line(to, right, 0, height, colours.fault, 1, [4, 3]);
      }
      line(to, left, 0, height, colours.fault, 1.5);
    }
    for (const event of data.events) {
      to.globalAlpha = 0.55;
      line(to, x(event[2]), 0, height, regionColour(event[0]), 1, [2, 3]);
      to.globalAlpha = 1;
    }
    to.restore();
    if (!shown.length) write(to, "no run matches", size.label + 10, ROW / 2, colours.soft, "left");
    drawLabels(first, last);
  }

  function drawRun(to, run, y) {
    if (run === selected || run === hovered) {
      to.globalAlpha = run === selected ? 0.13 : 0.06;
      to.fillStyle = colours.link;
      to.fillRect(size.label, y, size.width, ROW);
      to.globalAlpha = 1;
    }
    const wrong = new Set(run.problems.map(problem => problem.ordinal));
    run.steps.forEach((step, number) => {
      // A region's bars have a height of their own, so that an overlap of two regions shows, and not by colour alone.
      const left = x(step.begin), width = Math.max(x(step.until) - left, 1.5), top = y + (step.region === 0 ? 2 : 5), height = 9;
      if (left > size.width || left + width < size.label) return;
      to.fillStyle = step.state === FAILED ? colours.invalid : regionColour(step.region);
      if (step.state === CUT || step.state === OPEN) {
        to.globalAlpha = 0.4;
        to.fillRect(left, top, width, height);
        to.globalAlpha = 1;
        to.fillStyle = step.state === CUT ? colours.fault : colours.unknown;
        to.fillRect(left + width - 2, top - 1, 2, height + 2);
      } else to.fillRect(left, top, width, height);
      if (wrong.has(step.ordinal)) outline(to, left - 2, y + 1, width + 4, ROW - 2, colours.invalid, 2);
      if (run === selected && number === at) outline(to, left - 2.5, y + 0.5, width + 5, ROW - 1, colours.ink, 2);
    });
    for (const effect of run.effects) gem(to, x(effect.at), y + ROW / 2, effect.outcome === "applied");
    if (run.end[1] !== null && run.end[3]) {
      const done = run.status === "completed";
      write(to, done ? "✓" : "✕", x(run.end[1]) + 3, y + ROW / 2 + 0.5, done ? colours.soft : colours.invalid, "left", !done);
    }
  }

  function gem(to, left, y, filled) {
    to.save();
    to.translate(left, y);
    to.rotate(Math.PI / 4);
    to.fillStyle = filled ? colours.ink : colours.card;
    to.strokeStyle = filled ? colours.card : colours.ink;
    to.lineWidth = 1;
    to.fillRect(-2.8, -2.8, 5.6, 5.6);
    to.strokeRect(-2.8, -2.8, 5.6, 5.6);
    to.restore();
  }

  const pool = [];

  function drawLabels(first, last) {
    while (pool.length < last - first) {
      const label = document.createElement("div");
      label.setAttribute("role", "option");
      pool.push(label);
      labels.append(label);
    }
    pool.forEach((label, number) => {
      const row = first + number, run = row < last ? shown[row] : null;
      label.hidden = !run;
      if (!run) return;
      label.style.top = `${row * ROW}px`;
      label.style.width = `${size.label - 8}px`;
      label.title = run.id;
      label.textContent = size.label < 150 ? run.id.slice(prefix) : run.id;
      label.id = `run-${row}`;
      label.className = run.problems.length ? "bad" : "";
      label.setAttribute("aria-selected", String(run === selected));
      label.setAttribute("aria-setsize", String(shown.length));
      label.setAttribute("aria-posinset", String(row + 1));
    });
    const row = shown.indexOf(selected);
    if (row >= first && row < last) rows.setAttribute("aria-activedescendant", `run-${row}`);
    else rows.removeAttribute("aria-activedescendant");
  }

  function line(to, left, top, bottom, colour, width = 1, dash = []) {
    to.strokeStyle = colour;
    to.lineWidth = width;
    to.setLineDash(dash);
    to.beginPath();
    to.moveTo(Math.round(left) + 0.5, top);
    to.lineTo(Math.round(left) + 0.5, bottom);
    to.stroke();
    to.setLineDash([]);
  }

  function outline(to, left, top, width, height, colour, thickness) {
    to.strokeStyle = colour;
    to.lineWidth = thickness;
    to.strokeRect(left, top, width, height);
  }

  function write(to, said, left, y, colour, align, bold = false) {
    to.font = bold ? BOLD : PLAIN;
    to.fillStyle = colour;
    to.textAlign = align;
    to.textBaseline = "middle";
    to.fillText(said, left, y);
  }

  function ticks() {
    const span = view.to - view.from, most = Math.max(2, Math.floor((size.width - size.label) / 86));
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4, 6e4, 12e4, 3e5, 6e5, 18e5, 36e5].find(one => span / one <= most) || 72e5;
    const found = [];
    for (let instant = Math.ceil((view.from - zero) / step) * step; instant <= view.to - zero; instant += step) found.push([instant + zero, moment(instant, step)]);
    return found;
  }

  function moment(ms, step = 1) {
    const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3, sign = ms < 0 ? "−" : data.faults.length && ms > 0 ? "+" : "";
    return `${sign}${(Math.abs(ms) / 1000).toFixed(digits)} s`;
  }

  // Moving about.

  function zoom(factor, around = (view.from + view.to) / 2) {
    const span = Math.min(Math.max((view.to - view.from) * factor, 5), Math.max(data.end, work[1] - work[0]) * 1.1);
    const share = (around - view.from) / (view.to - view.from);
    view.from = around - share * span;
    view.to = view.from + span;
    draw();
  }

  function move(ms) {
    view.from += ms;
    view.to += ms;
    draw();
  }

  function look(from, to) {
    [view.from, view.to] = [from, to];
    draw();
  }

  function reveal(run) {
    const row = shown.indexOf(run), top = row * ROW;
    if (top < rows.scrollTop + ROW) rows.scrollTop = top - 2 * ROW;
    else if (top + ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = top - rows.clientHeight + 3 * ROW;
  }

  function select(run, step = -1, keepView = false) {
    if (run && !shown.includes(run)) {
      element("search").value = "";
      element("filter").value = "all";
      filter();
    }
    selected = run;
    at = step;
    if (run) reveal(run);
    const one = run && run.steps[step];
    if (one && !keepView && (one.begin < view.from || one.until > view.to)) {
      const span = view.to - view.from, middle = (one.begin + one.until) / 2;
      look(middle - span / 2, middle + span / 2);
    }
    tell();
    draw();
    const ref = run ? `#${encodeURIComponent(run.id)}${one ? `:${one.ordinal}` : ""}` : " ";
    // A page from a file may be denied its history.
    try { history.replaceState(null, "", run ? ref : location.pathname + location.search); } catch (denied) { void denied; }
  }

  function follow(ref) {
    const run = byId.get(ref);
    if (run) return void select(run);
    const colon = ref.lastIndexOf(":"), named = byId.get(ref.slice(0, colon));
    if (!named) return;
    const ordinal = Number(ref.slice(colon + 1));
    select(named, lastOf(named, ordinal));
    element("timeline").scrollIntoView({block: "start"});
  }

  function lastOf(run, ordinal) {
    // Of an operation that was executed again, the execution that should not have been is the last.
    let found = -1;
    run.steps.forEach((step, number) => { if (step.ordinal === ordinal) found = number; });
    return found;
  }

  function followHash() {
    let ref = location.hash.slice(1);
    try { ref = decodeURIComponent(ref); } catch (malformed) { void malformed; }
    if (ref) follow(ref);
  }

  let problem = -1;

  function jump(step) {
    if (!problems.length) return;
    problem = step === 0 ? 0 : (problem + step + problems.length) % problems.length;
    const one = problems[problem];
    element("problem-place").textContent = `Error ${problem + 1} of ${problems.length}`;
    element("problem-text").textContent = `${one.check}: ${one.said}`;
    if (one.run) {
      select(one.run, one.ordinal === null ? -1 : lastOf(one.run, one.ordinal));
      element("problem").scrollIntoView({block: "start"});
      rows.focus({preventScroll: true});
    } else {
      const witness = element(one.place);
      witness.scrollIntoView({block: "center"});
      witness.focus({preventScroll: true});
    }
  }

  function filter() {
    const words = element("search").value.toLowerCase().split(/\s+/).filter(Boolean), kind = element("filter").value;
    const kinds = {
      all: () => true,
      problem: run => run.problems.length,
      cut: run => run.steps.some(step => step.state === CUT),
      again: run => run.again.size,
      open: run => run.status !== "completed",
    };
    shown = runs.filter(run => kinds[kind](run) && words.every(word => run.words.includes(word)));
    const number = new Intl.NumberFormat("en");
    element("count").textContent = shown.length === runs.length ? `${number.format(runs.length)} runs` : `${number.format(shown.length)} of ${number.format(runs.length)} runs`;
    rows.scrollTop = 0;
    measure();
  }

  // What is said of the selection. Texts of the record are only ever set as text.

  function make(tag, said = "", name = "") {
    const made = document.createElement(tag);
    if (said !== "") made.textContent = said;
    if (name) made.className = name;
    return made;
  }

  function source(file, number, short = false) {
    if (!number) return make("span", "–");
    const link = make("a", short ? String(number) : `${file}.jsonl:${number}`, "src");
    link.href = `history/${file}.jsonl`;
    link.title = `sed -n ${number}p history/${file}.jsonl`;
    return link;
  }

  const states = ["", "cut off", "no end recorded", "failed"];

  function tell() {
    detail.hidden = !selected;
    element("timeline").classList.toggle("open", Boolean(selected));
    detail.replaceChildren();
    if (selected) {
      const close = make("button", "✕", "close");
      close.type = "button";
      close.setAttribute("aria-label", "Close");
      close.addEventListener("click", () => { select(null); rows.focus(); });
      const head = make("p", "", "soft"), {start, end} = selected;
      head.append(`${selected.status}${end[1] === null ? "" : ` at ${moment(end[1] - zero)}`} `, source("workflows", end[2]));
      if (start) head.append(` · start ${text(start[0])} at ${moment(start[1] - zero)} `, source("operations", start[2]));
      detail.append(close, make("h3", selected.id), head);
      if (selected.error) detail.append(make("p", selected.error, "bad"));
      for (const one of selected.problems) detail.append(make("p", `${one.check}: ${one.said}`, "bad"));
      detail.append(tableOfSteps(), tableOfEffects());
    }
    measure();
  }

  function tableOf(head, lines) {
    const table = make("table"), top = make("tr"), body = make("tbody"), thead = make("thead");
    top.append(...head.map(name => make("th", name)));
    thead.append(top);
    body.append(...lines);
    table.append(thead, body);
    return table;
  }

  function tableOfSteps() {
    return tableOf(["", "step", "at", "took", "lines in attempts"], selected.steps.map((step, number) => {
      const row = make("tr", "", "go"), who = make("td", "", "wide"), from = make("td"), name = make("b", step.name);
      const again = selected.again.has(step.ordinal) && lastOf(selected, step.ordinal) === number;
      const more = [`${data.regions[step.region]}/${step.worker}, epoch ${step.epoch}`];
      if (step.attempt > 1) more.push(`attempt ${step.attempt}`);
      if (again) more.push("executed again");
      if (states[step.state]) more.push(states[step.state]);
      who.append(make("span", "", `dot ${step.region === 0 ? "a" : "b"}`), name, make("br"), make("span", more.join(", "), "soft"));
      from.append(source("attempts", step.started, true), step.ended ? " – " : "", step.ended ? source("attempts", step.ended, true) : "");
      const took = step.state === OPEN ? "?" : `${((step.until - step.begin) / 1000).toFixed(3)} s`;
      row.append(make("td", String(step.ordinal)), who, make("td", moment(step.begin - zero)), make("td", took), from);
      if (number === at) row.setAttribute("aria-current", "true");
      row.addEventListener("click", event => { if (event.target.tagName !== "A") select(selected, number); });
      return row;
    }));
  }

  function tableOfEffects() {
    if (!selected.effects.length) return make("p", "no effect in the ledger", "soft");
    return tableOf(["effect", "key", "at", "line in effects"], selected.effects.map(effect => {
      const row = make("tr"), from = make("td"), what = make("td");
      what.append(make("b", effect.kind), make("br"), make("span", effect.outcome, "soft"));
      from.append(source("effects", effect.line, true));
      row.append(what, make("td", effect.key, "wide"), make("td", moment(effect.at - zero)), from);
      return row;
    }));
  }

  function found(event) {
    const box = bars.getBoundingClientRect(), left = event.clientX - box.left;
    const run = shown[Math.floor((event.clientY - box.top + rows.scrollTop) / ROW)];
    let step = -1;
    if (run) run.steps.forEach((one, number) => { if (left >= x(one.begin) - 2 && left <= Math.max(x(one.until), x(one.begin) + 1.5) + 2) step = number; });
    return {run, step};
  }

  function hover(event) {
    const {run, step} = found(event), one = run && run.steps[step];
    if (hovered !== (run || null)) {
      hovered = run || null;
      draw();
    }
    tip.hidden = !one;
    if (!one) return;
    const near = run.effects.filter(effect => Math.abs(x(effect.at) - x(one.begin)) < 6 || effect.at >= one.begin && effect.at <= one.until);
    tip.textContent = [`${run.id}:${one.ordinal} ${one.name}`, `region ${data.regions[one.region]}, ${one.worker}, epoch ${one.epoch}`,
      `${moment(one.begin - zero)}, took ${((one.until - one.begin) / 1000).toFixed(3)} s${states[one.state] ? `, ${states[one.state]}` : ""}`,
      ...near.map(effect => `${effect.kind}: ${effect.outcome}`)].join("\n");
    const box = chart.getBoundingClientRect(), left = event.clientX - box.left;
    tip.style.left = `${Math.max(4, Math.min(left + 14, box.width - tip.offsetWidth - 8))}px`;
    const below = event.clientY - box.top + 18;
    tip.style.top = `${below + tip.offsetHeight > box.height ? below - tip.offsetHeight - 30 : below}px`;
  }

  // Hands.

  function drag(canvas, moved, ended) {
    canvas.addEventListener("pointerdown", event => {
      if (event.button !== 0) return;
      const begin = {x: event.clientX, from: view.from, to: view.to, far: false};
      canvas.setPointerCapture(event.pointerId);
      const onMove = now => {
        begin.far ||= Math.abs(now.clientX - begin.x) > 4;
        if (begin.far) moved(begin, now);
      };
      const onEnd = now => {
        canvas.removeEventListener("pointermove", onMove);
        canvas.removeEventListener("pointerup", onEnd);
        canvas.removeEventListener("pointercancel", onEnd);
        ended(begin, now);
      };
      canvas.addEventListener("pointermove", onMove);
      canvas.addEventListener("pointerup", onEnd);
      canvas.addEventListener("pointercancel", onEnd);
    });
  }

  drag(bars, (begin, now) => {
    bars.classList.add("dragging");
    const shift = (begin.x - now.clientX) * (begin.to - begin.from) / (size.width - size.label - PAD);
    look(begin.from + shift, begin.to + shift);
  }, (begin, now) => {
    bars.classList.remove("dragging");
    if (begin.far || now.type === "pointercancel") return;
    const {run, step} = found(now);
    select(run || null, step, true);
  });

  drag(lanes, (begin, now) => {
    drawLanes();
    const box = lanes.getBoundingClientRect(), to = lanes.getContext("2d");
    to.globalAlpha = 0.15;
    to.fillStyle = colours.link;
    to.fillRect(begin.x - box.left, 0, now.clientX - begin.x, box.height);
    to.globalAlpha = 1;
  }, (begin, now) => {
    const left = lanes.getBoundingClientRect().left;
    const [from, to] = [instantAt(begin.x - left), instantAt(now.clientX - left)].sort((one, other) => one - other);
    if (begin.far && to - from >= 5) look(from, to);
    else draw();
  });

  chart.addEventListener("wheel", event => {
    const left = event.clientX - chart.getBoundingClientRect().left;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.004), instantAt(left));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      move((event.deltaX || event.deltaY) * (view.to - view.from) / (size.width - size.label));
    }
  }, {passive: false});
  bars.addEventListener("pointermove", hover);
  bars.addEventListener("pointerleave", () => { tip.hidden = true; hovered = null; draw(); });
  for (const canvas of [bars, lanes]) canvas.addEventListener("dblclick", () => look(...work));
  labels.addEventListener("click", event => {
    const run = byId.get(event.target.title);
    if (run) select(run);
  });
  rows.addEventListener("scroll", draw);

  rows.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = shown.indexOf(selected), page = Math.floor(rows.clientHeight / ROW) - 1, last = shown.length - 1;
    const rowOf = {ArrowDown: row + 1, ArrowUp: row < 0 ? 0 : row - 1, PageDown: row + page, PageUp: row - page, Home: 0, End: last};
    if (event.key in rowOf && shown.length) select(shown[Math.min(Math.max(rowOf[event.key], 0), last)]);
    else if (event.key === "ArrowRight" && selected) select(selected, Math.min(at + 1, selected.steps.length - 1));
    else if (event.key === "ArrowLeft" && selected) select(selected, Math.max(at - 1, -1));
    else return;
    event.preventDefault();
  });

  const keys = {
    e: () => jump(1), E: () => jump(-1), "/": () => element("search").focus(), "?": help, t: theme,
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": () => look(...work),
    "[": () => move((view.from - view.to) / 4), "]": () => move((view.to - view.from) / 4),
    Escape: () => { if (selected) select(null); },
  };
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    if (event.target.matches("input, select")) {
      if (event.key === "Escape") rows.focus();
      return;
    }
    event.preventDefault();
    keys[event.key]();
  });

  function help() {
    const shown = element("keys").toggleAttribute("hidden");
    element("help").setAttribute("aria-expanded", String(!shown));
  }

  function theme() {
    const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = (root.dataset.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
    measure();
  }

  function whilePrinting(printing) {
    document.documentElement.classList.toggle("printing", printing);
    rows.style.height = printing ? `${Math.min(shown.length, PRINTED_ROWS) * ROW}px` : "";
    if (printing) rows.scrollTop = 0;
    measure();
    drawNow();
  }

  element("search").addEventListener("input", filter);
  element("filter").addEventListener("change", filter);
  element("in").addEventListener("click", keys["+"]);
  element("out").addEventListener("click", keys["-"]);
  element("fit").addEventListener("click", keys["0"]);
  element("help").addEventListener("click", help);
  element("theme").addEventListener("click", theme);
  if (problems.length) {
    element("problem-first").addEventListener("click", () => jump(0));
    element("problem-next").addEventListener("click", () => jump(1));
    element("problem-back").addEventListener("click", () => jump(-1));
  }
  addEventListener("hashchange", followHash);
  addEventListener("beforeprint", () => whilePrinting(true));
  addEventListener("afterprint", () => whilePrinting(false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", measure);
  new ResizeObserver(measure).observe(chart);
  filter();
  followHash();
})();
