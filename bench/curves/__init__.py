"""Curves: how latencies and costs change with one quantity, beside the peers.

Each curve is a function of the shared services and `CurveSettings` that yields a line of kind `point` for each server
and each value of the quantity (`x`); `__main__.py` is the command line, `bench.plots` draws the lines.

| module | curves |
|---|---|
| `sends` | `latency`, `connections`, `groups`, `nodes` |
| `pages` | `stored`, `conversations` |
| `rows` | the rows that `pages` reads |
"""
