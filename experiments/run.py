"""Trains, evaluates and samples: `python -m experiments.run --mode=...`.

A flag file that is not found where you are is taken from `experiments/flags/`:

    python -m experiments.run --flagfile=pretrain.flags --data_dir=data/lakh
    python -m experiments.run --mode=eval --workdir=runs/nes --data_dir=data/nes
    python -m experiments.run --flagfile=sample.flags --workdir=runs/nes
"""

import dataclasses
import json
import os
import pathlib
import sys

from absl import app, flags, logging

from experiments import generate, huge_pages

FLAGS_DIR = pathlib.Path(__file__).parent / 'flags'

_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'sample'],
                          'What to do.')
_DATA_DIR = flags.DEFINE_string(
    'data_dir', None, 'Folder of shards that a data_prep command wrote.')
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Run directory: checkpoints, metrics; resumed if it has '
    'any. For eval and sample: the run to take the best weights from, '
    'unless --weights says otherwise; without either, those that come with the '
    'package.')
_OUT_DIR = flags.DEFINE_string(
    'out_dir', None, 'Where samples go; default: WORKDIR/samples, or samples.')
_SPLIT = flags.DEFINE_enum('split', 'valid', ['train', 'valid', 'test'],
                           'What to evaluate on.')
_FORMAT = flags.DEFINE_enum(
    'format', 'tx1', ['tx1', 'tx2', 'tracker'], 'tx1: notes; tx2: with '
    'dynamics; tracker: notes with instruments, on rows.')
_INIT_FROM = flags.DEFINE_string(
    'init_from', '', 'Run directory, weights folder or its URL that gives the '
    'weights; in training, steps start at 0.')
flags.DEFINE_alias('weights', 'init_from')
_INIT_OPTIMIZER = flags.DEFINE_bool(
    'init_optimizer', False, "Take Adam's moments along with --init_from, as "
    'the paper did for fine-tuning.')
_RESUME_FROM = flags.DEFINE_string(
    'resume_from', '', 'Run directory to go on with, exactly, in --workdir.')
_SEED = flags.DEFINE_integer('seed', 1111, 'Seed of everything drawn.')
_PROTOCOL = flags.DEFINE_list(
    'protocol', ['paper'], 'For eval: paper, full, or paper,full.')

_MODEL = flags.DEFINE_enum(
    'model', 'txl', ['txl', 'lstm'],
    'Kind of model: Transformer-XL, or the LSTM baseline.')
_N_LAYER = flags.DEFINE_integer('n_layer', 12, 'Layers.')
_N_HEAD = flags.DEFINE_integer('n_head', 8, 'Attention heads.')
_D_MODEL = flags.DEFINE_integer('d_model', 512, 'Width.')
_D_HEAD = flags.DEFINE_integer('d_head', 64, 'Width of a head.')
_D_INNER = flags.DEFINE_integer('d_inner', 2048, 'Width of feed-forward.')
_DROPOUT = flags.DEFINE_float('dropout', 0.1, 'Dropout rate.')
_DROPATT = flags.DEFINE_float('dropatt', 0., 'Dropout rate of attention.')
_PRE_LNORM = flags.DEFINE_bool(
    'pre_lnorm', False, 'Layer norm before, not after, each block.')
_SAME_LENGTH = flags.DEFINE_bool(
    'same_length', False, 'Each token sees the same number of others.')
_CLAMP_LEN = flags.DEFINE_integer(
    'clamp_len', -1, 'Farther positions count as this one; -1: no such limit.')
_DTYPE = flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'What to compute in; '
    'parameters are float32. For sample: what the model was trained in, but '
    'float32 on CPUs, unless this is given.')
_UNROLL = flags.DEFINE_bool(
    'unroll_layers', False, 'Compile each layer by itself: faster for small models '
    'on CPUs.')

_SMEAR_KEYS = flags.DEFINE_bool(
    'smear_keys', False, 'Mix each key with the one before it: copying is then '
    'learnt from far fewer songs.')

_FEATURES = flags.DEFINE_string(
    'features', '', 'What tokens come with, separated by commas, as in '
    'voice_state,context_match=4096,voice_match=4096,frame_counter; see '
    'lakhnes_jax/model/features.')

_CACHE = flags.DEFINE_string(
    'compilation_cache', '~/.cache/lakhnes_jax', 'Folder of compiled programs, '
    'so that the second start is quick; empty: none.')

_TGT_LEN = flags.DEFINE_integer('tgt_len', 512, 'Tokens a segment.')
_MEM_LEN = flags.DEFINE_integer(
    'mem_len', 512, 'Length of the memory. For sample, what the model was '
    'trained with unless this is given.')
_EVAL_TGT_LEN = flags.DEFINE_integer('eval_tgt_len', 128,
                                     'Tokens a segment in evaluation.')
_EVAL_MEM_LEN = flags.DEFINE_integer(
    'eval_mem_len', None, 'Memory in evaluation; default: mem_len + tgt_len - '
    'eval_tgt_len, so that the context ends where it does in training.')
_EVAL_BATCH_SIZE = flags.DEFINE_integer('eval_batch_size', 10,
                                        'Lanes in evaluation.')
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 60,
                                   'Lanes, all devices together.')
_ACCUMULATION = flags.DEFINE_integer(
    'grad_accumulation', 1, 'Parts in which a batch is computed.')
_DISPATCH = flags.DEFINE_integer(
    'steps_per_dispatch', 1, 'Steps that the devices take by themselves; of '
    'use where steps are so short that they wait for the host.')
_FORGET = flags.DEFINE_float(
    'memory_reset_prob', 0., 'Probability that a training step begins with an empty '
    'memory, so that a model trained for few epochs can begin songs too.')
_AUGMENT = flags.DEFINE_list(
    'augment', ['none'], 'none, all (that the original has), or some of trim, '
    'voice_dropout, switch, transpose, tempo, driver_jitter, stretch.')
_MIN_TOKENS = flags.DEFINE_integer(
    'min_tokens', 0, 'Training leaves out songs of fewer tokens, the two <S> '
    'included.')
_LEARNING_RATE = flags.DEFINE_float('learning_rate', 2.5e-4, 'The peak.')
_SCHEDULE = flags.DEFINE_enum(
    'schedule', 'cosine', ['cosine', 'constant'], 'Of the learning rate.')
_WARMUP = flags.DEFINE_integer('warmup_steps', 0, 'Steps up to the peak.')
_MUON = flags.DEFINE_bool(
    'muon', False, "Muon for the layers' kernels instead of Adam: small models "
    'learn as much from half of the events.')
_CLIP = flags.DEFINE_float('clip', 0.25, 'Largest gradient norm; 0: any.')
_MAX_STEPS = flags.DEFINE_integer(
    'max_steps', 400_000, 'End of training, and of the schedule.')
_MAX_EPOCHS = flags.DEFINE_integer(
    'max_epochs', 0, 'End of training if sooner; 0: no such end.')
_MAX_MINUTES = flags.DEFINE_float(
    'max_minutes', 0, 'End of training if sooner; 0: no such end.')
_LOG_EVERY = flags.DEFINE_integer('log_every', 200, 'Steps a metrics line.')
_EVAL_EVERY = flags.DEFINE_integer('eval_every', 4000,
                                   'Steps from one evaluation to the next.')
_SAVE_EVERY = flags.DEFINE_integer('save_every', 1000,
                                   'Steps from one checkpoint to the next.')
_DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False, 'Train as one of the processes of a TPU slice or of '
    'a cluster that jax knows (Slurm, Open MPI, Kubernetes).')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, to train as one of several '
    'processes anywhere else.')
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'With --coordinator: how many there are.')
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'With --coordinator: which this is, from 0. Process 0 '
    'reads and writes --workdir; all read --data_dir.')

_EVAL_SAMPLES = flags.DEFINE_integer(
    'eval_samples', 0, 'Songs to sample at each evaluation, with audio, into '
    'WORKDIR/samples/step-NNNNNN.')
_TENSORBOARD = flags.DEFINE_bool(
    'tensorboard', False, 'Write the metrics to WORKDIR/tensorboard too.')

flags.adopt_module_key_flags(generate)


def resolve_flagfiles(argv: list[str]) -> list[str]:
  """Points `--flagfile=NAME` at `experiments/flags/` where NAME is not here.

  Raises:
    FileNotFoundError: neither has it; the message lists those that come along.
  """
  resolved, takes_next = [], False
  for argument in argv:
    option, equals, name = argument.partition('=')
    if takes_next:
      argument = _flagfile(argument)
    elif equals and option in ('--flagfile', '-flagfile'):
      argument = f'--flagfile={_flagfile(name)}'
    takes_next = argument in ('--flagfile', '-flagfile')
    resolved.append(argument)
  return resolved


def _flagfile(name: str) -> str:
  if os.path.exists(name):
    return name
  if (FLAGS_DIR / name).is_file():
    return str(FLAGS_DIR / name)
  known = ', '.join(sorted(path.name for path in FLAGS_DIR.glob('*.flags')))
  raise FileNotFoundError(f'{name}: no such flag file; those that come with '
                          f'the package: {known}')


def _required(flag: flags.FlagHolder, what: str):
  if not flag.value:
    raise ValueError(f'--{flag.name} is needed: {what}')
  return flag.value


def _corpus(split: str):
  from lakhnes_jax.data import shards
  return shards.Corpus(_required(
      _DATA_DIR, 'a folder of shards; python -m data_prep.nesmdb makes one'),
      split)


def _evaluation():
  from lakhnes_jax.training import evaluate
  mem_len = _EVAL_MEM_LEN.value
  if mem_len is None:
    mem_len = max(0, _MEM_LEN.value + _TGT_LEN.value - _EVAL_TGT_LEN.value)
  return evaluate.EvalConfig(_EVAL_TGT_LEN.value, mem_len, _EVAL_BATCH_SIZE.value)


def _kind():
  """Returns the class of --model."""
  if _MODEL.value == 'lstm':
    from experiments.baselines import lstm
    return lstm.LstmModel
  from lakhnes_jax.model import language_model
  return language_model.LanguageModel


def _model(vocabulary):
  """Makes the model that the flags ask for."""
  kind = _kind()
  return kind.from_dict({'n_token': vocabulary.size, **{
      name: flags.FLAGS[name].value
      for name in kind.SETTINGS & set(flags.FLAGS)}}, vocabulary)


def _describe(**corpora) -> dict:
  """What `config.json` of a run says."""
  import importlib.metadata
  import subprocess

  import jax
  versions = {name: importlib.metadata.version(name) for name in (
      'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')}
  try:
    revision = subprocess.run(
        ['git', 'rev-parse', 'HEAD'], cwd=pathlib.Path(__file__).parent,
        capture_output=True, text=True, check=False).stdout.strip()
  except OSError:  # No git here.
    revision = ''
  return {
      'flags': {flag.name: flag.value for flag in
                flags.FLAGS.get_key_flags_for_module(sys.modules[__name__])},
      'versions': {'python': sys.version.split()[0], **versions},
      'git_revision': revision or None,
      'device': jax.local_devices()[0].device_kind,
      'n_devices': jax.device_count(),
      'data': {name: corpus.checksum for name, corpus in corpora.items()
               if corpus},
  }


def _join() -> bool:
  """Joins the other processes, if the flags say so; whether they do."""
  if not (_DISTRIBUTED.value or _COORDINATOR.value):
    return False
  from lakhnes_jax.training import distributed
  if not _COORDINATOR.value:
    distributed.join()
    return True
  for flag in (_NUM_PROCESSES, _PROCESS_ID):
    if flag.value is None:
      raise ValueError(f'--coordinator needs --{flag.name} too')
  distributed.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  return True


def _train() -> dict:
  """Trains in --workdir, alone or with others; see `_train_one`."""
  if not _join():
    return _train_one()
  from lakhnes_jax.training import distributed
  try:
    return _train_one()
  except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
    distributed.abort_all(f'experiments.run: {error}')


def _train_one() -> dict:
  """Trains in --workdir; returns what `loop.run` says."""
  from lakhnes_jax import vocabularies
  from lakhnes_jax.data import token_stream
  from lakhnes_jax.generation import sample
  from lakhnes_jax.report import plot
  from lakhnes_jax.training import log, loop
  if _EVAL_SAMPLES.value:
    _check_can_sample('eval_samples')
  workdir = pathlib.Path(_required(_WORKDIR, 'the run directory'))
  vocabulary = vocabularies.get(_FORMAT.value)
  corpus = _corpus('train')
  try:
    valid = _corpus('valid')
  except FileNotFoundError:
    valid = None
  settings = loop.TrainConfig(
      batch_size=_BATCH_SIZE.value, tgt_len=_TGT_LEN.value,
      mem_len=_MEM_LEN.value, evaluation=_evaluation(),
      learning_rate=_LEARNING_RATE.value, schedule=_SCHEDULE.value,
      warmup_steps=_WARMUP.value, max_steps=_MAX_STEPS.value,
      max_epochs=_MAX_EPOCHS.value, max_minutes=_MAX_MINUTES.value,
      clip=_CLIP.value, optimizer='muon' if _MUON.value else 'adam',
      accumulation=_ACCUMULATION.value, memory_reset_prob=_FORGET.value,
      steps_per_dispatch=_DISPATCH.value, seed=_SEED.value,
      log_every=_LOG_EVERY.value, eval_every=_EVAL_EVERY.value,
      save_every=_SAVE_EVERY.value)
  model = _model(vocabulary)

  def after_eval(step: int, params) -> None:
    try:
      plot.learning_curves([workdir], workdir / 'curves.png')
    except ImportError as error:
      log.report(f'no learning curves: {error}')
    if _EVAL_SAMPLES.value:
      songs = generate.new_songs(
          sample.Model(model, params, vocabulary, settings.mem_len),
          _EVAL_SAMPLES.value, _SEED.value)
      sample.write(songs, workdir / 'samples' / f'step-{step:06}', vocabulary)

  return loop.run(
      workdir, model, vocabulary, corpus, valid, settings,
      init=loop.InitFrom(_RESUME_FROM.value, _INIT_FROM.value,
                         _INIT_OPTIMIZER.value),
      augmentation=token_stream.Augmentation.from_names(_AUGMENT.value),
      min_tokens=_MIN_TOKENS.value,
      description=_describe(train=corpus, valid=valid),
      tensorboard=_TENSORBOARD.value, after_eval=after_eval)


def _weights():
  """Returns (model, params, meta) of --weights, or of --workdir's best.

  Without either it is the model that comes with the package.
  """
  from lakhnes_jax.weights import weights_folder
  return weights_folder.load(
      _INIT_FROM.value or _WORKDIR.value or weights_folder.SHIPPED, _kind())


def _evaluate() -> dict:
  """Evaluates; prints a line of JSON a protocol, and returns the last."""
  from lakhnes_jax import atomic
  from lakhnes_jax.training import evaluate
  model, params, meta = _weights()
  vocabulary = generate.check_format(meta, None)
  corpus = _corpus(_SPLIT.value)
  for protocol in _PROTOCOL.value:
    if protocol not in evaluate.PROTOCOLS:
      raise ValueError(f'--protocol={protocol}: not one of '
                       f'{", ".join(evaluate.PROTOCOLS)}')
    result = {'split': _SPLIT.value, **evaluate.evaluate(
        model, params, corpus, vocabulary, config=_evaluation(),
        protocol=protocol)}
    line = json.dumps(result)
    if _WORKDIR.value:
      atomic.write(
          pathlib.Path(_WORKDIR.value, f'eval-{_SPLIT.value}-{protocol}.json'),
          line.encode())
    print(line, flush=True)
  return result


def _check_can_sample(asked: str) -> None:
  if _MODEL.value != 'txl':
    raise ValueError(f'--{asked}: only a Transformer-XL can be sampled')


def _in_dtype(model, dtype: str):
  return dataclasses.replace(
      model, config=dataclasses.replace(model.config, dtype=dtype))


def _sample() -> pathlib.Path:
  """Samples songs and writes them; exits with 1 if an input was bad."""
  import jax

  from lakhnes_jax.generation import sample
  _check_can_sample('mode=sample')
  model, params, meta = _weights()
  out = _OUT_DIR.value or pathlib.Path(_WORKDIR.value or '', 'samples')
  mem_len = _MEM_LEN.value
  if not flags.FLAGS['mem_len'].present:
    mem_len = meta.get('mem_len', mem_len)
  if flags.FLAGS['dtype'].present:
    model = _in_dtype(model, _DTYPE.value)
  elif jax.default_backend() == 'cpu':  # Slow with a row of bfloat16.
    model = _in_dtype(model, 'float32')
  vocabulary = generate.check_format(
      meta, _FORMAT.value if flags.FLAGS['format'].present else None)
  good = generate.run(sample.Model(model, params, vocabulary, mem_len),
                      pathlib.Path(out), _SEED.value)
  print(out, flush=True)
  if not good:
    sys.exit(1)
  return pathlib.Path(out)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'{argv[1]!r} is no flag; flags begin with --')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # Orbax tells every detail.
  if _CACHE.value and 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    # Read by jax, which is not imported yet.
    os.environ['JAX_COMPILATION_CACHE_DIR'] = os.path.expanduser(_CACHE.value)
  try:
    {'train': _train, 'eval': _evaluate, 'sample': _sample}[_MODE.value]()
  except (ValueError, OSError, FloatingPointError) as error:
    sys.exit(f'experiments.run: {error}')


if __name__ == '__main__':
  huge_pages.ask()
  try:
    arguments = resolve_flagfiles(sys.argv)
  except FileNotFoundError as missing:
    sys.exit(f'experiments.run: {missing}')
  app.run(main, argv=arguments)
