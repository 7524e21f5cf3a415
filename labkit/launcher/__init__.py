"""What `lab.py` does before anything is installed: set up, keep the learner's copy, examine.

Standard library only. `lab.py` loads this folder by its path, because importing labkit itself
would need packages that are not there yet.
"""


class LabError(Exception):
    """A problem that the learner can act on; its message is one sentence.

    >>> raise LabError("Port 8888 is taken: close what uses it.")
    Traceback (most recent call last):
    ...
    labkit.launcher.LabError: Port 8888 is taken: close what uses it.
    """


class NoNetworkError(LabError):
    """Packages could not be downloaded; nothing in the environment has changed.

    >>> issubclass(NoNetworkError, LabError)
    True
    """


def say(text: str) -> None:
    """Print one line at once, also into a pipe.

    >>> say("The lab is set up.")
    The lab is set up.
    """
    print(text, flush=True)
