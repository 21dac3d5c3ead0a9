"""The error that people can do something about."""


class RefusalError(Exception):
    """Input, configuration or cluster are not as they must be: the message says what, where and the remedy.

    The command line shows the message alone; any other error is a fault of the program, with a traceback.
    """


class LedgerError(RefusalError):
    """The output folder belongs to another run, or its records contradict each other."""


class TransientError(RefusalError):
    """What went wrong may be over when the job is started again, which goes on where it stopped."""
