from hypothesis import settings

from tests.server.quick_hashes import use_quick_hashes

# A deadline per example would test the machine; tests that bound work count the work instead.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Before any module of tests here takes the hasher by its name.
use_quick_hashes()
