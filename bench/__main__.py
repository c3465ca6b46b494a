"""`python -m bench`: a short comparison. `python -m bench.compare` is the whole comparison."""

from bench.compare import main

main("python -m bench", rounds=2, seconds=3.0)
