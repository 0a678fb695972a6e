
// A suite: one plot for each trace and curve, with whoever does not look at utilization in each.
const kinds = [['ours', 'Tidegate with queue signals'], ['ours hollow', 'Tidegate with utilization alone'], ['', 'HPA'], ['hollow', 'HPA equal to the engine with utilization alone'],
  ['rival', 'KEDA, KPA, a constant fleet'], ['oracle', 'the oracle, who knows the future']];
const kind = ({ name }) => (name.startsWith('tidegate') ? 'ours' : name.startsWith('hpa') ? '' : name === 'oracle' ? 'oracle' : 'rival')
  + (name.endsWith('utilization') ? ' hollow' : '');

for (const [name, words] of kinds) {
  byId('keys').append(html('li', {}, svg('svg', { viewBox: '0 0 18 12', 'aria-hidden': 'true' }, svg('circle', { class: `contender ${name}`, cx: 9, cy: 6, r: 5 })), words));
}

// A line's figures in words: the median, the ends where they differ, and what it is compared with.
function words(line, trace) {
  const figure = (name, written, per = 1) => {
    const [middle, least, greatest] = ['', '_min', '_max'].map((end) => written(line[name + end] / per));
    return middle + (least === greatest ? '' : ` (${least} to ${greatest})`);
  };
  const against = (name) => [['the oracle', line.name === 'oracle' ? null : line.against_oracle], ['the HPA at equal attainment', line.against_hpa]]
    .map(([who, all]) => [who, all?.[name] ?? null]).filter(([, share]) => share !== null)
    .map(([who, share]) => `; ${share < 0 ? '−' : '+'}${Math.abs(share * 100).toFixed(1)} % to ${who}`).join('');
  const whole = (value) => value.toLocaleString('en-US', { maximumFractionDigits: 1 });
  const rows = [
    `${figure('slo_attainment', percent)} within the bounds`,
    `GPU hours: ${figure('gpu_hours', hours)}${against('gpu_hours')}`,
    `in the cloud: ${figure('cloud_gpu_hours', hours)}${against('cloud_gpu_hours')}`,
    `cost: ${figure('cost', hours)}${against('cost')}`,
    `${figure('direction_reversals', (value) => value.toFixed(2), trace.hours)} reversals an hour, ${figure('undone_scale_downs', whole)} removals undone, ${figure('scale_events', whole)} changes`,
    `${figure('time_without_violation', percent)} of the minutes calm, ${figure('worst_queue', whole)} waiting at worst`,
  ];
  return [html('b', {}, line.name), line.settings, ...rows.map((row) => html('span', { class: 'why' }, row))];
}

function drawAll() {
  for (const figure of document.querySelectorAll('figure[data-trace]')) {
    const trace = data.traces[figure.dataset.trace];
    const named = trace.lines.filter((line) => line.curve === null || line.curve === figure.dataset.curve).map((line) => ({
      name: line.name, kind: kind(line), attainment: line.slo_attainment, cost: line.cost, words: words(line, trace),
      ends: [{ attainment: line.slo_attainment_min, cost: line.cost_min }, { attainment: line.slo_attainment_max, cost: line.cost_max }],
    }));
    scatter(figure.lastElementChild, named, [], 1 - trace.attainment_asked);
  }
}
drawnAnew(drawAll);
