// The viewer: scores at a threshold, and the pairs as rows with a column for each model
function thresholdText(value) {
  return String(value > 0.99 ? +value.toFixed(7) : +value.toPrecision(4));
}

class Viewer {
  constructor(root, data, pictures) {
    Object.assign(this, data, {root, pictures, choice: 'own', shown: 0});
    this.pairs.forEach((pair, number) => {
      pair.number = number;
      pair.maps.forEach(accumulate);
    });
    this.fixed = this.models.map((_, i) => this.pairs.some(pair => pair.maps[i] && !pair.maps[i].above));
    this.rows = new Map();
    this.get = name => root.querySelector(`[name=${name}]`);
    this.list = root.querySelector('.pairs');
    this.list.style.setProperty('--columns', this.models.length + 1);
    this.observer = new IntersectionObserver(entries => entries.forEach(entry => this.seen(entry)),
                                             {rootMargin: '300px'});
    this.more = new IntersectionObserver(entries => entries.some(entry => entry.isIntersecting) && this.add());
    this.stage = new Stage(root.querySelector('.stage'));
    this.fill();
    this.listen();
    this.arrange();
    this.more.observe(root.querySelector('.more'));
  }

  fill() {
    this.get('threshold').max = this.thresholds.length - 1;
    this.get('threshold').value = this.models[0].index;
    const marks = this.root.querySelector('.marks');
    const mark = (text, choice, title) => marks.append(
      make('button', {type: 'button', 'data-choice': String(choice), title}, text));
    mark('as configured', 'own', 'the threshold of each model’s configuration');
    if (this.models.some(model => model.threshold !== 0.5)) mark('0.5', this.thresholds.findIndex(value => value >= 0.5), '');
    if (this.models.some(model => model.chosen !== null)) {
      mark('near validation’s choice', 'chosen', 'the nearest of this page’s thresholds; the tables have the exact one');
    }
    const sort = this.get('sort');
    const add = (text, value) => sort.append(make('option', {value}, text));
    this.models.forEach((model, i) => this.labelled && add(`worst F1 first: ${model.name}`, `F1 ${i}`));
    if (this.labelled && this.models.length > 1) add('largest difference in F1 first', 'spread');
    this.models.forEach((model, i) => add(`most pixels found: ${model.name}`, `found ${i}`));
    add('name', 'name');
    if (!this.labelled) this.get('mode').value = 'overlay';
    this.explain();
  }

  // Show the legend of what is shown
  explain() {
    const {value} = this.get('mode');
    this.root.querySelectorAll('[data-mode]').forEach(element => {
      element.hidden = !element.dataset.mode.split(' ').includes(value);
    });
  }

  listen() {
    this.get('threshold').addEventListener('input', event => this.choose(event.target.valueAsNumber));
    this.root.querySelector('.marks').addEventListener('click', event => {
      const {choice} = event.target.dataset;
      if (choice) this.choose(/^\d/.test(choice) ? +choice : choice);
    });
    for (const name of ['search', 'change', 'below', 'sort']) {
      this.get(name)?.addEventListener('input', () => this.arrange());
    }
    this.get('mode').addEventListener('input', () => {
      this.explain();
      this.rows.forEach(row => row.visible && this.paint(row));
    });
    for (const name of ['left', 'right']) this.get(name).addEventListener('input', () => this.look());
    this.dialog = this.root.querySelector('dialog');
    this.get('close').addEventListener('click', () => this.dialog.close());
    this.get('previous').addEventListener('click', () => this.step(-1));
    this.get('next').addEventListener('click', () => this.step(1));
    this.dialog.addEventListener('keydown', event => {
      if (event.target.tagName !== 'SELECT') this.step({ArrowLeft: -1, ArrowRight: 1}[event.key] || 0);
    });
  }

  // Set one threshold for all models by its number, or each model's own, or the one that validation chose for it
  choose(choice) {
    this.choice = choice;
    this.get('threshold').value = this.level(0);
    this.arrange(false);
    this.rows.forEach(row => row.visible && this.paint(row));
    if (this.dialog.open) this.look();
  }

  // Number of the threshold in effect for a model; null is its own, which may lie between two steps, or the only one
  // where a map is missing
  index(model) {
    if (this.fixed[model]) return null;
    if (typeof this.choice === 'number') return this.choice;
    return this.choice === 'chosen' ? this.models[model].chosen_index : null;
  }

  counts(map, model) {
    return countsAt(map, this.index(model));
  }

  f1(pair, model) {
    const map = pair.maps[model];
    const counts = map ? this.counts(map, model) : [0, 0, 0, 0];
    return counts[0] + counts[2] ? scoresOf(counts).F1 : null;
  }

  found(pair, model) {
    const map = pair.maps[model];
    if (!map) return -1;
    const [tp, fp, fn, tn] = this.counts(map, model);
    return (tp + fp) / Math.max(1, tp + fp + fn + tn);
  }

  passes(pair) {
    if (!pair.name.toLowerCase().includes(this.get('search').value.toLowerCase())) return false;
    if (!this.labelled) return true;
    const map = pair.maps.find(Boolean), changed = map && map.counts[0] + map.counts[2] > 0;
    const {value} = this.get('change'), below = this.get('below').valueAsNumber;
    if (value && changed !== (value === 'with')) return false;
    return Number.isNaN(below) || pair.maps.some((_, i) => (this.f1(pair, i) ?? Infinity) < below);
  }

  // Filter and sort the pairs, and show the scores; the order stays while the threshold moves
  arrange(reorders = true) {
    this.filtered = this.pairs.filter(pair => this.passes(pair));
    if (reorders) {
      const [key, model] = this.get('sort').value.split(' ');
      const last = value => value ?? Infinity;
      const spread = pair => Math.max(0, ...pair.maps.map((_, i) => this.f1(pair, i)).filter(x => x !== null).map(
        (x, _, all) => Math.max(...all) - x));
      const value = {
        F1: pair => last(this.f1(pair, model)), spread: pair => -spread(pair), found: pair => -this.found(pair, model),
      }[key];
      this.keys = new Map(this.pairs.map(pair => [pair, value ? value(pair) : 0]));
    }
    this.filtered.sort((a, b) => (this.keys.get(a) > this.keys.get(b)) - (this.keys.get(a) < this.keys.get(b))
      || a.name.localeCompare(b.name, undefined, {numeric: true}));
    this.score();
    if (reorders || this.get('below')?.value) {
      const number = reorders ? 0 : this.shown;
      this.rows.forEach(row => this.observer.unobserve(row.element));
      this.rows.clear();
      this.list.replaceChildren();
      this.shown = 0;
      this.add(Math.max(20, number));
    } else {
      this.rows.forEach(row => this.caption(row));
    }
  }

  score() {
    const names = {own: 'as configured', chosen: 'near validation’s choice'};
    this.root.querySelector('output').textContent = names[this.choice] ?? thresholdText(this.thresholds[this.choice]);
    this.root.querySelectorAll('.marks button').forEach(button => button.setAttribute(
      'aria-pressed', String(button.dataset.choice === String(this.choice))));
    const body = this.root.querySelector('.bar tbody');
    const cell = (name, value) => make('td', {'data-score': name}, value);
    const percent = value => value.toFixed(2);
    const parts = this.models.map((model, i) => ['all', 'filtered'].map(part => totalAt(
      (part === 'all' ? this.pairs : this.filtered).map(pair => pair.maps[i]), this.index(i))));
    body.replaceChildren(...this.models.map((model, i) => {
      const [all, filtered] = parts[i];
      const index = this.index(i);
      const fixed = this.fixed[i] && this.choice !== 'own';
      const at = thresholdText(index === null ? model.threshold : this.thresholds[index]);
      const dot = make('span', {class: 'dot', style: `background: ${colourOf(i)}`});
      const row = make('tr', {'data-model': String(i)}, make('td', {title: model.name}, dot, model.name),
                       make('td', {class: 'optional'}, fixed ? `${at} (fixed)` : at));
      if (this.labelled) {
        for (const name of SCORES) row.append(cell(name, percent(scoresOf(all)[name])));
        row.append(cell('filtered', percent(scoresOf(filtered).F1)));
      } else {
        for (const counts of [all, filtered]) {
          row.append(cell('share', `${percent(100 * counts[1] / Math.max(1, counts[1] + counts[3]))} %`));
        }
      }
      return row;
    }));
    const highest = Math.max(...parts.map(([all]) => scoresOf(all).F1));
    if (this.labelled && this.models.length > 1) {
      body.querySelectorAll('[data-score=F1]').forEach((element, i) => element.classList.toggle(
        'best', scoresOf(parts[i][0]).F1 === highest));
    }
    const number = this.filtered.length;
    this.root.querySelector('.number').textContent = `${number} of ${this.pairs.length} pairs`;
  }

  add(number = 20) {
    for (const pair of this.filtered.slice(this.shown, this.shown + number)) {
      const row = buildRow(pair, this.pictures[pair.number] || {}, this.models, model => this.open(pair, model));
      this.rows.set(row.element, row);
      this.list.append(row.element);
      this.caption(row);
      this.observer.observe(row.element);
    }
    this.shown = Math.min(this.filtered.length, this.shown + number);
  }

  caption(row) {
    const {pair} = row, map = pair.maps.find(Boolean);
    if (!this.labelled) row.element.querySelector('header small').textContent = pair.note;
    if (this.labelled && map) {
      const changed = 100 * (map.counts[0] + map.counts[2]) / Math.max(1, map.counts.reduce((sum, x) => sum + x));
      row.element.querySelector('header small').textContent = changed ? `${changed.toFixed(2)} % changed` : 'no change';
    }
    row.captions.forEach((caption, i) => {
      const seen = pair.maps[i], dot = make('span', {class: 'dot', style: `background: ${colourOf(i)}`});
      if (!seen) return caption.replaceChildren(dot, this.models[i].name);
      const counts = this.counts(seen, i), scores = scoresOf(counts), text = name => scores[name].toFixed(1);
      const f1 = counts[0] + counts[2] ? text('F1') : '–';
      const lines = this.labelled ? [make('b', {}, `F1 ${f1}`), ` · P ${text('Precision')} · R ${text('Recall')}`]
        : [make('b', {}, `${(100 * this.found(pair, i)).toFixed(2)} %`), ' of the pixels changed'];
      if (this.labelled && seen.objects && this.choice === 'own') {
        const [hit, missed, falsely] = seen.objects;
        lines.push(make('br'), `objects: ${hit} hit, ${missed} missed, ${falsely} false`);
      }
      caption.replaceChildren(dot, this.models[i].name, make('br'), ...lines);
    });
  }

  seen({target, isIntersecting}) {
    const row = this.rows.get(target);
    if (!row) return;
    row.visible = isIntersecting;
    if (isIntersecting) this.paint(row);
  }

  level(model) {
    return this.index(model) ?? this.models[model].index;
  }

  paint(row) {
    const {pictures} = row, {value: mode} = this.get('mode');
    row.images.forEach((image, i) => {
      if (!image.src) image.src = pictures[`date${i + 1}`];
      image.addEventListener('load', () => {
        const ratio = `${image.naturalWidth} / ${image.naturalHeight}`;
        row.element.querySelectorAll('.picture').forEach(picture => { picture.style.aspectRatio = ratio; });
      }, {once: true});
    });
    row.canvases.forEach((canvas, i) => {
      if (!canvas) return;
      canvas.parentElement.style.backgroundImage = mode === 'overlay' && pictures.date2 ? `url(${pictures.date2})` : '';
      paintMap(canvas, pictures.maps[i], pictures.label, mode, this.level(i), this.thresholds);
    });
  }

  // Look closer at a pair: both dates, or the later date and the map of a model
  open(pair, model = null) {
    this.pair = pair;
    const sources = this.sources(pair), names = [...sources.keys()];
    for (const name of ['left', 'right']) this.get(name).replaceChildren(...names.map(text => make('option', {}, text)));
    this.get('left').value = model === null ? names[0] : sources.has('date 2') ? 'date 2' : names[0];
    this.get('right').value = model === null ? sources.has('date 2') ? 'date 2' : names.at(-1)
      : names.find(text => text.endsWith(`: ${this.models[model].name}`));
    if (!this.dialog.open) this.dialog.showModal();
    this.look();
  }

  sources(pair) {
    const pictures = this.pictures[pair.number], sources = new Map();
    for (const date of [1, 2]) {
      if (pictures[`date${date}`]) sources.set(`date ${date}`, canvas => paintPicture(canvas, pictures[`date${date}`]));
    }
    if (pictures.label && this.labelled) sources.set('label', canvas => paintLabel(canvas, pictures.label));
    const modes = this.labelled ? {errors: 'errors', map: 'map', probability: 'probability'}
      : {map: 'map', probability: 'probability'};
    for (const [mode, title] of Object.entries(modes)) {
      this.models.forEach((model, i) => pictures.maps?.[i] && sources.set(`${title}: ${model.name}`, canvas => paintMap(
        canvas, pictures.maps[i], pictures.label, mode, this.level(i), this.thresholds)));
    }
    return sources;
  }

  look() {
    const sources = this.sources(this.pair);
    this.dialog.querySelector('h3').textContent = this.pair.name;
    return this.stage.show(['left', 'right'].map(name => {
      const {value} = this.get(name);
      return [value, sources.get(value)];
    }));
  }

  step(by) {
    if (!by) return;
    const chosen = ['left', 'right'].map(name => this.get(name).value);
    let place = this.filtered.indexOf(this.pair) + by;
    while (this.filtered[place] && !this.sources(this.filtered[place]).size) place += by;
    const pair = this.filtered[place];
    if (!pair) return;
    this.open(pair);
    const sources = this.sources(pair);
    ['left', 'right'].forEach((name, side) => { if (sources.has(chosen[side])) this.get(name).value = chosen[side]; });
    this.look();
  }
}
