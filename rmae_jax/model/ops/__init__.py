"""Operations with derivatives written by hand: they take fewer passes over the activations and save less of them."""
