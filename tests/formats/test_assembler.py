"""The assembler of the sound driver, against py65's."""

import pytest
from py65 import assembler as py65_assembler
from py65.devices import mpu6502

from lakhnes_jax.formats.player6502 import assembler

OPERANDS = {'': '', '#': '#$12', 'z': '$34', 'zx': '$34,X', 'zy': '$34,Y',
            'iy': '($34),Y', 'a': '$3456', 'ax': '$3456,X', 'ay': '$3456,Y',
            'r': '$8010'}


@pytest.mark.parametrize('name, mode', sorted(assembler._OPCODES))
def test_every_instruction(name, mode):
  operand = OPERANDS[mode]
  if not mode and name in ('asl', 'lsr', 'rol', 'ror'):
    operand = 'A'
  theirs = py65_assembler.Assembler(mpu6502.MPU())
  line = f'{name.upper()} {operand}'.strip()
  expected = theirs.assemble(line, pc=0x8000)
  assert list(assembler.assemble(line, 0x8000)[0]) == list(expected)


def test_names_and_directives():
  code, names = assembler.assemble('''
    here = $10 + 2 - 1  ; A comment.
    .if WITH
    .byte <table, >table, %101
    .else
    .byte 1
    .endif
    lda here,x
    jmp table
  table:
    .word table + 1, 258
  ''', 0xc000, WITH=1)
  assert names['table'] == 0xc008
  assert code == bytes([0x08, 0xc0, 5, 0xb5, 0x11, 0x4c, 0x08, 0xc0, 0x09, 0xc0,
                        2, 1])
  assert assembler.assemble('.if 0\nrts\n.else\nrti\n.endif', 0)[0] == b'\x40'


@pytest.mark.parametrize('line, message', [
    ('lda nothing', 'line 2: nothing is not defined'),
    ('foo', "'foo' is no instruction"), ('lda', "'lda' is no instruction"),
    ('lda (1),x', 'no expression'), ('stx 300,y', 'no such addressing mode'),
    ('bne $9000', 'a branch of'), ('lda 1 2', 'no expression'),
    ('a = 1\na = 2', 'line 3: a is defined twice')])
def test_errors(line, message):
  with pytest.raises(ValueError, match=message):
    assembler.assemble(f'\n{line}', 0x8000)
