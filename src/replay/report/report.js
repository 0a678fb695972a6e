
// The report of one trace.
const runs = data.runs;

const count = (value, word) => value.toLocaleString('en-US') + ' ' + word + (value === 1 ? '' : 's');
const most = (column) => column.reduce((a, b) => Math.max(a, b), 0);
const two = (n) => String(n).padStart(2, '0');

// Time since the trace began: 1:05, or "day 3, 14:00" in longer runs.
function clock(seconds, long, exact) {
  const whole = Math.round(seconds);
  const day = Math.floor(whole / 86400), hour = Math.floor(whole / 3600), minute = Math.floor(whole / 60) % 60;
  const rest = exact && whole % 60 ? ':' + two(whole % 60) : '';
  return long ? `day ${day + 1}, ${two(hour % 24)}:${two(minute)}${rest}` : `${hour}:${two(minute)}${rest}`;
}

function timeTicks(from, to, width) {
  const steps = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
  const step = steps.find((one) => (to - from) / one <= Math.max(2, width / 95)) || 1209600;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const midnight = to - from > 172800 || at % 86400 === 0;
    const long = to - from > 86400 || to > 172800;
    const text = long ? (midnight && at % 86400 === 0 ? `day ${at / 86400 + 1}` : clock(at % 86400, false)) : clock(at, false);
    ticks.push([at, text]);
  }
  return ticks;
}

function valueTicks(max) {
  const raw = max / 4, power = 10 ** Math.floor(Math.log10(raw || 1));
  const step = Math.max([1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw) || 1, max < 4 ? max / 2 || 1 : 1);
  const ticks = [];
  for (let at = 0; at <= max * 1.0001; at += step) ticks.push(at);
  return ticks;
}

// Runs of equal values between two samples. Where there are more samples than buckets, several fall together: the greatest
// counts, or their mean.
function steps(column, from, to, buckets, mean = false) {
  const parts = [], size = Math.max(1, Math.ceil((to - from) / buckets));
  for (let i = from; i < to; i += size) {
    const values = column.slice(i, Math.min(i + size, to));
    const value = mean ? values.reduce((a, b) => a + b, 0) / values.length : most(values);
    const last = parts[parts.length - 1];
    if (last && last[2] === value) last[1] = Math.min(i + size, to);
    else parts.push([i, Math.min(i + size, to), value]);
  }
  return parts;
}

// An area of steps between two columns given as functions of value to y.
function area(parts, x, y, floor) {
  let path = '';
  for (const [from, to, value] of parts) if (value > 0) path += `M${x(from)},${floor}V${y(value)}H${x(to)}V${floor}Z`;
  return path;
}

function line(column, x, y, from, to, buckets) {
  let path = '', gap = true;
  const size = Math.max(1, Math.ceil((to - from) / buckets));
  for (let i = from; i < to; i += size) {
    let value = null;
    for (let j = i; j < Math.min(i + size, to); j++) if (column[j] !== null) value = Math.max(value ?? 0, column[j]);
    if (value === null) { gap = true; continue; }
    path += `${gap ? 'M' : 'L'}${x(i + size / 2)},${y(value)}`;
    gap = false;
  }
  return path;
}

// Columns on top of each other: the tops, the last one outermost, so that each is drawn over the one before it.
function stack(run) {
  const tops = [];
  let below = run.onPremises.map(() => 0);
  for (const [name, column] of [['home', run.onPremises], ['cloud', run.cloud], ['starting', run.starting], ['pending', run.pending]]) {
    below = below.map((value, i) => value + column[i]);
    tops.push([name, below]);
  }
  return tops.reverse();
}
const tops = runs.map(stack);
const ceiling = Math.max(1, ...runs.map((run, i) => Math.max(most(tops[i][0][1]), most(run.load))));
const missed = (run) => run.requests.map((requests, i) => (requests ? run.violations[i] / requests : 0));
const bound = 1 - data.attainment;

/* The legend. */
for (const [name, words] of [['home', 'ready on premises'], ['cloud', 'ready in the cloud'], ['starting', 'starting'], ['pending', 'without a node'],
  ['load', 'offered load, in replicas'], ['demand', 'demand as the contender sees it'], ['bad', `requests out of bounds: some, more than ${percent(bound)}, more than ten times as many`]]) {
  const swatch = svg('svg', { viewBox: '0 0 18 11', 'aria-hidden': 'true' });
  if (name === 'bad') swatch.append(...[0, 1, 2].map((i) => svg('rect', { x: i * 6, width: 6, height: 11, class: `bad level${i}` })));
  else if (name === 'load' || name === 'demand') swatch.append(svg('path', { d: 'M0,6H18', class: name }));
  else swatch.append(svg('rect', { width: 18, height: 11, rx: 2, class: name }));
  byId('keys').append(html('li', {}, swatch, words));
}

/* Small multiples, which are the selector too. */
let chosen = Math.max(0, runs.findIndex((run) => run.name === 'tidegate'));
const minis = runs.map((run, i) => {
  const radio = html('input', { type: 'radio', name: 'contender', value: run.name, ...(i === chosen ? { checked: '' } : {}) });
  radio.addEventListener('change', () => { chosen = i; cursor = null; draw(); });
  const short = run.attainment < data.attainment;
  const sums = html('span', { class: 'sums' }, html('span', short ? { class: 'missed' } : {}, percent(run.attainment)),
    html('span', {}, hours(run.gpuHours) + ' GPU h'), html('span', {}, hours(run.cloudGpuHours) + ' in the cloud'));
  const plot = html('span', { class: 'mini' });
  byId('multiples').append(html('label', {}, radio, html('b', {}, run.name), ' ', html('small', {}, run.settings), sums, plot));
  return plot;
});
function drawMinis() {
  minis.forEach((host, i) => {
    const run = runs[i], width = host.parentElement.clientWidth - 24, height = 84, samples = run.load.length;
    const x = (at) => (at / samples * width).toFixed(1), y = (value) => (height - 8 - value / ceiling * (height - 10)).toFixed(1);
    const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': `Replicas of ${run.name} over time` });
    for (const [name, column] of tops[i]) picture.append(svg('path', { class: name, d: area(steps(column, 0, samples, width), x, y, y(0)) }));
    picture.append(svg('path', { class: 'load', d: line(run.load, x, y, 0, samples, width / 1.5) }));
    const level = missed(run).map((share) => (share > bound * 10 ? 3 : share > bound ? 2 : share > 0 ? 1 : 0));
    const bad = steps(level, 0, samples, width);
    for (const one of [0, 1, 2]) {
      const parts = bad.filter((part) => part[2] === one + 1).map(([from, to]) => `M${x(from)},${height - 5}H${Math.max(+x(to), +x(from) + 1)}V${height}H${x(from)}Z`);
      picture.append(svg('path', { class: `bad level${one}`, d: parts.join('') }));
    }
    picture.append(svg('path', { class: 'axis', d: `M0,${y(0)}H${width}` }));
    host.replaceChildren(picture);
  });
}

/* Cost against missed requests. */
function drawPareto() {
  const words = (point) => html('span', { class: 'why' }, `${percent(point.attainment)} within the bounds, cost ${hours(point.cost)}`);
  const named = runs.map((run) => ({ ...run, kind: run.name === 'tidegate' ? 'ours' : '', words: [html('b', {}, run.name), run.settings, words(run)] }));
  const dots = data.candidates.map((point) => ({ ...point, words: [html('b', {}, point.settings), point.suggested ? 'suggested' : '', words(point)] }));
  scatter(byId('pareto'), named, dots, bound);
  byId('cost-note').textContent = 'Down and to the left is better; the dashed line is the bound. Fewer than 0.01 % is drawn as 0.01 %.'
    + (dots.length ? ` Small dots are the ${dots.length} settings that the sweep tried, the line those that nothing beats, the ring the one suggested.` : '');
}

/* The chosen contender in full. */
let view = null, cursor = null, drag = null, frame = null;
const margin = { left: 46, right: 12 };
function draw() {
  const run = runs[chosen];
  if (!run) return;
  const samples = run.load.length;
  view = view && view[1] <= samples ? view : [0, samples];
  const stage = byId('stage'), width = stage.clientWidth, inner = width - margin.left - margin.right;
  const [from, to] = view, span = to - from;
  const x = (at) => +(margin.left + (at - from) / span * inner).toFixed(1);
  const buckets = inner * 1.5;
  const long = samples * run.seconds > 172800;
  const shares = missed(run).map((share) => 100 * share);
  const panels = [
    { title: 'Replicas and offered load', height: Math.max(190, Math.min(270, width * 0.3)), max: ceiling, marks: true },
    { title: 'Utilization of ready replicas, %', height: 84, max: 100, column: run.utilization, name: 'busy', mean: true },
    { title: 'Cloud nodes paid for', height: 70, max: Math.max(1, most(run.nodes)), column: run.nodes, name: 'nodes' },
    { title: 'Requests waiting', height: 84, max: Math.max(1, most(run.queue)), column: run.queue, name: 'queue' },
    { title: 'Requests out of bounds, %', height: 70, max: Math.max(1, most(shares)), column: shares, name: 'bad' },
  ];
  let top = 4;
  const picture = svg('svg', { role: 'img', 'aria-label': `Replicas, utilization, nodes, queue and missed requests of ${run.name}` });
  const ticks = timeTicks(from * run.seconds, to * run.seconds, inner);
  const clip = svg('clipPath', { id: 'clip' });
  picture.append(svg('defs', {}, clip));
  const marks = [];
  for (const panel of panels) {
    const strip = panel.marks ? 30 : 20, floor = top + strip + panel.height;
    const y = (value) => +(floor - value / panel.max * panel.height).toFixed(1);
    picture.append(svg('text', { class: 'title', x: margin.left, y: top + 12 }, panel.title));
    for (const value of panel.max === 100 ? [0, 50, 100] : panel.height < 100 ? [0, panel.max] : valueTicks(panel.max)) {
      picture.append(svg('path', { class: 'grid', d: `M${margin.left},${y(value)}H${width - margin.right}` }),
        svg('text', { x: margin.left - 7, y: y(value) + 4, 'text-anchor': 'end' }, Number(value.toFixed(1)).toLocaleString('en-US')));
    }
    for (const [at] of ticks) picture.append(svg('path', { class: 'grid', d: `M${x(at / run.seconds)},${top + strip}V${floor}` }));
    const inside = svg('g', { 'clip-path': 'url(#clip)' });
    if (panel.marks) {
      for (const [name, column] of tops[chosen]) inside.append(svg('path', { class: name, d: area(steps(column, from, to, buckets), x, y, floor) }));
      inside.append(svg('path', { class: 'demand', d: line(run.demand, x, y, from, to, buckets / 2) }),
        svg('path', { class: 'load', d: line(run.load, x, y, from, to, buckets / 2) }));
      const visible = (at) => at >= from * run.seconds && at <= to * run.seconds;
      const many = run.decisions.filter(([at]) => visible(at)).length > inner / 10;
      run.decisions.forEach(([at, before, after], i) => {
        const place = x(at / run.seconds), base = top + strip - 3, up = after > before;
        if (!visible(at)) return;
        const tick = `M${place - 0.5},${up ? base - 10 : base - 4}h1v5h-1z`;
        const shape = many ? tick : up ? `M${place - 4},${base}h8l-4,-8z` : `M${place - 4},${base - 8}h8l-4,8z`;
        const mark = svg('path', { class: 'mark', d: shape, 'data-decision': i });
        marks.push([i, mark]);
        picture.append(mark);
      });
    } else {
      inside.append(svg('path', { class: panel.name, d: area(steps(panel.column, from, to, buckets, panel.mean), x, y, floor) }));
    }
    picture.append(inside, svg('path', { class: 'axis', d: `M${margin.left},${floor}H${width - margin.right}` }));
    top = floor + 12;
  }
  for (const [at, text] of ticks) picture.append(svg('text', { x: x(at / run.seconds), y: top + 6, 'text-anchor': 'middle' }, text));
  top += 14;
  clip.append(svg('rect', { x: margin.left, y: 0, width: inner, height: top }));
  const hair = svg('path', { class: 'cursor' }), pick = svg('rect', { class: 'pick', y: 0, height: top, width: 0 });
  picture.append(pick, hair);
  picture.setAttribute('viewBox', `0 0 ${width} ${top}`);
  picture.setAttribute('height', top);
  stage.replaceChildren(picture);
  frame = { run, x, inner, width, top, hair, pick, marks, long };
  const rest = run.recorded - run.decisions.length, late = run.ofDecisions > run.recorded;
  byId('full-title').textContent = `In full: ${run.name}`;
  byId('full-title').append(html('small', { class: 'note' }, ` ${run.settings} · seed ${run.seed} · ${count(run.ofDecisions, 'decision')}${late ? `, the first ${run.recorded.toLocaleString('en-US')} recorded` : ''}${rest > 0 ? `, ${rest.toLocaleString('en-US')} smaller ones not marked` : ''}`));
  point(cursor);
}

// The last decision before the end of a sample.
function inForce(run, sample) {
  let low = 0, high = run.decisions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (run.decisions[middle][0] < (sample + 1) * run.seconds) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function sentence(run, i) {
  const [at, from, to, why] = run.decisions[i];
  return [`${clock(at, frame.long, true)}: ${from} → ${to} replicas`, why];
}

// Moves the hair to a sample and says what is there; `decision` is one that is pointed at.
function point(sample, decision, place) {
  const { run, x, hair, top, marks, long } = frame;
  cursor = sample === null ? null : Math.max(0, Math.min(run.load.length - 1, sample));
  const shown = cursor === null ? -1 : decision ?? inForce(run, cursor);
  for (const [i, mark] of marks) mark.classList.toggle('on', i === shown);
  if (cursor === null) {
    hair.setAttribute('d', '');
    byId('readout').textContent = '';
    return tip();
  }
  const at = x(cursor + 0.5);
  hair.setAttribute('d', `M${at},0V${top}`);
  const i = cursor, cloud = run.cloud[i] ? `, ${run.cloud[i]} in the cloud` : '';
  const coming = run.starting[i] + run.pending[i] ? `, ${run.starting[i] + run.pending[i]} on the way` : '';
  const state = `${run.onPremises[i] + run.cloud[i]} ready${cloud}${coming} · load ${run.load[i].toFixed(1)} · ${run.utilization[i]} % busy · ${run.queue[i]} waiting · ${run.violations[i]} of ${run.requests[i]} out of bounds`;
  const time = clock(cursor * run.seconds, long);
  const unrecorded = run.ofDecisions > run.recorded && shown === run.decisions.length - 1;
  const why = unrecorded ? ['', 'no decision is recorded from here on'] : shown >= 0 ? sentence(run, shown) : ['', 'no decision yet'];
  byId('readout').replaceChildren(html('b', {}, time), ` · ${state}`, html('br'), why[0] ? `Last decision ${why[0]}. ${why[1]}` : why[1]);
  if (!place) tip();
  else tip(place[0], place[1], [html('b', {}, time), state, html('span', { class: 'why' }, why[0] ? html('b', {}, why[0]) : '', why[1])]);
}

const stage = byId('stage');
const sampleAt = (event) => {
  const share = (event.clientX - stage.getBoundingClientRect().left - margin.left) / frame.inner;
  return Math.floor(view[0] + Math.max(0, Math.min(0.999999, share)) * (view[1] - view[0]));
};
stage.addEventListener('pointermove', (event) => {
  if (!frame) return;
  const sample = sampleAt(event);
  if (drag) {
    const [a, b] = [Math.min(drag.sample, sample), Math.max(drag.sample, sample) + 1];
    drag.moved = drag.moved || Math.abs(event.clientX - drag.x) > 5;
    if (drag.moved) {
      frame.pick.setAttribute('x', frame.x(a));
      frame.pick.setAttribute('width', frame.x(b) - frame.x(a));
    }
  }
  const mark = event.target.closest('[data-decision]');
  point(sample, mark ? Number(mark.dataset.decision) : undefined, [event.clientX, event.clientY]);
});
stage.addEventListener('pointerdown', (event) => {
  if (event.button === 0 && event.pointerType === 'mouse') drag = { sample: sampleAt(event), x: event.clientX };
});
addEventListener('pointerup', (event) => {
  if (drag && drag.moved) {
    const sample = sampleAt(event);
    zoom(Math.min(drag.sample, sample), Math.max(drag.sample, sample) + 1);
  }
  drag = null;
  if (frame) frame.pick.setAttribute('width', 0);
});
stage.addEventListener('pointerleave', () => { if (!drag) tip(); });
stage.addEventListener('dblclick', () => zoom(0, Infinity));

function zoom(from, to) {
  const samples = runs[chosen].load.length, least = Math.min(samples, 12);
  const span = Math.max(least, Math.min(samples, to - from));
  const start = Math.max(0, Math.min(samples - span, Math.round(from)));
  view = [start, Math.min(samples, start + Math.round(span))];
  draw();
}
function scale(factor) {
  const span = (view[1] - view[0]) * factor, middle = cursor ?? (view[0] + view[1]) / 2;
  zoom(middle - span / 2, middle + span / 2);
}
// To the next decision in a direction, and into view.
function step(direction) {
  const run = runs[chosen], now = cursor === null ? -1 : inForce(run, cursor);
  let next = cursor === null ? (direction > 0 ? 0 : run.decisions.length - 1) : now + direction;
  while (run.decisions[next] && cursor !== null && Math.floor(run.decisions[next][0] / run.seconds) === cursor && direction > 0) next += 1;
  if (!run.decisions[next]) return;
  go(Math.floor(run.decisions[next][0] / run.seconds), next);
}
function go(sample, decision) {
  cursor = Math.max(0, Math.min(runs[chosen].load.length - 1, sample));
  if (cursor < view[0] || cursor >= view[1]) {
    const span = view[1] - view[0];
    zoom(cursor - span / 2, cursor + span / 2);
  }
  point(cursor, decision);
}
stage.addEventListener('keydown', (event) => {
  const keys = {
    ArrowLeft: () => (event.shiftKey ? step(-1) : go((cursor ?? view[1]) - Math.max(1, Math.round((view[1] - view[0]) / 300)))),
    ArrowRight: () => (event.shiftKey ? step(1) : go((cursor ?? view[0] - 1) + Math.max(1, Math.round((view[1] - view[0]) / 300)))),
    Home: () => go(0), End: () => go(Infinity),
    '+': () => scale(0.5), '=': () => scale(0.5), '-': () => scale(2), 0: () => zoom(0, Infinity), Escape: () => point(null),
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  keys[event.key]();
});
byId('before').addEventListener('click', () => step(-1));
byId('after').addEventListener('click', () => step(1));
byId('in').addEventListener('click', () => scale(0.5));
byId('out').addEventListener('click', () => scale(2));
byId('all').addEventListener('click', () => zoom(0, Infinity));

function drawAll() { drawPareto(); drawMinis(); draw(); }
drawnAnew(drawAll);
