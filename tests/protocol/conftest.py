import os

from hypothesis import settings

# A deadline per example would be a test of the machine; the tests that bound work count it.
settings.register_profile("protocol", deadline=None, max_examples=int(os.environ.get("EXAMPLES", "50")))
settings.load_profile("protocol")
