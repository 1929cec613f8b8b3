; Sound driver: six streams of register writes, one record per stream and frame.
;
; A stream is a sequence of tokens:
;   0wwwmmmm v..  Write: m says which of the stream's four registers (lowest
;                 bit first), a value for each; then w frames without writes.
;   10nnnnnn      n + 1 frames without writes (n < 63).
;   10111111 a    Go on at a.
;   11nnnnnn a    Call: play the n + 1 tokens at a, then go on here.
; An address a is two bytes; in banked images a third gives the 4-KB bank that
; is to be seen at $8000, and the next bank follows it at $9000.
;
; Assembled with BANKED = 0 or 1 and ROM = 0 or 1 (a console's own program, or
; one that an NSF player calls). Behind the program lie song_low, song_high and
; (banked) song_bank: where each song's table of addresses is.

STREAMS = 6

; Zero page; each array has an entry per stream.
pointer = $10           ; Of the token at hand.
mask = $12
keep = $13
index = $14             ; Of the song, of the stream.
pages = $15             ; Bank at $8000 (banked only).
wait = $20              ; Frames to go without writes.
low = $26               ; Where the stream goes on.
high = $2c
bank = $32
left = $38              ; Tokens left in the call at hand.
level = $3e             ; STREAMS for each call at hand.
; Where callers go on, and what they had left; level by level, at most five.
stack_low = $200
stack_high = $220
stack_bank = $240
stack_left = $260

  jmp init
  jmp play
.if ROM
  jmp reset
  jmp frame
.endif

; Starts song A (from 0).
init:
  sta index
  lda #0
  ldx #$13
silence:
  sta $4000,x
  dex
  bpl silence
  sta $4015
  lda #$0f
  sta $4015
  lda #$40
  sta $4017
  ldx index
  lda song_low,x
  sta pointer
  lda song_high,x
  sta pointer+1
.if BANKED
  lda song_bank,x
  jsr map
.endif
  ; There lie the streams' addresses, then (banked) the banks of the samples.
  ldy #0
  ldx #0
start:
  lda (pointer),y
  sta low,x
  iny
  lda (pointer),y
  sta high,x
  iny
.if BANKED
  lda (pointer),y
  sta bank,x
  iny
.endif
  lda #0
  sta wait,x
  sta left,x
  sta level,x
  inx
  cpx #STREAMS
  bne start
.if BANKED
  ldx #0
samples:
  lda (pointer),y
  sta $5ffc,x
  iny
  inx
  cpx #4
  bne samples
.endif
  rts

.if BANKED
; Shows banks A and A + 1 at $8000 and $9000.
map:
  sta pages
  sta $5ff8
  clc
  adc #1
  sta $5ff9
  rts
.endif

; Plays a frame.
play:
  ldx #0
stream:
  lda wait,x
  beq due
  dec wait,x
next:
  inx
  cpx #STREAMS
  bne stream
  rts

due:
  lda low,x
  sta pointer
  lda high,x
  sta pointer+1
.if BANKED
  lda bank,x
  jsr map
.endif
token:
  ldy #0
  lda (pointer),y
  bpl write
  jmp special
write:
  sta mask
  lsr a
  lsr a
  lsr a
  lsr a
  sta wait,x
  lda mask
  and #$0f
  sta mask
  stx index
  txa
  asl a
  asl a
  tax
  lda mask
  beq written
value:
  lsr mask
  bcc absent
  iny
  lda (pointer),y
  sty keep
  ldy registers,x
  sta $4000,y
  ldy keep
absent:
  inx
  lda mask
  bne value
written:
  ldx index
advance:                ; Past byte Y of the token.
  tya
  sec
  adc pointer
  sta low,x
  lda pointer+1
  adc #0
.if BANKED
  sta high,x
  lda pages
  sta bank,x
  lda high,x
  cmp #$90
  bcc done
  sbc #$10
  inc bank,x
.endif
  sta high,x
done:                   ; A token is over; calls may be over with it.
  lda level,x
  beq next
  dec left,x
  bne next
  sec
  sbc #STREAMS
  sta level,x
  stx keep
  clc
  adc keep
  tay
  lda stack_low,y
  sta low,x
  lda stack_high,y
  sta high,x
.if BANKED
  lda stack_bank,y
  sta bank,x
.endif
  lda stack_left,y
  sta left,x
  jmp done

special:
  cmp #$c0
  bcs call
  and #$3f
  cmp #$3f
  beq go
  sta wait,x
  jmp advance

call:
  and #$3f
  sta mask
  inc mask
  stx keep
  lda level,x
  clc
  adc keep
  tay
.if BANKED
  lda pages
  sta stack_bank,y
  lda pointer
  adc #4
  sta stack_low,y
  lda pointer+1
  adc #0
  cmp #$90
  bcc within
  sbc #$10
  sta stack_high,y
  lda stack_bank,y
  adc #0                ; The carry is set.
  sta stack_bank,y
  jmp stacked
within:
  sta stack_high,y
stacked:
.else
  lda pointer
  adc #3
  sta stack_low,y
  lda pointer+1
  adc #0
  sta stack_high,y
.endif
  lda left,x
  sta stack_left,y
  lda level,x
  clc
  adc #STREAMS
  sta level,x
  lda mask
  sta left,x
go:
  ldy #1
  lda (pointer),y
  sta keep
  iny
  lda (pointer),y
.if BANKED
  pha
  iny
  lda (pointer),y
  jsr map
  pla
.endif
  sta pointer+1
  lda keep
  sta pointer
  jmp token

registers:              ; Less $4000, by stream.
  .byte $10, $11, $12, $13
  .byte $15, $15, $17, $15
  .byte $00, $01, $02, $03
  .byte $04, $05, $06, $07
  .byte $08, $09, $0a, $0b
  .byte $0c, $0d, $0e, $0f

.if ROM
; Power-on of a console.
reset:
  sei
  cld
  ldx #$ff
  txs
  inx
  stx $2000             ; No NMI, no picture.
  stx $2001
  stx $4010
  lda #$40
  sta $4017
  bit $2002
first:                  ; The PPU is not ready before two frames.
  bit $2002
  bpl first
second:
  bit $2002
  bpl second
  lda #0
  jsr init
  lda #$80
  sta $2000
forever:
  jmp forever

; A frame of the picture begins.
frame:
  pha
  txa
  pha
  tya
  pha
  jsr play
  pla
  tay
  pla
  tax
  pla
irq:
  rti
.endif
