"""`python -m bench`: the comparison, short enough to wait for. `python -m bench.compare` is the whole of it."""

from bench.compare import main

main("python -m bench", rounds=2, seconds=3.0)
