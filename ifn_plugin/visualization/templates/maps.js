// Drawing of maps from their levels
const COLOURS = {hit: [255, 255, 255], falseAlarm: [213, 94, 0], miss: [86, 180, 233], ignored: [128, 128, 128]};
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const rgba = ([red, green, blue], alpha = 255) => (alpha << 24 | blue << 16 | green << 8 | red) >>> 0;

function viridis(share) {
  const place = Math.min(share, 0.9999) * (VIRIDIS.length - 1), first = Math.floor(place);
  return VIRIDIS[first].map((low, i) => Math.round(low + (place - first) * (VIRIDIS[first + 1][i] - low)));
}

// Values of a grey picture, which are its red channel
const decoded = new Map();
function decode(url) {
  if (!decoded.has(url)) {
    decoded.set(url, (async () => {
      const image = await loadImage(url);
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext('2d', {willReadFrequently: true});
      context.drawImage(image, 0, 0);
      const {data, width, height} = context.getImageData(0, 0, canvas.width, canvas.height);
      const values = new Uint8Array(width * height);
      for (let i = 0; i < values.length; i++) values[i] = data[4 * i];
      return {values, width, height};
    })());
    if (decoded.size > 64) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(url);
}

async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

// Colour of each level, for pixels labelled unchanged, changed, and ignored
function palette(mode, index, thresholds) {
  const colours = new Uint32Array(768);
  const black = rgba([0, 0, 0]), clear = 0;
  for (let level = 0; level < 256; level++) {
    const found = level > index;
    if (mode === 'probability') {
      const low = level ? thresholds[level - 1] ?? 1 : 0, high = level < thresholds.length ? thresholds[level] : 1;
      for (const label of [0, 256, 512]) colours[label + level] = rgba(viridis((low + high) / 2));
    } else if (mode === 'map') {
      for (const label of [0, 256, 512]) colours[label + level] = found ? rgba(COLOURS.hit) : black;
    } else {
      const over = mode === 'overlay', alpha = over ? 170 : 255;
      colours[level] = found ? rgba(COLOURS.falseAlarm, alpha) : over ? clear : black;
      colours[256 + level] = found ? rgba(COLOURS.hit, alpha) : rgba(COLOURS.miss, alpha);
      colours[512 + level] = over ? rgba(COLOURS.ignored, 90) : rgba(COLOURS.ignored);
    }
  }
  return colours;
}

// Draw the map of a model at a level, in one of the modes errors, overlay, map and probability
async function paintMap(canvas, map, label, mode, index, thresholds) {
  canvas.photo = false;
  const ticket = canvas.ticket = {};
  const [levels, truth] = await Promise.all([decode(map), label ? decode(label) : null]);
  if (canvas.ticket !== ticket) return; // a later call has overtaken this one
  const colours = palette(mode, index, thresholds);
  const pixels = new Uint32Array(levels.values.length);
  for (let i = 0; i < pixels.length; i++) {
    const side = truth ? Math.min(truth.values[i], 2) : 0;
    pixels[i] = colours[256 * side + levels.values[i]];
  }
  canvas.width = levels.width;
  canvas.height = levels.height;
  canvas.getContext('2d').putImageData(
    new ImageData(new Uint8ClampedArray(pixels.buffer), levels.width, levels.height), 0, 0);
}

async function paintPicture(canvas, url) {
  const ticket = canvas.ticket = {};
  const image = await loadImage(url);
  if (canvas.ticket !== ticket) return;
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  canvas.getContext('2d').drawImage(image, 0, 0);
  canvas.photo = true;
}

async function paintLabel(canvas, url) {
  canvas.photo = false;
  const ticket = canvas.ticket = {};
  const {values, width, height} = await decode(url);
  if (canvas.ticket !== ticket) return;
  const colours = [rgba([0, 0, 0]), rgba(COLOURS.hit), rgba(COLOURS.ignored)];
  const pixels = Uint32Array.from(values, value => colours[Math.min(value, 2)]);
  canvas.width = width;
  canvas.height = height;
  canvas.getContext('2d').putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
}
