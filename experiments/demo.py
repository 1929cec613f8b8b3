"""The whole path in a few minutes: `python -m experiments.demo --out=demo`.

First the pretrained model of the package writes four tunes. Then the demo
composes two small corpora, prepares them, pre-trains a tiny Transformer-XL on
the first ("web" General MIDI), fine-tunes it on the second ("chip"), trains the
same model on the second alone, compares the two, and samples the better one.
Each step is a command that a user would type; it is printed, then run.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import time

from experiments.baselines import ngram
from lakhnes_jax import command_line, events
from lakhnes_jax.data import shards
from lakhnes_jax.report import plot


def _run(module: str, *arguments: str) -> None:
  """Runs `python -m module`, its output going to the terminal."""
  shown = shlex.join(['python', '-m', module, *arguments])
  print(f'\n$ {shown}', flush=True)
  done = subprocess.run([sys.executable, '-m', module, *arguments], check=False)
  if done.returncode:
    sys.exit(f'experiments.demo: this command failed: {shown}')


def _unigram_ppl(data_dir: pathlib.Path) -> float:
  results, = ngram.evaluate(shards.Corpus(data_dir, 'train'),
                            [shards.Corpus(data_dir, 'valid')], events.TX1)
  return next(result.ppl for result in results if result.model == 'unigram')


def demo(out: pathlib.Path, seed: int) -> None:
  """Runs everything below `out`; existing parts are done again."""
  started = time.monotonic()
  corpus, data, runs = out / 'corpus', out / 'data', out / 'runs'

  _run('experiments.run', '--flagfile=sample.flags', f'--seed={seed}',
       f'--out_dir={out}/pretrained')
  _run('data_prep.compose', f'--out={corpus}', f'--seed={seed}')
  _run('data_prep.lakh', f'--input={corpus}/web', f'--output={data}/web',
       f'--seed={seed}')
  _run('data_prep.nesmdb', f'--input={corpus}/chip', f'--output={data}/chip')

  def train(name: str, data_name: str, *flags: str) -> None:
    _run('experiments.run', '--flagfile=demo.flags', f'--seed={seed}',
         f'--data_dir={data}/{data_name}', f'--workdir={runs}/{name}', *flags)

  train('pretrain', 'web', '--augment=trim,transpose,stretch',
        '--max_steps=900', '--eval_every=150')
  train('finetune', 'chip', f'--init_from={runs}/pretrain')
  train('scratch', 'chip')

  ppl = {'unigram': _unigram_ppl(data / 'chip')}
  for name in ('scratch', 'finetune'):
    _run('experiments.run', '--flagfile=demo.flags', '--mode=eval',
         '--protocol=full', f'--data_dir={data}/chip',
         f'--workdir={runs}/{name}')
    ppl[name] = json.loads(
        (runs / name / 'eval-valid-full.json').read_text())['ppl']
  _run('experiments.run', '--flagfile=demo.flags', '--mode=sample',
       f'--seed={seed}', f'--workdir={runs}/finetune', f'--out_dir={out}/tunes')
  curves = out / 'curves.png'
  plot.learning_curves([runs / 'scratch', runs / 'finetune'], curves)

  print(f'''
Perplexity on the chip corpus's valid songs, every event counted:

  unigram                      {ppl['unigram']:8.2f}
  chip alone, from scratch     {ppl['scratch']:8.2f}
  web pre-training, then chip  {ppl['finetune']:8.2f}

  four tunes of the pretrained model
                    {out}/pretrained/index.html
  two of this one   {out}/tunes/index.html  (text, MIDI, WAV, piano roll)
  learning curves   {curves}
  the composed MIDI {corpus}
  runs and weights  {runs}

Done in {time.monotonic() - started:.0f} s. The real thing: see README.md.''')


def main(argv: list[str] | None = None) -> None:
  parser = argparse.ArgumentParser(
      prog='python -m experiments.demo', description=__doc__.split('\n\n')[0])
  parser.add_argument('--out', type=command_line.path, default='demo',
                      help='folder for everything (default: %(default)s)')
  parser.add_argument('--seed', type=command_line.whole(), default=0)
  args = parser.parse_args(argv)
  demo(args.out, args.seed)


if __name__ == '__main__':
  main()
