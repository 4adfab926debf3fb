"""Management of processes that run commands: hosts, signals, memory allocator, compilation cache, crash messages."""
