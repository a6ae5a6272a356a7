// Both dates side by side on a map, with the changes over them at any threshold
const CHANGED = [213, 94, 0];
const PROBABLE = [[255, 255, 178], [253, 141, 60], [189, 0, 38]];

// Tiles whose files exist; for others, none is asked for
const TileFiles = L.TileLayer.extend({
  getTileUrl({z, x, y}) {
    return this.options.present.has(`${z}/${x}/${y}`) ? `tiles/${this.options.name}/${z}/${x}/${y}.webp`
      : L.Util.emptyImageUrl;
  },
});

// Colour each value of the tiles, which a script may not read from files, by a filter
function colourValues(id, colourOf) {
  const channels = Array.from({length: 256}, (_, value) => colourOf(value).map(part => (part / 255).toFixed(4)));
  document.getElementById(id).querySelectorAll('feComponentTransfer > *').forEach((element, i) => {
    element.setAttribute('tableValues', channels.map(parts => parts[i]).join(' '));
  });
}

function mix(colours, share) {
  const place = Math.min(share, 0.9999) * (colours.length - 1), first = Math.floor(place);
  return colours[first].map((low, i) => low + (place - first) * (colours[first + 1][i] - low));
}

class ChangeMap {
  constructor(data) {
    this.data = data;
    this.get = name => document.querySelector(`[name=${name}]`);
    this.stage = document.querySelector('.stage');
    this.at = 0.5;
    this.build();
    colourValues('probability', value => [
      ...mix(PROBABLE, value / data.steps), 255 * Math.min(1, 1.4 * value / data.steps)]);
    this.get('threshold').value = data.own;
    this.get('threshold').addEventListener('input', () => this.choose());
    for (const name of ['mode', 'opacity']) this.get(name).addEventListener('input', () => this.show());
    this.choose();
    this.show();
    this.listen();
    this.swipe(this.at);
  }

  build() {
    const {data} = this, finest = data.levels - 1;
    const point = (x, y) => L.CRS.Simple.pointToLatLng(L.point(x / data.shrink, y / data.shrink), finest);
    const bounds = L.latLngBounds(point(0, 0), point(data.width, data.height));
    // distances are those of the rasters' coordinates
    const unit = data.metres * data.shrink * 2 ** finest;
    const crs = {...L.CRS.Simple, distance: (...ends) => unit * L.CRS.Simple.distance(...ends)};
    const map = this.map = L.map('map', {crs, attributionControl: false, zoomControl: false, minZoom: -2,
                                         maxZoom: finest + 4, zoomSnap: 0.25, maxBounds: bounds.pad(0.5)});
    const missing = document.querySelector('[data-missing]');
    this.panes = ['date1', 'date2', 'probability'].map((name, order) => {
      const pane = map.createPane(name);
      pane.style.zIndex = 200 + order;
      new TileFiles('', {name, pane: name, present: new Set(data.tiles), tileSize: data.side, bounds, minZoom: -2,
                         minNativeZoom: 0, maxNativeZoom: finest, maxZoom: finest + 4,
                         className: order === 2 ? 'levels' : ''}).on(
                           'tileerror', () => { missing.hidden = false; }).addTo(map);
      return pane;
    });
    L.control.zoom({position: 'bottomright'}).addTo(map);
    if (unit) L.control.scale({imperial: false}).addTo(map);
    map.on('move zoom viewreset resize', () => this.swipe(this.at));
    map.on('zoomend', () => this.panes[2].classList.toggle('sharp', map.getZoom() > finest + 1));
    map.on('mousemove', ({latlng}) => this.tell(L.CRS.Simple.latLngToPoint(latlng, finest).multiplyBy(data.shrink)));
    map.on('mouseout', () => this.tell(null));
    map.fitBounds(L.latLngBounds(point(...data.first), point(...data.last.map(last => last + 1))));
    new ResizeObserver(() => map.invalidateSize()).observe(this.stage);
  }

  // Show the changes at the threshold, and their share
  choose() {
    const {counts, steps, own, threshold} = this.data, step = Number(this.get('threshold').value);
    colourValues('changes', value => [...CHANGED, value > step ? 255 : 0]);
    const found = counts.reduce((sum, number, value) => sum + (value > step ? number : 0), 0);
    // the counts are of rounded probabilities
    const share = step === own ? this.data.share : found / counts.reduce((sum, number) => sum + number);
    document.querySelector('output').textContent = step === own ? `${+threshold.toPrecision(4)}`
      : ((step + 0.5) / steps).toFixed(3);
    document.querySelector('[data-score=share]').textContent = `${(100 * share).toFixed(2)} % changed`;
  }

  show() {
    const {value: mode} = this.get('mode');
    this.panes[2].style.display = mode ? '' : 'none';
    this.panes[2].style.opacity = this.get('opacity').value;
    this.stage.style.setProperty('--levels', mode ? `url(#${mode})` : 'none');
    document.querySelectorAll('[data-mode]').forEach(element => { element.hidden = element.dataset.mode !== mode; });
  }

  // Say where the pointer is
  tell(place) {
    const {transform: [a, b, c, d, e, f], crs, width, height} = this.data;
    const inside = place && place.x >= 0 && place.y >= 0 && place.x < width && place.y < height;
    const digits = Math.hypot(a, d) < 1e-2 ? 6 : 1;
    document.querySelector('[data-place]').textContent = !inside ? '' : crs
      ? `${crs}: ${(a * place.x + b * place.y + c).toFixed(digits)}, ${(d * place.x + e * place.y + f).toFixed(digits)}`
      : `column ${Math.floor(place.x)}, row ${Math.floor(place.y)}`;
  }

  swipe(share) {
    this.at = Math.min(1, Math.max(0, share));
    this.stage.style.setProperty('--at', `${100 * this.at}%`);
    // panes have no size, and move with the map: the edges are those of the window, in the map's pixels
    const {x: width, y: height} = this.map.getSize(), corner = this.map.containerPointToLayerPoint([0, 0]);
    const clip = (left, right) => {
      const [west, east] = [left, right].map(part => corner.x + part * width), south = corner.y + height;
      return `polygon(${west}px ${corner.y}px, ${east}px ${corner.y}px, ${east}px ${south}px, ${west}px ${south}px)`;
    };
    this.panes[0].style.clipPath = clip(0, this.at);
    this.panes[1].style.clipPath = clip(this.at, 1);
  }

  listen() {
    const grip = document.querySelector('.grip');
    grip.addEventListener('pointerdown', event => grip.setPointerCapture(event.pointerId));
    grip.addEventListener('pointermove', event => {
      const {left, width} = this.stage.getBoundingClientRect();
      if (grip.hasPointerCapture(event.pointerId)) this.swipe((event.clientX - left) / width);
    });
    grip.addEventListener('keydown', ({key}) => {
      const step = {ArrowLeft: -0.02, ArrowRight: 0.02}[key];
      if (step) this.swipe(this.at + step);
    });
  }
}

function drawMap(data) {
  window.viewer = new ChangeMap(data);
}
