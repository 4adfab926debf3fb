"""Operations with hand-written derivatives, which read activations fewer times and save fewer of them."""
