// Scores of the class "changed", as ifn_plugin.evaluation.scores computes them: in percent, 0 where undefined
const SCORES = ['Precision', 'Recall', 'F1', 'IoU'];

function scoresOf([tp, fp, fn]) {
  const percent = (part, whole) => whole ? 100 * part / whole : 0;
  return {
    Precision: percent(tp, tp + fp),
    Recall: percent(tp, tp + fn),
    F1: percent(2 * tp, 2 * tp + fp + fn),
    IoU: percent(tp, tp + fp + fn),
  };
}

// Replace a map's histogram by the numbers of pixels above each level: first the unchanged ones, then the changed ones
function accumulate(map) {
  if (!map || !map.histogram) return;
  map.above = new Float64Array(512);
  map.totals = [0, 0];
  for (const label of [0, 1]) {
    for (let level = 255; level >= 0; level--) {
      map.above[256 * label + level] = map.totals[label];
      map.totals[label] += map.histogram[256 * label + level];
    }
  }
  delete map.histogram;
}

// True positives, false positives, false negatives and true negatives above a level; null is the model's own threshold
function countsAt(map, index) {
  if (index === null || !map.above) return map.counts;
  const fp = map.above[index], tp = map.above[256 + index];
  return [tp, fp, map.totals[1] - tp, map.totals[0] - fp];
}

function totalAt(maps, index) {
  const total = [0, 0, 0, 0];
  for (const map of maps) if (map) countsAt(map, index).forEach((count, i) => { total[i] += count; });
  return total;
}
