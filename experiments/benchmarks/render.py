"""How fast songs become audio: `python -m experiments.benchmarks.render`.

The last line is JSON, a list of cases. Rates are seconds of audio a second, and
(`per_cpu_second`) a second of CPU time of all threads: on a machine that does
other work too, twice the latter is what two idle cores would do. `ratio` is to
the original: its C player alone or, for `command`, all of nesmdb's way from a
MIDI file to audio.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

import numpy as np

from experiments.benchmarks import machine
from lakhnes_jax import command_line, nes, render
from lakhnes_jax import events as ev
from lakhnes_jax.formats import song_files
from lakhnes_jax.synth import score as scores


def song(seed: int, seconds: int) -> np.ndarray:
  """Draws a song as dense as those of NES-MDB, 57 events per second."""
  rng = np.random.default_rng(seed)
  times, events = [], []
  frame = nes.FRAME_60HZ
  for voice, (_, _, velocities, _) in enumerate(ev.VOICES):
    onsets = np.arange(0, seconds * 60 - 6, int(rng.integers(6, 16)))
    low, high = (1, 17) if voice == ev.NO else (40, 97)
    notes = rng.integers(low, high, len(onsets))
    for onset, note in zip(onsets.tolist(), notes.tolist(), strict=True):
      times.append(onset * frame + voice)
      events.append(ev.event(voice, ev.NOTEON, note))
      for i, level in enumerate((12, 9, 7) if velocities else ()):
        times.append((onset + 2 * i) * frame + voice)
        events.append(ev.event(voice, ev.VELOCITY, level))
  order = np.argsort(times, kind='stable')
  return ev.from_times(np.array(times)[order], np.array(events)[order],
                       seconds * ev.SAMPLE_RATE)


# Seconds of audio a second, on such a machine.
PLAYER, NESMDB = 53., 1.65


def _rate(case: str, seconds: float, work, repeats: int,
          original: float = PLAYER) -> dict[str, object]:
  """Times `repeats` runs after one that compiles."""
  work()
  walls, cpus = [], []
  for _ in range(repeats):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    walls.append(time.perf_counter() - wall)
    cpus.append(time.process_time() - cpu)
  rate = machine.summary(seconds, walls)
  return {'case': case, 'audio_seconds_per_second': rate,
          'per_cpu_second': machine.summary(seconds, cpus)['median'],
          'ratio': rate['median'] / original}


def _to_int16(pieces) -> list[np.ndarray]:
  return [np.rint(piece * 32768).astype(np.int16) for piece in pieces]


def measure(stages: list[str], seconds: int = 60,
            repeats: int = 9) -> list[dict[str, object]]:
  """Runs stages: single, batch, log, reference, command, hour, shapes."""
  import jax
  from jax import numpy as jnp

  from lakhnes_jax.synth import channels, clean, oscillators, registers
  results = [machine.describe()]
  songs = [song(seed, seconds) for seed in range(8)]
  played = [scores.from_events(s) for s in songs]
  log = registers.from_score(played[0])

  if 'single' in stages:
    results.append(_rate(
        'single', seconds, lambda: _to_int16(render.windows(played[0])),
        repeats))
  if 'batch' in stages:  # A thread a core, each with its share of the songs.
    size = channels.padded_size(max(len(s.start) for s in played) + 1)
    start, state = scores.pad(played, size)
    shares = np.array_split(np.arange(len(played)), os.cpu_count() or 1)

    @jax.jit
    def batch(start, state):
      audio = clean.render(start, state, count=seconds * render.SAMPLE_RATE)
      return jnp.round(audio * 32768).astype(jnp.int16)

    def batches():
      return list(channels.prefetch_map(
          lambda share: np.asarray(batch(start[share], state[share])), shares))

    results.append(_rate('batch', 8 * seconds, batches, repeats))
  if 'log' in stages:  # Control units and all.
    results.append(_rate(
        'log', seconds, lambda: _to_int16(render.windows(log)), repeats))
  if 'reference' in stages:
    results.append(_rate(
        'reference', seconds, lambda: list(render.windows(log, 'reference')),
        repeats))
  if 'command' in stages:
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(folder) / 'a.mid'
      song_files.write_song(path, songs[0])

      def command():
        audio, = render.render_events([song_files.read_song(path)])
        render.write_audio(path.with_suffix('.wav'), audio)

      results.append(_rate('command', seconds, command, repeats, NESMDB))
  if 'hour' in stages:
    long = np.tile(songs[0], 3600 // seconds)
    began = time.perf_counter()
    for engine in render.ENGINES:
      for _ in render.windows(render.to_source(long, engine), engine):
        pass
    results.append({'case': 'an hour by both engines', 'hour_seconds':
                    machine.spread([time.perf_counter() - began]),
                    'peak_memory': machine.peak_memory()})
  if 'shapes' in stages:
    rng = np.random.default_rng(0)
    programs = clean.render_windows, oscillators.segments_jit
    for program in programs:
      program.clear_cache()
    for seed, length in enumerate(rng.integers(1, 30, 200).tolist()):
      _to_int16(render.windows(scores.from_events(song(seed, length))))
    results.append({
        'case': '200 lengths', 'programs_compiled': machine.spread(
            [sum(program._cache_size() for program in programs)])})
  return [*results, {'load_after': os.getloadavg()[0]}]


STAGES = ('single', 'batch', 'log', 'reference', 'command', 'hour', 'shapes')


def main(argv: list[str] | None = None):
  parser = argparse.ArgumentParser(
      prog='python -m experiments.benchmarks.render', description=__doc__)
  parser.add_argument('--stages', default=','.join(STAGES),
                      help='comma-separated, of ' + ', '.join(STAGES))
  parser.add_argument('--seconds', type=command_line.whole(1, 3600), default=60,
                      help='of each song')
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
