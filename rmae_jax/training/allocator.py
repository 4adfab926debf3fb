"""What the C library does with memory that a step gives back."""


def keep_freed_memory() -> None:
    pass
