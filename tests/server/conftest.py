from hypothesis import settings

# A deadline per example would test the machine; tests that bound work count the work instead.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
