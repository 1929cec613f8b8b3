"""When the rows of a pattern begin."""

PARTS = 16  # Of a frame, in which tempos are given.
DEFAULT_TEMPO, DEFAULT_BAR = 6 * PARTS, 16


class Clock:
  """Where rows begin, as tokens say it; the same in writing and in reading.

  Attributes:
    frame: at which the row begins.
    row: of its bar; -1 before the first.
  """

  def __init__(self):
    self.tempo, self.bar = DEFAULT_TEMPO, DEFAULT_BAR
    self.frame, self.row = 0, -1
    self._anchor = self._count = 0

  def after(self, rows: int) -> int:
    """Returns the frame at which the row so many rows later begins."""
    return self._anchor + (
        2 * self.tempo * (self._count + rows) + PARTS) // (2 * PARTS)

  def advance(self, rows: int) -> None:
    self.frame = self.after(rows)
    self._count += rows
    self.row = (self.row + rows) % self.bar

  def rows_to(self, row: int) -> int:
    """Returns how many rows later `AT_row` is."""
    return (row % self.bar - self.row - 1) % self.bar + 1

  def begin(self, row: int) -> None:
    self.row = row % self.bar

  def set_tempo(self, tempo: int) -> None:
    self.tempo = tempo
    self._anchor, self._count = self.frame, 0

  def nudge(self, frames: int) -> None:
    self.frame = max(0, self.frame + frames)
    self._anchor, self._count = self.frame, 0
