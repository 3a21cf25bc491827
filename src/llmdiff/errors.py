"""The one exception that a user of llmdiff is meant to read."""


class LLMDiffError(Exception):
    """Something the user can mend: one sentence that says what is wrong and what to do.

    The command line prints the sentence without a traceback and exits with status 1.
    """
