"""JSON of others, made worse: it is read, or one line names the file.

What is drawn is the same in each run.
"""

import numpy as np
import pytest

from support.json_readers import EDGES

pytestmark = pytest.mark.faults


@pytest.mark.parametrize('make', EDGES)
def test_mutated_json(tmp_path, n_faults, make, capsys):
  edge = make(tmp_path)
  edge.write(None)
  edge.read()
  named, refused = str(edge.named or edge.path), 0
  for number in range(3 * n_faults):
    edge.write(np.random.default_rng(number))
    try:
      edge.read()
    except (ValueError, OSError) as error:
      reason = str(error)
      assert not isinstance(error, UnicodeError), (number, error)
      assert named in reason and '\n' not in reason, (number, reason)
      assert len(reason) < 700, (number, reason)
      refused += 1
    except Exception as error:
      raise AssertionError(f'number {number}: {edge.path.read_bytes()[:999]}'
                          ) from error
  assert 'Traceback' not in capsys.readouterr().err
  assert refused or edge.lines  # Of lines, the bad ones are left out.
