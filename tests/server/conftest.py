from hypothesis import settings

# A deadline per example would be a test of the machine; the tests that bound work count it.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
