"""The original's parameters under their PyTorch names -> our tree."""

from typing import Any

import numpy as np

from lakhnes_jax.model import transformer_xl

_TOP = {
    'r_w_bias': 'content_bias',
    'r_r_bias': 'position_bias',
    'word_emb.emb_layers.0.weight': 'embedding',
    'crit.out_layers.0.bias': 'output_bias',
}
# Within a layer. Dense kernels are [out, in] in torch and [in, out] here, where
# heads have an axis of their own.
_LAYER = {
    'dec_attn.qkv_net.weight': ('attention', 'qkv'),
    'dec_attn.r_net.weight': ('attention', 'position'),
    'dec_attn.o_net.weight': ('attention', 'output'),
    'dec_attn.layer_norm.weight': ('attention', 'norm', 'scale'),
    'dec_attn.layer_norm.bias': ('attention', 'norm', 'bias'),
    'pos_ff.CoreNet.0.weight': ('feed_forward', 'inner', 'kernel'),
    'pos_ff.CoreNet.0.bias': ('feed_forward', 'inner', 'bias'),
    'pos_ff.CoreNet.3.weight': ('feed_forward', 'outer', 'kernel'),
    'pos_ff.CoreNet.3.bias': ('feed_forward', 'outer', 'bias'),
    'pos_ff.layer_norm.weight': ('feed_forward', 'norm', 'scale'),
    'pos_ff.layer_norm.bias': ('feed_forward', 'norm', 'bias'),
}
TIED = 'crit.out_layers.0.weight'  # The embedding once more.
_COMPUTED = 'pos_emb.inv_freq'


def to_tree(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
  """Arranges arrays (parameters, gradients or moments) as our parameters are.

  Args:
    arrays: by torch name; the tied output weights and `pos_emb.inv_freq` are
      left out of the tree if present.

  Returns:
    Tree of float32 arrays, those of the layers stacked.

  Raises:
    ValueError: names a parameter that is missing, unknown or of a shape that
      does not go with the others.
  """
  arrays = {name: array for name, array in arrays.items()
            if name not in (TIED, _COMPUTED)}
  n_layer = 0
  while f'layers.{n_layer}.dec_attn.qkv_net.weight' in arrays:
    n_layer += 1
  wanted = [*_TOP, *(f'layers.{i}.{name}' for i in range(max(n_layer, 1))
                     for name in _LAYER)]
  missing = [name for name in wanted if name not in arrays]
  unknown = sorted(arrays.keys() - set(wanted))
  if missing or unknown:
    what = [f'{name} is missing' for name in missing[:2]]
    what += [f'{name} is unknown' for name in unknown[:2]]
    raise ValueError(f'not a Transformer-XL of attn_type 0 with tied '
                     f'embeddings: {"; ".join(what)}')
  arrays = {name: np.asarray(array, np.float32)
            for name, array in arrays.items()}
  tree = {ours: arrays[name] for name, ours in _TOP.items()}
  shapes = _shapes(tree, arrays['layers.0.pos_ff.CoreNet.0.bias'])
  for name, array in arrays.items():
    shape = shapes[name.split('.', 2)[2] if name.startswith('layers.') else
                   name]
    if array.shape != shape:
      raise ValueError(f'{name} is {list(array.shape)}, not {list(shape)} as '
                       'the other parameters imply')
  heads = tree['content_bias'].shape
  for name, path in _LAYER.items():
    stacked = np.stack([arrays[f'layers.{i}.{name}'] for i in range(n_layer)])
    if stacked.ndim == 3:
      stacked = np.swapaxes(stacked, 1, 2)
    if path[1] == 'qkv':
      stacked = stacked.reshape(*stacked.shape[:2], 3, *heads)
    elif path[1] == 'position':
      stacked = stacked.reshape(*stacked.shape[:2], *heads)
    elif path[1] == 'output':
      stacked = stacked.reshape(n_layer, *heads, -1)
    folder = tree.setdefault('layers', {})
    for part in path[:-1]:
      folder = folder.setdefault(part, {})
    folder[path[-1]] = np.ascontiguousarray(stacked)
  return tree


def _shapes(tree, inner_bias) -> dict[str, tuple[int, ...]]:
  """The torch shape of each parameter, from the sizes of a few."""
  if tree['content_bias'].ndim != 2 or tree['embedding'].ndim != 2:
    raise ValueError('r_w_bias and word_emb.emb_layers.0.weight must be '
                     'matrices')
  heads = tree['content_bias'].shape
  width = heads[0] * heads[1]
  v, d = tree['embedding'].shape
  f = inner_bias.size
  return {
      'r_w_bias': heads, 'r_r_bias': heads,
      'word_emb.emb_layers.0.weight': (v, d), 'crit.out_layers.0.bias': (v,),
      'dec_attn.qkv_net.weight': (3 * width, d),
      'dec_attn.r_net.weight': (width, d),
      'dec_attn.o_net.weight': (d, width),
      'pos_ff.CoreNet.0.weight': (f, d), 'pos_ff.CoreNet.0.bias': (f,),
      'pos_ff.CoreNet.3.weight': (d, f), 'pos_ff.CoreNet.3.bias': (d,),
      **{f'{block}.layer_norm.{name}': (d,) for block in ('dec_attn', 'pos_ff')
         for name in ('weight', 'bias')},
  }


def from_torch_state_dict(state: dict[str, np.ndarray], **settings: Any):
  """Turns a state_dict of the original into our configuration and parameters.

  Args:
    state: arrays by torch name.
    **settings: of `ModelConfig`, what the shapes do not imply: dropout,
      pre_lnorm and so on.

  Returns:
    (ModelConfig, tree of float32 arrays)

  Raises:
    ValueError: as `to_tree`; or the output weights are not the embedding.
  """
  params = to_tree(state)
  if TIED in state and not np.array_equal(state[TIED], params['embedding']):
    raise ValueError(f'{TIED} differs from the embedding: only models with '
                     'tied embeddings can be imported')
  n_head, d_head = params['content_bias'].shape
  n_token, d_model = params['embedding'].shape
  n_layer, _, d_inner = params['layers']['feed_forward']['inner'][
      'kernel'].shape
  return transformer_xl.ModelConfig(
      n_token=n_token, n_layer=n_layer, n_head=n_head, d_model=d_model,
      d_head=d_head, d_inner=d_inner, **settings), params
