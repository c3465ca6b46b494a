"""The one error of this package."""


class EmbeddedError(Exception):
    """A fault that a person must mend. The message is one sentence that says how."""
