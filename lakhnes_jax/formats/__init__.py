"""Files that hold songs: MIDI, score pickles, VGM and its text forms."""
