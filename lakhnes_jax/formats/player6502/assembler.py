"""A small two-pass assembler for the 6502, as much as our driver needs.

A line is `label:`, `name = expression`, `.byte e, e`, `.word e, e`,
`.if expression` ... `.else` ... `.endif` (not nested), or a mnemonic with an
operand in the usual notation; `;` begins a comment. Expressions are numbers
($hex, %binary or decimal) and names joined by + and -, with < or > in front for
the low or high byte. An address below $100 that is known when its line is read
takes the zero-page form.

Source: opcodes of the MOS MCS6500 Programming Manual, appendix B.
"""

import re

# By mnemonic: implied, immediate, zp, zp,x, zp,y, (zp),y, abs, abs,x, abs,y,
# relative; '..' where there is none.
_MODES = ('', '#', 'z', 'zx', 'zy', 'iy', 'a', 'ax', 'ay', 'r')
_TABLE = """
adc .. 69 65 75 .. 71 6d 7d 79 ..|and .. 29 25 35 .. 31 2d 3d 39 ..
asl 0a .. 06 16 .. .. 0e 1e .. ..|bcc .. .. .. .. .. .. .. .. .. 90
bcs .. .. .. .. .. .. .. .. .. b0|beq .. .. .. .. .. .. .. .. .. f0
bmi .. .. .. .. .. .. .. .. .. 30|bne .. .. .. .. .. .. .. .. .. d0
bpl .. .. .. .. .. .. .. .. .. 10|bit .. .. 24 .. .. .. 2c .. .. ..
clc 18 .. .. .. .. .. .. .. .. ..|cld d8 .. .. .. .. .. .. .. .. ..
cmp .. c9 c5 d5 .. d1 cd dd d9 ..|cpx .. e0 e4 .. .. .. ec .. .. ..
cpy .. c0 c4 .. .. .. cc .. .. ..|dec .. .. c6 d6 .. .. ce de .. ..
dex ca .. .. .. .. .. .. .. .. ..|dey 88 .. .. .. .. .. .. .. .. ..
eor .. 49 45 55 .. 51 4d 5d 59 ..|inc .. .. e6 f6 .. .. ee fe .. ..
inx e8 .. .. .. .. .. .. .. .. ..|iny c8 .. .. .. .. .. .. .. .. ..
jmp .. .. .. .. .. .. 4c .. .. ..|jsr .. .. .. .. .. .. 20 .. .. ..
lda .. a9 a5 b5 .. b1 ad bd b9 ..|ldx .. a2 a6 .. b6 .. ae .. be ..
ldy .. a0 a4 b4 .. .. ac bc .. ..|lsr 4a .. 46 56 .. .. 4e 5e .. ..
ora .. 09 05 15 .. 11 0d 1d 19 ..|pha 48 .. .. .. .. .. .. .. .. ..
pla 68 .. .. .. .. .. .. .. .. ..|rol 2a .. 26 36 .. .. 2e 3e .. ..
ror 6a .. 66 76 .. .. 6e 7e .. ..|rti 40 .. .. .. .. .. .. .. .. ..
rts 60 .. .. .. .. .. .. .. .. ..|sbc .. e9 e5 f5 .. f1 ed fd f9 ..
sec 38 .. .. .. .. .. .. .. .. ..|sei 78 .. .. .. .. .. .. .. .. ..
sta .. .. 85 95 .. 91 8d 9d 99 ..|stx .. .. 86 .. 96 .. 8e .. .. ..
sty .. .. 84 94 .. .. 8c .. .. ..|tax aa .. .. .. .. .. .. .. .. ..
tay a8 .. .. .. .. .. .. .. .. ..|txa 8a .. .. .. .. .. .. .. .. ..
txs 9a .. .. .. .. .. .. .. .. ..|tya 98 .. .. .. .. .. .. .. .. ..
"""


def _opcodes() -> dict[tuple[str, str], int]:
  codes = {}
  for row in _TABLE.replace('|', '\n').split('\n'):
    if row:
      name, *cells = row.split()
      codes |= {(name, mode): int(cell, 16)
                for mode, cell in zip(_MODES, cells, strict=True)
                if cell != '..'}
  return codes


_OPCODES = _opcodes()
_TERM = re.compile(r'([+-]?)\s*(\$[0-9a-f]+|%[01]+|\d+|[a-z_]\w*)\s*', re.I)
# Operands: how each is written, its zero-page mode, its absolute mode.
_FORMS = ((re.compile(r'#(.*)'), '#', '#'),
          (re.compile(r'\((.*)\),\s*y', re.I), 'iy', 'iy'),
          (re.compile(r'(.*),\s*x', re.I), 'zx', 'ax'),
          (re.compile(r'(.*),\s*y', re.I), 'zy', 'ay'),
          (re.compile(r'(.*)'), 'z', 'a'))


class _Undefined(ValueError):
  """A name that no line before this one defines."""


def _evaluate(text: str, names: dict[str, int]) -> int:
  text = text.strip()
  if text[:1] in ('<', '>'):
    value = _evaluate(text[1:], names)
    return value & 0xff if text[0] == '<' else value >> 8
  total, at = 0, 0
  while match := _TERM.match(text, at):
    sign, term = match.groups()
    if at and not sign:
      break
    if term[0] in '$%':
      value = int(term[1:], 16 if term[0] == '$' else 2)
    elif term[0].isdigit():
      value = int(term)
    elif term in names:
      value = names[term]
    else:
      raise _Undefined(f'{term} is not defined')
    total += -value if sign == '-' else value
    at = match.end()
  if not text or at < len(text):
    raise ValueError(f'{text!r} is no expression')
  return total


def _operation(line: str, here: int, names: dict[str, int],
               last: bool) -> bytes:
  """Bytes of a mnemonic and its operand."""
  name, _, operand = line.partition(' ')
  name, operand = name.lower(), operand.strip()
  if operand.lower() in ('', 'a'):
    if (name, '') not in _OPCODES:
      raise ValueError(f'{line!r} is no instruction')
    return bytes([_OPCODES[name, '']])
  match, short, long = next(
      (match, *modes) for form, *modes in _FORMS
      if (match := form.fullmatch(operand)))
  try:
    value, known = _evaluate(match[1], names), True
  except _Undefined:
    if last:
      raise
    value, known = here, False
  if (name, 'r') in _OPCODES:
    offset = value - here - 2
    if not -128 <= offset <= 127:
      raise ValueError(f'{line!r}: a branch of {offset} bytes')
    return bytes([_OPCODES[name, 'r'], offset & 0xff])
  zero = short in ('#', 'iy') or (known and value < 0x100 and
                                  (name, short) in _OPCODES)
  mode = short if zero else long
  if (name, mode) not in _OPCODES:
    raise ValueError(f'{line!r}: no such addressing mode')
  code = _OPCODES[name, mode]
  if zero:
    return bytes([code, value & 0xff])
  return bytes([code, value & 0xff, value >> 8 & 0xff])


def assemble(source: str, origin: int, **names: int
            ) -> tuple[bytes, dict[str, int]]:
  """Assembles a program.

  Args:
    source: its text; a zero-page name has to be defined before its use.
    origin: address of its first byte.
    **names: values that the source may use, e.g. in `.if`.

  Returns:
    the bytes, and the value of each name.

  Raises:
    ValueError: a line is wrong; names it.
  """
  for last in (False, True):
    code, skipping, defined = bytearray(), False, set()
    for number, line in enumerate(source.split('\n'), 1):
      line = line.split(';')[0].strip()
      try:
        if line == '.endif':
          skipping = False
        elif line == '.else':
          skipping = not skipping
        elif skipping or not line:
          continue
        elif line.startswith('.if '):
          skipping = not _evaluate(line[4:], names)
        elif line.endswith(':') or re.match(r'\w+\s*=', line):
          name, _, value = line.rstrip(':').partition('=')
          name = name.strip()
          if name in defined:
            raise ValueError(f'{name} is defined twice')
          defined.add(name)
          names[name] = (_evaluate(value, names) if value
                         else origin + len(code))
        elif line.startswith(('.byte ', '.word ')):
          for item in line[6:].split(','):
            value = _evaluate(item, names) if last else 0
            code += (value & 0xffff).to_bytes(2, 'little')[
                :1 if line[1] == 'b' else 2]
        else:
          code += _operation(line, origin + len(code), names, last)
      except ValueError as error:
        raise ValueError(f'line {number}: {error}') from None
  return bytes(code), names
