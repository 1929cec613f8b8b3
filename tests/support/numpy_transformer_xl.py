"""The original's Transformer-XL in numpy and float64: a yardstick, not fast.

Time comes first, as in the original; parameters have their names in PyTorch.
Source: Transformer-XL (Dai et al., ACL 2019), section 3.3, with LakhNES's
settings: after-layer norm, no clamp, each token sees all that is there.
"""

import numpy as np


def _norm(x, weight, bias):
  x = x - x.mean(-1, keepdims=True)
  return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * weight + bias


def nll(state: dict[str, np.ndarray], tokens_TxB, targets_TxB, mem_len: int,
        tgt_len: int) -> np.ndarray:
  """Negative log likelihood of each target, segment after segment.

  Args:
    state: state_dict of the original.
    tokens_TxB, targets_TxB: ids.
    mem_len: of the memory, empty at first.
    tgt_len: of the segments.

  Returns:
    [T, B] float64, nats.
  """
  w = {name: np.asarray(array, np.float64) for name, array in state.items()}
  embedding = w['word_emb.emb_layers.0.weight']
  n_layer = sum(name.endswith('qkv_net.weight') for name in w)
  memories, found = [embedding[tokens_TxB[:0]]] * n_layer, []
  for start in range(0, len(tokens_TxB), tgt_len):
    part = slice(start, start + tgt_len)
    x = embedding[tokens_TxB[part]] * embedding.shape[1]**.5
    for i in range(n_layer):
      layer = {name.removeprefix(f'layers.{i}.'): array
               for name, array in w.items() if name.startswith(f'layers.{i}.')}
      both = np.concatenate([memories[i], x])
      memories[i] = both[len(both) - mem_len:] if mem_len < len(both) else both
      x = _layer(layer, w['r_w_bias'], w['r_r_bias'], x, both)
    logits = x @ embedding.T + w['crit.out_layers.0.bias']
    top = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
    found.append(total - np.take_along_axis(
        logits, targets_TxB[part][..., None], -1)[..., 0])
  return np.concatenate(found)


def _layer(w, content_bias, position_bias, x, both):
  heads, d_head = content_bias.shape
  length, n_keys, batch = len(x), len(both), x.shape[1]
  q, k, v = np.split(both @ w['dec_attn.qkv_net.weight'].T, 3, -1)
  q, k, v = (part.reshape(n_keys, batch, heads, d_head) for part in (q, k, v))
  angle = np.arange(n_keys)[:, None] / 10000**(
      np.arange(0, x.shape[-1], 2) / x.shape[-1])
  # Row d is of distance d.
  r = (np.concatenate([np.sin(angle), np.cos(angle)], -1) @
       w['dec_attn.r_net.weight'].T).reshape(n_keys, heads, d_head)
  mixed = np.zeros((length, batch, heads, d_head))
  for i in range(length):
    sees = n_keys - length + i + 1
    query = q[sees - 1]
    scores = (np.einsum('bhc,kbhc->kbh', query + content_bias, k[:sees]) +
              np.einsum('bhc,khc->kbh', query + position_bias, r[:sees][::-1]))
    weights = np.exp((scores - scores.max(0)) * d_head**-.5)
    mixed[i] = np.einsum('kbh,kbhc->bhc', weights / weights.sum(0), v[:sees])
  x = _norm(x + mixed.reshape(*x.shape[:2], -1) @ w['dec_attn.o_net.weight'].T,
            w['dec_attn.layer_norm.weight'], w['dec_attn.layer_norm.bias'])
  inner = np.maximum(0, x @ w['pos_ff.CoreNet.0.weight'].T +
                     w['pos_ff.CoreNet.0.bias'])
  return _norm(x + inner @ w['pos_ff.CoreNet.3.weight'].T +
               w['pos_ff.CoreNet.3.bias'], w['pos_ff.layer_norm.weight'],
               w['pos_ff.layer_norm.bias'])
