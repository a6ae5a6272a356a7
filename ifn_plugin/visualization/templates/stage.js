// Two pictures of a pair in one place: swipe between them, zoom by wheel or fingers, pan by dragging
class Stage {
  constructor(element) {
    this.element = element;
    this.canvases = [...element.querySelectorAll('canvas')];
    this.names = [...element.querySelectorAll('.name')];
    this.grip = element.querySelector('.grip');
    this.at = 0.5;
    this.pointers = new Map();
    element.addEventListener('wheel', event => this.wheel(event), {passive: false});
    element.addEventListener('pointerdown', event => this.press(event));
    element.addEventListener('pointermove', event => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) {
      element.addEventListener(name, event => this.pointers.delete(event.pointerId));
    }
    element.addEventListener('dblclick', () => this.fit());
    this.grip.addEventListener('keydown', event => {
      const step = {ArrowLeft: -0.02, ArrowRight: 0.02}[event.key];
      if (step) { this.swipe(this.at + step); event.stopPropagation(); }
    });
    new ResizeObserver(() => this.width && this.fit()).observe(element);
  }

  // Show two sources, each a name and a function that paints a canvas
  async show(sources) {
    await Promise.all(sources.map(([name, paint], side) => {
      this.names[side].textContent = name;
      return paint(this.canvases[side]);
    }));
    const {width, height} = this.canvases[0];
    const fits = width !== this.width || height !== this.height;
    [this.width, this.height] = [width, height];
    if (fits) this.fit(); else this.place();
  }

  fit() {
    const {clientWidth, clientHeight} = this.element;
    this.scale = Math.min(clientWidth / this.width, clientHeight / this.height);
    this.x = (clientWidth - this.scale * this.width) / 2;
    this.y = (clientHeight - this.scale * this.height) / 2;
    this.place();
  }

  zoom(factor, x, y) {
    const scale = Math.min(40, Math.max(0.1, this.scale * factor));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.place();
  }

  swipe(share) {
    this.at = Math.min(1, Math.max(0, share));
    this.place();
  }

  place() {
    const line = this.at * this.element.clientWidth;
    this.element.style.setProperty('--at', `${100 * this.at}%`);
    // both are of one size on the screen, even if the pictures' files are not
    this.canvases.forEach((canvas, side) => {
      const scale = this.scale * this.width / canvas.width;
      canvas.style.transform = `translate(${this.x}px, ${this.y}px) scale(${scale})`;
      canvas.classList.toggle('sharp', scale > 2 && !canvas.photo);
      const cut = (line - this.x) / scale;
      canvas.style.clipPath = side ? `inset(0 0 0 ${Math.max(0, cut)}px)`
        : `inset(0 ${Math.max(0, canvas.width - cut)}px 0 0)`;
    });
  }

  wheel(event) {
    event.preventDefault();
    const {left, top} = this.element.getBoundingClientRect();
    this.zoom(Math.exp(-event.deltaY / 400), event.clientX - left, event.clientY - top);
  }

  press(event) {
    this.element.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, {x: event.clientX, y: event.clientY, swipes: event.target === this.grip});
  }

  move(event) {
    const former = this.pointers.get(event.pointerId);
    if (!former) return;
    const {left, top, width} = this.element.getBoundingClientRect();
    const now = {...former, x: event.clientX, y: event.clientY};
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    if (former.swipes) {
      this.swipe((now.x - left) / width);
    } else if (other) {
      const distance = point => Math.hypot(point.x - other.x, point.y - other.y) || 1;
      this.zoom(distance(now) / distance(former), (now.x + other.x) / 2 - left, (now.y + other.y) / 2 - top);
    } else {
      this.x += now.x - former.x;
      this.y += now.y - former.y;
      this.place();
    }
  }
}
