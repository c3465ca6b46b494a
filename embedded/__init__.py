"""Postgres and Redis as child processes, and the runner of the Procfile.

For a newcomer, the tests and the benchmarks; a deployment brings its own services and never imports this.
"""
