"""How fast songs become audio: `python -m experiments.benchmarks.render`.

Prints one JSON object. Rates are seconds of audio per second (`wall`), and per
second of CPU time of all threads (`cpu`): on a machine that does other work
too, twice the latter is what two idle cores would do.
"""

import argparse
import json
import os
import pathlib
import resource
import sys
import tempfile
import time

import numpy as np


def song(seed: int, seconds: int) -> np.ndarray:
  """Draws a song as dense as those of NES-MDB, 57 events a second."""
  from lakhnes_jax import events as ev
  rng = np.random.default_rng(seed)
  times, told = [], []
  frame = ev.SAMPLE_RATE // 60
  for voice, (_, _, velocities, _) in enumerate(ev.VOICES):
    onsets = np.arange(0, seconds * 60 - 6, int(rng.integers(6, 16)))
    low, high = (1, 17) if voice == ev.NO else (40, 97)
    notes = rng.integers(low, high, len(onsets))
    for onset, note in zip(onsets.tolist(), notes.tolist(), strict=True):
      times.append(onset * frame + voice)
      told.append(ev.event(voice, ev.NOTEON, note))
      for i, level in enumerate((12, 9, 7) if velocities else ()):
        times.append((onset + 2 * i) * frame + voice)
        told.append(ev.event(voice, ev.VELOCITY, level))
  order = np.argsort(times, kind='stable')
  return ev.from_times(np.array(times)[order], np.array(told)[order],
                       seconds * ev.SAMPLE_RATE)


def _rate(seconds: float, work, repeats: int) -> dict[str, float]:
  """Best of `repeats` runs after one that compiles."""
  work()
  walls, cpus = [], []
  for _ in range(repeats):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
  return {'wall': round(seconds / min(walls), 1),
          'cpu': round(seconds / min(cpus), 1)}


def _to_int16(pieces) -> list[np.ndarray]:
  return [np.rint(piece * 32768).astype(np.int16) for piece in pieces]


def measure(stages: list[str], seconds: int = 60,
            repeats: int = 5) -> dict[str, object]:
  """Runs stages: single, batch, arrays, reference, command, hour, shapes."""
  import jax

  from lakhnes_jax import apu, files, registers, render, tracks
  from lakhnes_jax import score as scores
  result = {'load': os.getloadavg()[0], 'cores': os.cpu_count(),
            'jax': jax.__version__, 'device': str(jax.devices()[0])}
  songs = [song(seed, seconds) for seed in range(8)]
  played = [scores.from_events(s) for s in songs]

  def clean(score):
    log = registers.from_score(score, low_notes=True)
    seg = apu.from_tracks(*tracks.play(log))
    return _to_int16(apu.windows(seg, score.length))

  if 'single' in stages:
    result['single'] = _rate(seconds, lambda: clean(played[0]), repeats)
  if 'batch' in stages:
    result['batch'] = _rate(8 * seconds, lambda: [clean(s) for s in played],
                            repeats)
  if 'arrays' in stages:  # The documented function, jitted, on arrays.
    size = tracks.bucket(max(len(s.start) for s in played) + 1)
    start, state = scores.pad(played, size)
    count = 1 << 16

    def arrays():
      for first in range(0, played[0].length, count):
        np.rint(np.asarray(apu.render(start, state, first, count=count)) *
                32768).astype(np.int16)

    result['arrays'] = _rate(8 * seconds, arrays, repeats)
  if 'reference' in stages:
    log = registers.from_score(played[0])
    result['reference'] = _rate(
        seconds, lambda: list(render.windows(log, 'reference')), repeats)
  if 'command' in stages:
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'a.mid'
      files.write_song(path, songs[0])

      def command():
        audio, = render.render_events([files.read_song(path)])
        render.write_audio(path.with_suffix('.wav'), audio)

      result['command'] = _rate(seconds, command, repeats)
  if 'hour' in stages:
    long = registers.from_score(scores.from_events(
        np.tile(songs[0], 3600 // seconds)))
    began = time.perf_counter()
    for engine in render.ENGINES:
      for _ in render.windows(long, engine):
        pass
    unit = 1024 if sys.platform == 'darwin' else 1
    result['hour'] = {
        'wall': round(time.perf_counter() - began, 1),
        'peak_mb': resource.getrusage(
            resource.RUSAGE_SELF).ru_maxrss // 1024 // unit}
  if 'shapes' in stages:
    rng = np.random.default_rng(0)
    apu.render_windows.clear_cache()
    for seed, length in enumerate(rng.integers(1, 30, 200).tolist()):
      clean(scores.from_events(song(seed, length)))
    result['shapes'] = apu.render_windows._cache_size()
  result['load_after'] = os.getloadavg()[0]
  return result


STAGES = ('single', 'batch', 'arrays', 'reference', 'command', 'hour', 'shapes')


def main(argv: list[str] | None = None):
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.render', description=__doc__)
  parser.add_argument('--stages', default=','.join(STAGES),
                      help='comma-separated, of ' + ', '.join(STAGES))
  parser.add_argument('--seconds', type=int, default=60, help='of each song')
  parser.add_argument('--out', type=pathlib.Path, help='JSON file to write')
  args = parser.parse_args(argv)
  stages = args.stages.split(',')
  if set(stages) - set(STAGES):
    parser.error(f'--stages={args.stages}: stages are {", ".join(STAGES)}')
  result = json.dumps(measure(stages, args.seconds))
  print(result)
  if args.out:
    args.out.write_text(result + '\n')


if __name__ == '__main__':
  main()
