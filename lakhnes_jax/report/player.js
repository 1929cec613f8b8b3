'use strict';
const NOISE = 3;
const HEAD = 0.25;  // Where across the roll the playhead stands.
const reduced = matchMedia('(prefers-reduced-motion: reduce)');
const clock = s => Math.floor(s / 60) + ':' +
    String(Math.floor(s % 60)).padStart(2, '0');
let colour = {};
let current = null;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ['v0', 'v1', 'v2', 'v3', 'grid', 'dim', 'ink', 'accent'])
    colour[name] = style.getPropertyValue('--' + name).trim();
}

class Song {
  constructor(card) {
    this.card = card;
    this.seconds = Number(card.dataset.seconds);
    this.given = Number(card.dataset.given);  // Seconds not by the model.
    this.name = card.querySelector('h3').textContent;
    this.button = card.querySelector('.play');
    this.roll = card.querySelector('.roll');
    this.map = card.querySelector('.seek canvas');
    this.slider = card.querySelector('input');
    this.clock = card.querySelector('output');
    this.audio = card.querySelector('audio');
    this.at = 0;  // Seconds; rules until the audio is there.
    this.seen = false;
    this.wire();
  }

  wire() {
    this.button.addEventListener('click', () => this.toggle());
    this.slider.addEventListener('input', () => {
      select(this);
      this.seek(Number(this.slider.value));
    });
    if (this.audio) {
      this.audio.controls = false;
      this.audio.addEventListener('loadedmetadata', () => {
        if (Math.abs(this.audio.currentTime - this.at) > 0.01)
          this.audio.currentTime = this.at;
      });
      this.audio.addEventListener('play', () => this.showState());
      this.audio.addEventListener('pause', () => this.showState());
      this.audio.addEventListener('ended', () => {
        this.seek(0);
        const next = neighbour(1);
        if (document.getElementById('on').checked && next !== this) {
          select(next);
          next.play();
        }
      });
      this.audio.addEventListener('error', () => {
        this.button.disabled = true;
        const note = document.createElement('p');
        note.className = 'none';
        note.setAttribute('role', 'alert');
        note.textContent = 'The audio file cannot be played.';
        this.audio.after(note);
      });
    }
    // Dragging moves the roll under the playhead; a click goes to that place.
    let grip = null;
    this.roll.addEventListener('pointerdown', event => {
      if (event.button) return;
      grip = {x: event.clientX, from: this.time(), moved: false};
      this.roll.setPointerCapture(event.pointerId);
      select(this);
    });
    this.roll.addEventListener('pointermove', event => {
      if (!grip) return;
      const by = event.clientX - grip.x;
      grip.moved ||= Math.abs(by) > 4;
      if (grip.moved) this.seek(grip.from - by / this.scale());
    });
    this.roll.addEventListener('pointerup', event => {
      if (grip && !grip.moved) {
        const x = event.clientX - this.roll.getBoundingClientRect().left;
        this.seek(this.left() + x / this.scale());
      }
      grip = null;
    });
    this.roll.addEventListener('pointercancel', () => { grip = null; });
  }

  // Bars as typed arrays a voice; read when first drawn.
  notes() {
    if (this.bars) return this.bars;
    const data = JSON.parse(this.card.querySelector('script').textContent);
    this.low = 127;
    this.high = 0;
    this.bars = data.map((flat, voice) => {
      const n = flat.length / 4;
      const bars = {n, start: new Float64Array(n), end: new Float64Array(n),
                    note: new Uint8Array(n), level: new Uint8Array(n)};
      for (let i = 0, t = 0; i < n; i++) {
        t += flat[4 * i];
        bars.start[i] = t / 1000;
        bars.end[i] = (t + flat[4 * i + 1]) / 1000;
        bars.note[i] = flat[4 * i + 2];
        bars.level[i] = flat[4 * i + 3];
        if (voice < NOISE && flat[4 * i + 1] > 5) {
          this.low = Math.min(this.low, bars.note[i]);
          this.high = Math.max(this.high, bars.note[i]);
        }
      }
      return bars;
    });
    if (this.low > this.high) [this.low, this.high] = [48, 72];
    const missing = Math.max(0, 24 - (this.high - this.low));
    this.low -= 2 + Math.floor(missing / 2);
    this.high += 2 + Math.ceil(missing / 2);
    return this.bars;
  }

  time() {
    return this.audio && this.audio.readyState ? this.audio.currentTime
                                               : this.at;
  }

  seek(seconds) {
    this.at = Math.max(0, Math.min(seconds, this.seconds));
    if (this.audio && this.audio.readyState) this.audio.currentTime = this.at;
    this.draw();
  }

  play() {
    if (!this.audio || this.button.disabled) return;
    for (const song of songs) if (song !== this) song.pause();
    this.audio.play().catch(() => this.showState());
  }

  pause() { if (this.audio) this.audio.pause(); }

  toggle() {
    select(this);
    if (this.audio && !this.audio.paused) this.pause(); else this.play();
  }

  showState() {
    const playing = !this.audio.paused;
    this.card.classList.toggle('playing', playing);
    this.button.setAttribute('aria-label',
                             (playing ? 'Pause ' : 'Play ') + this.name);
    if (playing) requestAnimationFrame(() => this.frame());
  }

  frame() {
    this.draw();
    if (!this.audio.paused) requestAnimationFrame(() => this.frame());
  }

  // Pixels per second.
  scale() { return Math.max(60, Math.min(130, this.roll.clientWidth / 7)); }

  // Time at the left edge. Without motion the roll turns pages instead.
  left() {
    const span = this.roll.clientWidth / this.scale();
    if (reduced.matches) return Math.floor(this.time() / span) * span;
    return this.time() - HEAD * span;
  }

  draw() {
    const now = this.time();
    this.slider.value = now;
    this.slider.setAttribute('aria-valuetext',
                             clock(now) + ' of ' + clock(this.seconds));
    this.clock.textContent = clock(now);
    if (this.seen) this.drawRoll(now);
  }

  drawRoll(now) {
    const bars = this.notes();
    const [g, width, height] = prepare(this.roll);
    const scale = this.scale(), left = this.left();
    const strip = Math.max(28, height * 0.17);  // Of noise.
    const floor = height - strip;
    const row = floor / (this.high - this.low + 1);
    const x = t => (t - left) * scale;
    const y = note => (this.high - note) * row;
    // Nothing is before the start and after the end.
    g.fillStyle = colour.grid;
    g.fillRect(0, 0, x(0), height);
    if (x(this.seconds) < width)
      g.fillRect(x(this.seconds), 0, width - x(this.seconds), height);
    g.font = '11px system-ui, sans-serif';
    g.textBaseline = 'alphabetic';
    g.lineWidth = 1;
    g.strokeStyle = colour.grid;
    g.fillStyle = colour.dim;
    g.beginPath();
    const until = Math.min(left + width / scale, this.seconds);
    for (let s = Math.max(0, Math.ceil(left)); s <= until; s++) {
      g.moveTo(Math.round(x(s)) + 0.5, 0);
      g.lineTo(Math.round(x(s)) + 0.5, height);
    }
    for (let c = Math.ceil(this.low / 12) * 12; c <= this.high; c += 12) {
      const line = Math.round(y(c) + row / 2) + 0.5;
      g.moveTo(0, line);
      g.lineTo(width, line);
      g.fillText('C' + (c / 12 - 1), 4, line - 3);
    }
    g.stroke();
    g.strokeStyle = colour.dim;
    g.beginPath();
    g.moveTo(0, Math.round(floor) + 0.5);
    g.lineTo(width, Math.round(floor) + 0.5);
    g.stroke();
    for (let voice = 0; voice < 4; voice++) {
      const b = bars[voice];
      g.fillStyle = colour['v' + voice];
      for (let i = after(b.end, left); i < b.n; i++) {
        if (b.start[i] > left + width / scale) break;
        const level = voice === 2 ? 1 : 0.35 + 0.65 * (b.level[i] & 15) / 15;
        const sounds = b.start[i] <= now && now < b.end[i];
        const alpha = level * (b.end[i] <= now ? 0.4 : sounds ? 1 : 0.8);
        const from = x(b.start[i]);
        const wide = Math.max(1.5, (b.end[i] - b.start[i]) * scale);
        g.globalAlpha = alpha;
        if (voice === NOISE) {
          const tall = strip * (0.25 + 0.6 * b.note[i] / 16);
          g.globalAlpha = alpha * 0.35;
          g.fillRect(from, height - tall - 2, wide, tall);
          g.globalAlpha = alpha;
          if (b.level[i] > 15) g.fillRect(from, height - tall - 2, 2.5, tall);
        } else {
          const gap = b.level[i] > 15 && wide > 3 ? 1 : 0;
          const tall = Math.max(3, row * 0.9);
          const top = y(b.note[i]) + (row - tall) / 2;
          g.fillRect(from + gap, top, wide - gap, tall);
          if (sounds) {
            g.globalAlpha = 1;
            g.strokeStyle = colour.ink;
            g.strokeRect(from + 0.5, top - 0.5, wide, tall + 1);
          }
        }
      }
    }
    g.globalAlpha = 1;
    g.fillStyle = colour.ink;
    g.fillRect(Math.round(x(now)) - 1, 0, 2, height);
    if (this.given) {
      const line = Math.round(x(this.given)) + 0.5;
      g.strokeStyle = g.fillStyle = colour.accent;
      g.setLineDash([5, 4]);
      g.beginPath();
      g.moveTo(line, 0);
      g.lineTo(line, height);
      g.stroke();
      g.setLineDash([]);
      g.textAlign = 'right';
      g.fillText('given', line - 5, 12);
      g.textAlign = 'left';
      g.fillText('new', line + 5, 12);
    }
  }

  // The whole song, small, behind the slider.
  drawMap() {
    const bars = this.notes();
    const [g, width, height] = prepare(this.map);
    const inner = width - 4, scale = inner / Math.max(this.seconds, 0.001);
    const row = (height - 6) / (this.high - this.low + 1);
    g.globalAlpha = 0.6;
    for (let voice = 0; voice < NOISE; voice++) {
      g.fillStyle = colour['v' + voice];
      const b = bars[voice];
      for (let i = 0; i < b.n; i++)
        g.fillRect(2 + b.start[i] * scale, 3 + (this.high - b.note[i]) * row,
                   Math.max(1, (b.end[i] - b.start[i]) * scale),
                   Math.max(1.5, row));
    }
  }
}

// Fits a canvas to its place on the screen and empties it.
function prepare(canvas) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const w = Math.round(width * ratio), h = Math.round(height * ratio);
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  const g = canvas.getContext('2d');
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return [g, width, height];
}

// Index of the first of ascending values above a limit.
function after(values, limit) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > limit) high = middle; else low = middle + 1;
  }
  return low;
}

function select(song) {
  if (current === song) return;
  if (current) current.card.removeAttribute('aria-current');
  current = song;
  song.card.setAttribute('aria-current', 'true');
}

function neighbour(step) {
  const i = songs.indexOf(current) + step;
  return songs[Math.max(0, Math.min(i, songs.length - 1))];
}

readColours();
const songs = [];  // In the order of the page.
const byCard = new Map();

// Songs are drawn when they come near the screen.
const near = new IntersectionObserver(entries => {
  for (const entry of entries) {
    const song = byCard.get(entry.target);
    const fresh = entry.isIntersecting && !song.seen;
    song.seen = entry.isIntersecting;
    if (fresh) { song.draw(); song.drawMap(); }
  }
}, {rootMargin: '300px'});

// Takes up a card of the page, before the others or after them.
function addSong(card, first = false) {
  const song = new Song(card);
  byCard.set(card, song);
  if (first) songs.unshift(song); else songs.push(song);
  if (!current) select(song);
  near.observe(card);
}

// Takes a card off the page.
function removeSong(card) {
  const song = byCard.get(card);
  song.pause();
  near.unobserve(card);
  if (current === song) {
    const other = [neighbour(1), neighbour(-1)].find(next => next !== song);
    if (other) select(other); else current = null;
  }
  songs.splice(songs.indexOf(song), 1);
  byCard.delete(card);
  card.remove();
}

document.querySelectorAll('article').forEach(card => addSong(card));

function redraw() {
  readColours();
  for (const song of songs)
    if (song.seen) { song.draw(); song.drawMap(); }
}
let waiting = 0;
addEventListener('resize', () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(redraw);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
reduced.addEventListener('change', redraw);

document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey || !current) return;
  const slider = event.target.type === 'range';
  const control = event.target.closest('button, a, summary, [type=checkbox]');
  if (event.target.closest('input, select') && !slider && !control) return;
  if (event.key === ' ' && !control) {
    event.preventDefault();
    current.toggle();
  } else if ((event.key === 'ArrowRight' || event.key === 'ArrowLeft') &&
             !slider) {
    event.preventDefault();
    const step = event.key === 'ArrowRight' ? 1 : -1;
    if (event.shiftKey) {
      current.seek(current.time() + 2 * step);
      return;
    }
    const next = neighbour(step);
    if (next === current) return;
    const playing = current.audio && !current.audio.paused;
    current.pause();
    select(next);
    next.card.focus({preventScroll: true});
    next.card.scrollIntoView({
      block: 'center', behavior: reduced.matches ? 'auto' : 'smooth'});
    if (playing) next.play();
  }
});
