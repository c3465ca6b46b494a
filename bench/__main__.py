"""`python -m bench`: all comparisons, one results file, and the plots."""

from bench.campaign import main

main()
