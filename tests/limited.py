"""`python -m tests.limited SOFT HARD MODULE ...`: run a module in a process with these limits of open files."""

import os
import resource
import sys

if __name__ == "__main__":
    soft, hard, *module = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))
    os.execv(sys.executable, [sys.executable, "-m", *module])
