"""What a token comes with besides itself: side features of the model."""
