"""What a token comes with besides itself; `base.Feature` is the protocol."""
