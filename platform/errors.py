"""The three ways in which input can be wrong; everything else is a programmer error and stays an assert.

ValueError
  UserError     a wrong argument, path or configuration: ends the command with one sentence
  RecordError   one ECG record cannot be used: rejected, counted in dataset.json, stops nothing else
  PageError     one picture cannot be read: a status in the scores, a 4xx from the endpoint
"""


class UserError(ValueError):
    """A mistake in what the user asked for. The message is one sentence: the value, the place and the fix."""


class _RejectedError(ValueError):
    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason
        """Stable snake_case word by which rejections are counted, such as `truncated_signal`."""

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, str(self))


class RecordError(_RejectedError):
    """One ECG record cannot be used. The message names the file."""


class PageError(_RejectedError):
    """One picture cannot be read as a page. The message names what is wrong with its bytes or pixels."""
