
'use strict';
// Draws plots from the data in the page. Nothing is loaded. Here is what every page uses.
const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);

// Elements of SVG and HTML; attributes first, then children.
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const percent = (share) => (share < 1 ? Math.min(99.99, Math.round(share * 1e4) / 100) : 100).toFixed(2) + ' %';
const hours = (value) => value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 1 : 0 });

// Cost against the share of requests out of bounds, on which 98 % and 99 % in time are far apart. Named points have `kind`, a
// class, and may have `ends`, the least and the greatest of attainment and cost; dots are small, without names.
function scatter(host, named, dots, bound) {
  const width = host.clientWidth, height = Math.max(260, Math.min(380, width * 0.42));
  const left = 58, right = 16, top = 22, bottom = 40;
  if (!named.length && !dots.length) return;
  const floor = 1e-4, out = (attainment) => Math.max(floor, 1 - attainment), miss = (point) => out(point.attainment);
  const ends = named.flatMap((point) => point.ends ?? []);
  const costs = named.concat(dots, ends).map((point) => point.cost), misses = named.concat(dots, ends).map(miss);
  const low = Math.min(...costs), high = Math.max(...costs);
  // Logarithmic where the costs are far apart.
  const far = high > 4 * low && low > 0, line = far ? Math.log10 : (value) => value;
  const from = far ? low / 1.15 : Math.max(0, low - (high - low) * 0.08 - low * 0.02), to = far ? high * 1.35 : high + (high - low) * 0.12 + high * 0.02;
  const worst = Math.max(0.02, ...misses) * 1.6; // room above the uppermost dot, even of one that is never in time
  const x = (cost) => left + (line(cost) - line(from)) / (line(to) - line(from)) * (width - left - right);
  const y = (share) => top + (1 - (Math.log10(share) - Math.log10(floor)) / (Math.log10(worst) - Math.log10(floor))) * (height - top - bottom);
  const picture = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': 'Cost of each contender against the share of requests out of bounds' });
  for (const share of [1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001].filter((one) => one <= worst)) {
    picture.append(svg('path', { class: 'grid', d: `M${left},${y(share)}H${width - right}` }),
      svg('text', { x: left - 8, y: y(share) + 4, 'text-anchor': 'end' }, (share * 100).toLocaleString('en-US', { maximumFractionDigits: 2 }) + ' %'));
  }
  const raw = (to - from) / Math.max(3, width / 130), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const ticks = [];
  if (far) {
    for (let ten = 10 ** Math.floor(Math.log10(from)); ten <= to; ten *= 10) ticks.push(...(to > 9 * from ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7]).map((one) => one * ten));
  } else {
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  }
  for (const at of ticks.filter((one) => one >= from && one <= to)) {
    picture.append(svg('path', { class: 'grid', d: `M${x(at)},${top}V${height - bottom}` }),
      svg('text', { x: x(at), y: height - bottom + 17, 'text-anchor': 'middle' }, at.toLocaleString('en-US')));
  }
  picture.append(svg('text', { x: width - right, y: height - 4, 'text-anchor': 'end' }, 'cost, in GPU hours on premises →'),
    svg('text', { x: left, y: top - 6, 'text-anchor': 'start' }, '↓ requests out of bounds'));
  if (bound > floor && bound < worst) {
    picture.append(svg('path', { class: 'bound', d: `M${left},${y(bound)}H${width - right}` }));
  }
  for (const point of dots) {
    const dot = svg('circle', { class: `try${point.front ? ' on' : ''}${point.suggested ? ' suggested' : ''}`, cx: x(point.cost), cy: y(miss(point)), r: point.suggested ? 6 : 3.5 });
    hover(dot, point.words);
    picture.append(dot);
  }
  const front = dots.filter((point) => point.front).sort((a, b) => a.cost - b.cost);
  if (front.length) {
    picture.append(svg('path', { class: 'front', d: front.map((point, i) => `${i ? `H${x(point.cost)}V${y(miss(point))}` : `M${x(point.cost)},${y(miss(point))}`}`).join('') }));
  }
  for (const { kind, attainment, cost, ends } of named) {
    if (!ends) continue;
    const [least, greatest] = ends;
    picture.append(svg('path', { class: `whisker ${kind}`, d: `M${x(least.cost)},${y(out(attainment))}H${x(greatest.cost)}M${x(cost)},${y(miss(least))}V${y(miss(greatest))}` }));
  }
  // The first ones are drawn over the others, and what lies under a dot is told with it.
  for (const { kind, cost, ...point } of named.slice().reverse()) {
    const cx = x(cost), cy = y(miss(point));
    const dot = svg('circle', { class: `contender ${kind}`, cx, cy, r: 7 });
    hover(dot, named.filter((other) => Math.hypot(x(other.cost) - cx, y(miss(other)) - cy) < 7).flatMap((other) => other.words));
    picture.append(dot);
  }
  // Names go where neither a point nor another name is.
  const taken = named.map((point) => [x(point.cost) - 7, y(miss(point)) - 7, x(point.cost) + 7, y(miss(point)) + 7]);
  const hits = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
  for (const point of named) {
    const cx = x(point.cost), cy = y(miss(point)), size = point.name.length * 7 + 2;
    const places = [0, -15, 15, -28, 28, -41, 41].flatMap((dy) => [[cx + 11, cy + dy], [cx - 11 - size, cy + dy]]);
    const box = ([left, middle]) => [left, middle - 7, left + size, middle + 7];
    const free = ([at, middle]) => at > left && at + size < width - right && middle > top && middle <= height - bottom
      && !taken.some((other) => hits(box([at, middle]), other));
    const place = places.find(free);
    if (!place) continue;
    taken.push(box(place));
    const before = place[0] < cx;
    picture.append(svg('text', { class: 'name', x: place[0] + (before ? size : 0), y: place[1] + 4, 'text-anchor': before ? 'end' : 'start' }, point.name));
    // What stands above or below its dot is led to it.
    if (place[1] !== cy) picture.prepend(svg('path', { class: 'leader', d: `M${cx},${cy}L${place[0] + (before ? size + 2 : -2)},${place[1]}` }));
  }
  host.replaceChildren(picture);
}
function hover(element, words) {
  element.addEventListener('pointermove', (event) => tip(event.clientX, event.clientY, words));
  element.addEventListener('pointerleave', () => tip());
}

function tip(left, top, children) {
  const box = byId('tip');
  box.hidden = !children;
  if (!children) return;
  box.replaceChildren(...children);
  box.style.left = box.style.top = '0'; // its width is its own, not what was left beside its last place
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(8, left + width + 26 > innerWidth ? left - width - 14 : left + 14)}px`;
  box.style.top = `${Math.max(8, Math.min(innerHeight - height - 8, top + 14))}px`;
}

// Draws now, and whenever the width is another.
function drawnAnew(drawAll) {
  let drawnAt = 0;
  new ResizeObserver(() => {
    const width = document.querySelector('main').clientWidth;
    if (width !== drawnAt) { drawnAt = width; drawAll(); }
  }).observe(document.querySelector('main'));
  addEventListener('beforeprint', drawAll);
}
