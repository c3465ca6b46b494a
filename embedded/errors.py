"""The one error of this package."""


class EmbeddedError(Exception):
    """Something a person has to put right; the message is one sentence that says how."""
