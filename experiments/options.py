"""The flags of `experiments.run`: what each does, and its legal range."""

import contextlib
import difflib
import os
import pathlib
import re
from typing import Any

from absl import flags

from lakhnes_jax import command_line, input_files, ranges

FLAGS = flags.FLAGS
FLAGS_DIR = pathlib.Path(__file__).parent / 'flags'
TASKS = ('new', 'continue', 'rhythm', 'voices')
_MAX_DEPTH = 10  # Of flag files that name flag files.
_MAX_FILES = 100
_SHOWN = 80  # Characters of what was found.
_FLAGFILE = '--flagfile', '-flagfile'
_MAX_INT = 2**31 - 1
_MAX_SIZE = ranges.MAX_SIZE
# What flags were called before; the old names still work.
_FORMER = {
    'weights': 'init_from', 'forget': 'memory_reset_prob',
    'min_events': 'min_tokens', 'end_at_start': 'stop_at_eos',
    'prime_events': 'prompt_events', 'prime_seconds': 'prompt_seconds',
    'without_prime': 'without_prompt', 'unroll': 'unroll_layers'}
_FORMER_SWITCHES = {'--muon': '--optimizer=muon',
                    '--nomuon': '--optimizer=adam'}


class _Range(flags.ArgumentParser):
  """Parses numbers of one type from `low` to `high`, both included."""

  def __init__(self, kind: type, low: float, high: float):
    self._kind, self._low, self._high = kind, low, high
    self.syntactic_help = (
        f'{"an integer" if kind is int else "a number"} from {low} to {high}')

  def parse(self, argument):
    try:
      value = self._kind(argument)
    except (ValueError, TypeError, OverflowError):
      value = float('nan')
    if not self._low <= value <= self._high:
      raise ValueError(f'expected {self.syntactic_help}')
    return value

  def flag_type(self) -> str:
    return self._kind.__name__


class _Path(flags.ArgumentParser):
  """Parses paths and URLs; a leading `~` is the home folder."""

  def parse(self, argument):
    return command_line.expand(argument)

  def flag_type(self) -> str:
    return 'string'


def _path(name: str, default: str | None, text: str) -> None:
  flags.DEFINE(_Path(), name, default, text,
               serializer=flags.ArgumentSerializer())


def _integer(name: str, default: int | None, text: str, low: int = 0,
             high: int = _MAX_INT) -> None:
  flags.DEFINE(_Range(int, low, high), name, default, text,
               serializer=flags.ArgumentSerializer())


def _number(name: str, default: float | None, text: str, low: float,
            high: float) -> None:
  flags.DEFINE(_Range(float, low, high), name, default, text,
               serializer=flags.ArgumentSerializer())


def _sampling(name: str, default: float | None, text: str,
              of: str | None = None) -> None:
  """Defines a flag with the range of `of`, or of its name, in `ranges`."""
  low, high, kind = ranges.SAMPLING[of or name]
  flags.DEFINE(_Range(kind, low, high), name, default, text,
               serializer=flags.ArgumentSerializer())


flags.DEFINE_enum('mode', 'train', ['train', 'eval', 'sample'],
                  'What to do.')
_path('data_dir', None, 'Folder of shards that a data_prep command wrote.')
_path('workdir', None,
      'Run directory, with checkpoints and metrics; rerun the same command to '
      'resume. For eval and sample: the run whose best checkpoint is used, '
      'unless --weights is given; without either, the pretrained weights of '
      'the package.')
_path('out_dir', None,
      'Folder for samples; default: WORKDIR/samples, or samples.')
flags.DEFINE_enum('split', 'valid', ['train', 'valid', 'test'],
                  'Split to evaluate on.')
flags.DEFINE_enum(
    'format', 'tx1', ['tx1', 'tx2', 'tracker'], 'Vocabulary. tx1: notes; tx2: '
    'with dynamics; tracker: notes with instruments, on rows.')
_path('init_from', '',
      'Run directory, weights folder or URL of one to take the weights from; '
      'training starts at step 0.')
flags.DEFINE_bool(
    'init_optimizer', False, "Take Adam's moments from --init_from too, as "
    'the paper did for fine-tuning.')
_path('resume_from', '', 'Run directory to resume exactly, in --workdir.')
flags.DEFINE_list(
    'allow_changes', [], 'With a run that is resumed: what may differ from '
    'before; some of data, format, seed, augment, min_tokens.')
_sampling('seed', 1111, 'Random seed.')
flags.DEFINE_list('protocol', ['paper'],
                  'Evaluation protocols: paper, full, or paper,full.')
flags.register_validator('protocol', bool,
                         'expected paper, full, or paper,full')

flags.DEFINE_enum('model', 'txl', ['txl', 'lstm'],
                  'Architecture: Transformer-XL, or the LSTM baseline.')
_integer('n_layer', 12, 'Number of layers.', 1, 1024)
_integer('n_head', 8, 'Attention heads per layer.', 1, 1024)
_integer('d_model', 512, 'Width of the model.', 1, _MAX_SIZE)
_integer('d_head', 64, 'Width of an attention head.', 1, _MAX_SIZE)
_integer('d_inner', 2048, 'Width of the feed-forward layers.', 1, _MAX_SIZE)
_number('dropout', 0.1, 'Dropout rate.', 0, 0.999)
_number('dropatt', 0., 'Dropout rate of attention weights.', 0, 0.999)
flags.DEFINE_bool('pre_lnorm', False,
                  'Layer norm before each block instead of after it.')
flags.DEFINE_bool('same_length', False,
                  'Every query attends to the same number of keys.')
_integer('clamp_len', -1, 'Largest relative position; -1 disables clamping.',
         -1, _MAX_SIZE)
flags.DEFINE_enum(
    'dtype', 'float32', ['float32', 'bfloat16'], 'Computation dtype; '
    'parameters are float32. Eval and sample default to the dtype of '
    'training, sample to float32 on CPUs.')
flags.DEFINE_bool(
    'remat', False, 'Recompute each layer in the backward pass: less memory, '
    'more time.')
flags.DEFINE_bool(
    'unroll_layers', False, 'Compile each layer separately: faster for small '
    'models on CPUs.')
flags.DEFINE_bool(
    'smear_keys', False, 'Mix each key with the one before it: copying is '
    'learned from far fewer songs (Olsson et al., 2022).')
flags.DEFINE_bool(
    'within_song', False, 'Attend to nothing before the <S> that a song begins '
    'with: in training, songs then begin as they do in sampling.')
flags.DEFINE_string(
    'features', '', 'What tokens come with, separated by commas, for example '
    'voice_state,context_match=4096,voice_match=4096,frame_counter; see '
    'lakhnes_jax/model/features.')
flags.DEFINE_string(
    'compilation_cache', '~/.cache/lakhnes_jax', 'Folder for compiled '
    'programs; empty disables.')

_integer('tgt_len', 512, 'Tokens per segment.', 1, _MAX_SIZE)
_integer('mem_len', 512, 'Memory length in tokens. Sample defaults to the '
         'memory length of training.', 0, _MAX_SIZE)
_integer('eval_tgt_len', 128, 'Tokens per segment in evaluation.', 1,
         _MAX_SIZE)
_integer('eval_mem_len', None, 'Memory length in evaluation; default: mem_len '
         '+ tgt_len - eval_tgt_len, the longest context seen in training.', 0,
         _MAX_SIZE)
_integer('eval_batch_size', 10, 'Lanes in evaluation.', 1, _MAX_SIZE)
_integer('batch_size', 60, 'Lanes over all devices.', 1, _MAX_SIZE)
_integer('grad_accumulation', 1, 'Split each batch into N parts to save '
         'memory.', 1, _MAX_SIZE)
_integer('steps_per_dispatch', 1, 'Run N steps per dispatch; faster where '
         'steps are short.', 1, 4096)
_number('memory_reset_prob', 0., 'Probability that a training step starts '
        'with empty memory, so that a model trained for few epochs can start '
        'songs.', 0, 1)
flags.DEFINE_list(
    'augment', ['none'], 'none, all (those of the original), or some of trim, '
    'voice_dropout, switch, transpose, tempo, driver_jitter, stretch.')
_integer('min_tokens', 0, 'Training leaves out songs of fewer tokens, the two '
         '<S> included.')
_number('learning_rate', 2.5e-4, 'Peak learning rate.', 0, 100)
flags.DEFINE_enum('schedule', 'cosine', ['cosine', 'constant'],
                  'Learning rate schedule after warmup.')
_integer('warmup_steps', 0, 'Steps of linear warmup.')
flags.DEFINE_enum(
    'optimizer', 'adam', ['adam', 'muon'], 'muon: Muon for the kernels of the '
    'layers and Adam for the rest; small models learn as much from half of '
    'the events.')
_number('weight_decay', 0., 'Decoupled weight decay: each step removes this '
        'times the learning rate from kernels and embeddings.', 0, 1e3)
_number('clip', 0.25, 'Clip gradients to this norm; 0 disables.', 0, 1e9)
_integer('max_steps', 400_000, 'Stop after N steps, where the schedule ends.')
_integer('max_epochs', 0, 'Stop after N epochs; 0 disables.')
_number('max_minutes', 0, 'Stop after N minutes of training; 0 disables.', 0,
        1e9)
_integer('log_every', 200, 'Log every N steps; 0 disables.')
_integer('eval_every', 4000, 'Evaluate every N steps; 0 disables.')
_integer('save_every', 1000, 'Save a checkpoint every N steps; 0 disables.')
_integer('eval_samples', 0, 'Sample N songs at each evaluation, with audio, '
         'into WORKDIR/samples/step-NNNNNN.', 0, 1024)
flags.DEFINE_bool('tensorboard', False,
                  'Write the metrics to WORKDIR/tensorboard too.')
flags.DEFINE_bool(
    'distributed', False, 'Train as one process of a TPU slice or of a cluster '
    'that jax detects (Slurm, Open MPI, Kubernetes).')
flags.DEFINE_string(
    'coordinator', None, 'HOST:PORT of process 0, to train as one of several '
    'processes anywhere else.')
_integer('num_processes', None, 'With --coordinator: number of processes.', 1)
_integer('process_id', None, 'With --coordinator: number of this process, '
         'from 0. Process 0 reads and writes --workdir; all read --data_dir.')

flags.DEFINE_enum(
    'task', 'new', TASKS, 'new: songs from scratch. continue: continue '
    '--input. rhythm: new pitches for the rhythm of --input. voices: write '
    'the voices missing from --given_voices of --input.')
flags.DEFINE_multi(
    _Path(), flags.ArgumentSerializer(), 'input', [], 'Song file (.mid, '
    '.tx1.txt, .vgm, ...), folder or pattern; repeat the flag for more.')
_integer('n_samples', 4, 'Songs to sample, per input.', 1, 1_000_000)
_sampling('sample_batch', 16, 'Songs sampled at once; each takes memory.',
          'batch')
_sampling('length', None, 'Length in events: of a new song (default 1024), of '
          'a continuation (512), or of the part of --input that is used (all).')
_sampling('seconds', None, 'Length in seconds, exact to the sample.')
flags.DEFINE_bool(
    'stop_at_eos', False, 'End a song where the model draws <S>, which stands '
    'between songs. Off as in the paper: <S> is never drawn.')
flags.DEFINE_bool(
    'int8', False, 'Round kernels to 8 bits: a third faster for one song of a '
    'large model.')
_sampling('temperature', 0.95, 'Sampling temperature; 0 is greedy.')
_sampling('top_k', 32, 'Top-k; 0 disables.')
_sampling('top_p', 1., 'Top-p (nucleus); 1 disables.')
_sampling('tail_p', 1., 'Top-p of all but the likeliest token, which keeps its '
          'probability; 1 disables.')
_sampling('context_weight', 0., 'How much more all that is remembered of a '
          'song counts than its last 48 tokens; keeps songs to their own key '
          'and figures. 0 disables.')
_sampling('best_of', None, "Draw N songs for each one; the weights' critic "
          'takes one of them, so that songs are like real ones. Default: 8 '
          'where they have a critic, else 1.')
flags.DEFINE_bool(
    'grammar', False, 'Mask events (nearly) absent from NES-MDB: a NOTEOFF in '
    'silence, two notes of a voice at once, more than two seconds of silence, '
    'inaudibly fast notes.')
flags.DEFINE_bool(
    'repeats', True, 'In format tracker: bars come again, each voice\'s by '
    'itself. As in a real song, whose form is drawn; for rhythm as in '
    '--input.')
_sampling('prompt_events', None, 'For continue: events of --input to keep; '
          'default: 512, or those within --prompt_seconds.')
_sampling('prompt_seconds', None, 'For continue: seconds of --input to keep.')
flags.DEFINE_bool('without_prompt', False,
                  'For continue: write only what was added.')
flags.DEFINE_bool(
    'loop', False, 'End each song where it can best go on at an earlier place, '
    'and set that loop in the files of --also_write; by default '
    'vgm,nsf,famitracker.txt then.')
flags.DEFINE_list(
    'also_write', [], 'Further files of each song, for example '
    'vgm,nsf,nes,famitracker.txt.')
flags.DEFINE_string(
    'album', '', 'Title of one NSF file with all songs that are sampled.')
flags.DEFINE_list('given_voices', [],
                  'For voices: voices that are kept, for example p1,tr.')
flags.DEFINE_string(
    'tempo', None, 'Format tracker, new songs: beats per minute, 38 to 450, as '
    'in 150; or frames of a row, 2f to 24f, as in 6f.')
_sampling('density', None, 'Format tracker: notes per second, all voices '
          'together.')
flags.DEFINE_list('voices', [], 'Format tracker: voices that play, for example '
                  'p1,tr,no.')
_sampling('song_length', None, 'Format tracker: write as in a song of about '
          'so many seconds. It ends where --seconds, --length or --stop_at_eos '
          'say.')
for _old, _new in _FORMER.items():
  flags.DEFINE_alias(_old, _new)


def expand_flagfiles(argv: list[str]) -> list[str]:
  """Replaces each `--flagfile=NAME` by the flags in that file.

  A flag file has a flag per line, its value behind `=`, or another
  `--flagfile=NAME`; lines that begin with # or // are comments. One that is not
  here is taken from `experiments/flags/`.

  Raises:
    OSError, ValueError: a file is missing (the message lists those of the
      package) or no flag file, or a line of it is no flag with a value in its
      range.
  """
  expanded, arguments, n_files = [], iter(argv), 0

  def read(name: str, depth: int) -> None:
    nonlocal n_files
    path = _find_flagfile(name)
    n_files += 1
    if depth == _MAX_DEPTH or n_files > _MAX_FILES:
      raise ValueError(f'{path}: flag files name each other in a circle, or '
                       f'more than {_MAX_FILES} of them')
    for number, line in enumerate(input_files.read_text(path).splitlines(), 1):
      line = line.strip()
      option, equals, value = line.partition('=')
      if not line or line.startswith(('#', '//')):
        continue
      if option in _FLAGFILE and equals:
        read(value, depth + 1)
        continue
      line = _FORMER_SWITCHES.get(line, line)
      try:
        _check(line)
      except ValueError as error:
        raise ValueError(f'{path}: line {number}: {error}') from None
      expanded.append(line)

  for argument in arguments:
    option, equals, name = argument.partition('=')
    if option in _FLAGFILE:
      read(name if equals else next(arguments, ''), 0)
    else:
      expanded.append(_FORMER_SWITCHES.get(argument, argument))
  return expanded


def _check(line: str) -> None:
  """Raises ValueError if a line is not one flag with a value in its range.

  A flag without its value would take the next line for it.
  """
  shown = line[:_SHOWN] if line.isprintable() else ascii(line[:_SHOWN])
  found = re.fullmatch(r'--?([^-=][^=]*)(?:=(.*))?', line, re.DOTALL)
  if not found:
    raise ValueError(f'{shown}: no flag; flags begin with --')
  name, value = found[1], found[2]
  is_off = name.startswith('no') and name not in FLAGS
  known = name.removeprefix('no') if is_off else name
  if known not in FLAGS or (is_off and not FLAGS[known].boolean):
    near = difflib.get_close_matches(name[:_SHOWN], sorted(names()), 1)
    raise ValueError(f'{shown}: there is no such flag' + (
        f'; --{near[0]} is one' if near else ''))
  flag = FLAGS[known]
  if value is None:
    if not flag.boolean:
      raise ValueError(f'{shown}: its value is missing: --{name}=...')
    return
  if is_off:
    raise ValueError(f'{shown}: takes no value')
  another = re.search(r'\s--?(\w+)', value)
  if another and another[1] in FLAGS:
    raise ValueError(f'{shown}: two flags; give each a line')
  try:
    flag.parser.parse(value)
  except (ValueError, TypeError) as error:
    raise ValueError(f'{shown}: {str(error)[:300]}') from None


def _find_flagfile(name: str) -> str:
  path = command_line.expand(name)
  if os.path.exists(path):
    return path
  with contextlib.suppress(OSError):  # Too long a name.
    if name and (FLAGS_DIR / name).is_file():
      return str(FLAGS_DIR / name)
  known = ', '.join(sorted(path.name for path in FLAGS_DIR.glob('*.flags')))
  shown = name[:_SHOWN] if name.isprintable() else ascii(name[:_SHOWN])
  raise FileNotFoundError(f'{shown}: no such flag file; those of the package: '
                          f'{known}')


def given(name: str):
  """Returns the value of a flag that was given, else None."""
  return FLAGS[name].value if FLAGS[name].present else None


def require(name: str, what: str):
  """Returns the value of a flag.

  Raises:
    ValueError: it is empty; the message says `what` it should be.
  """
  if not FLAGS[name].value:
    raise ValueError(f'--{name} is needed: {what}')
  return FLAGS[name].value


def names() -> set[str]:
  """Returns the names of all flags of this module, without former ones."""
  return {flag.name for flag in FLAGS.get_key_flags_for_module(__name__)
          } - _FORMER.keys()


def to_json() -> dict[str, Any]:
  """Returns the values of all flags of this module."""
  return {name: FLAGS[name].value for name in sorted(names())}
