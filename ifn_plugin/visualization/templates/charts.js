// Okabe and Ito’s palette, black and one more replaced by colours for either ground
const PALETTE = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f', '#999933'];
const colourOf = number => PALETTE[number % PALETTE.length];

// Charts by uPlot: hover shows the values, dragging zooms, a double click shows all
function drawChart(root, {x, y, lines, bands, xlim, ylim, steps}) {
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ['--soft', '--line'].map(name => style.getPropertyValue(name).trim());
  const axis = (label, size) => ({label, stroke: ink, grid: {stroke: line, width: 1}, ticks: {stroke: line, width: 1}, size,
                                  labelSize: 18, labelGap: 0, font: '12px system-ui', labelFont: '12px system-ui'});
  const text = value => value === null || value === undefined ? '–' : String(+value.toPrecision(5));
  const tables = [...lines, ...bands].map(entry => [entry.x, ...(entry.low ? [entry.low, entry.high] : [entry.y])]);
  const series = lines.map(({label, number, dots}) => ({
    label, stroke: colourOf(number), width: 1.6, spanGaps: true, points: {show: Boolean(dots), size: 5},
    paths: steps ? uPlot.paths.stepped({align: 1}) : undefined,
    dash: [[], [6, 4], [2, 3]][Math.floor(number / PALETTE.length) % 3], value: (_, value) => text(value)}));
  const areas = [];
  bands.forEach(({label, number}) => {
    const place = series.length + 1;
    for (const part of ['lowest', 'highest']) {
      series.push({label: `${label}, ${part}`, stroke: 'transparent', spanGaps: true, points: {show: false},
                   value: (_, value) => text(value)});
    }
    areas.push({series: [place + 1, place], fill: `${colourOf(number)}2e`});
  });
  const options = {
    width: Math.max(280, root.clientWidth), height: 290, bands: areas, axes: [axis(x, 30), axis(y, 46)],
    scales: {x: {time: false, ...(xlim && {range: () => xlim})}, y: ylim ? {range: () => ylim} : {}},
    series: [{label: x, value: (_, value) => text(value)}, ...series], cursor: {points: {size: 7}},
  };
  const plot = new uPlot(options, uPlot.join(tables), root);
  new ResizeObserver(() => plot.setSize({width: Math.max(280, root.clientWidth), height: 290})).observe(root);
  return plot;
}

function drawCharts(charts) {
  const plots = [];
  const draw = () => {
    plots.splice(0).forEach(plot => plot.destroy());
    document.querySelectorAll('.chart').forEach((root, i) => {
      const place = root.querySelector('.plot');
      plots.push(drawChart(place, charts[i]));
    });
  };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  draw();
}

// What pages.packed has written
async function unpack(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent.trim()), byte => byte.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).json();
}
