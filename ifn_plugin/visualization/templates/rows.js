function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && typeof value !== 'string') element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Build the row of a pair: its dates, and its map of each model; look is called with the model whose map is clicked
function buildRow(pair, pictures, models, look) {
  const dates = make('figure');
  if (pictures.date1) {
    const swipe = make('input', {type: 'range', min: '0', max: '100', value: '50', 'aria-label':
                                 `${pair.name}: swipe between date 1 and date 2`});
    const place = make('div', {class: 'picture swipe'}, make('img', {alt: 'date 1'}),
                       make('img', {alt: 'date 2', class: 'later'}), swipe);
    swipe.addEventListener('input', () => place.style.setProperty('--at', `${swipe.value}%`));
    dates.append(place, make('figcaption', {}, 'date 1 | date 2: drag to swipe'));
  } else {
    dates.append(make('div', {class: 'picture none'}, pair.note || 'no pictures of this pair in this page'));
  }
  const open = make('button', {type: 'button'}, 'look closer');
  open.addEventListener('click', () => look(null));
  open.hidden = !pictures.date1 && !pictures.maps?.some(Boolean);
  const maps = models.map((model, i) => {
    const has = pictures.maps?.[i];
    const picture = has ? make('div', {class: 'picture'}, make('canvas', {role: 'img', 'aria-label':
      `${pair.name}: map of ${model.name}`})) : make('div', {class: 'picture none'}, pair.maps[i] ? 'no map' : 'not tested');
    if (has) picture.addEventListener('click', () => look(i));
    return make('figure', {'data-model': String(i)}, picture, make('figcaption'));
  });
  const element = make('article', {class: 'pair', 'data-name': pair.name}, make(
    'header', {}, make('h3', {title: pair.files.join('\n')}, pair.name), make('small', {}), open), dates, ...maps);
  return {pair, pictures, element, visible: false, canvases: maps.map(figure => figure.querySelector('canvas')),
          captions: maps.map(figure => figure.querySelector('figcaption')), images: [...dates.querySelectorAll('img')]};
}
