"""The errors that end a task, each with the exit code that the workflow acts on.

An error says what is wrong in one line (file, row or column, value) and what to do about it in another.
"""


class RscError(Exception):
    """Base of the errors that a user can act on.

    Parameters
    ----------
    cause
        One line: the file, the row or column, and the value that is wrong.
    remedy
        One line: what to do about it.
    """

    exit_code = 1

    def __init__(self, cause: str, remedy: str):
        super().__init__(f"{cause} {remedy}")
        self.cause, self.remedy = cause, remedy


class InvalidInput(RscError, ValueError):
    """The input cannot be used as it is."""

    exit_code = 65


class BackendUnavailable(RscError):
    """The requested backend cannot run on this machine."""

    exit_code = 69


class MemoryExhausted(RscError, MemoryError):
    """The memory of the device or of the host did not suffice; the workflow retries a rung lower."""

    exit_code = 42
