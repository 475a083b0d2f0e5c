"""What can go wrong around the embedded server.

EmbeddedError
├── PreflightError   this machine or this Python cannot run the server; the message names the remedy
├── StoreInUse       another live server holds the store
├── PortInUse        another process listens on a port that was asked for
├── StartFailed      the server died, or a model did not load; the message holds the server's own words
│   ├── StartCrashed it was ended by a signal, or took a process of a model for dead; it is started once more
│   └── StartTimeout the server is alive, but a pipeline did not become ready in time
└── ServerCallFailed the running server answered a call of ours with an error, or not at all
"""


class EmbeddedError(Exception):
    """Base of all errors of this package."""


class PreflightError(EmbeddedError):
    """This machine or this Python cannot run the embedded server; the message names the remedy."""


class StoreInUse(EmbeddedError):
    """Another live server holds the store."""


class PortInUse(EmbeddedError):
    """Another process listens on a port that was asked for."""


class StartFailed(EmbeddedError):
    """The server died or a model did not load while starting."""


class StartCrashed(StartFailed):
    """The server was ended by a signal while starting, or took a live process of a model for dead.

    Triton 2.51 may do either on a busy machine, whatever it loads.
    """


class StartTimeout(StartFailed):
    """A pipeline did not become ready in time."""


class ServerCallFailed(EmbeddedError):
    """The running server refused a call, or could not be reached.

    `status` is the HTTP status, 0 where no answer came.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
