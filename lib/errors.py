"""The one error that bad input raises, whatever the room it is found in."""

from os import PathLike


class BadInput(ValueError):
    """Input that cannot be used: names its source (file, parameter), the problem and the remedy.

    Attributes hold the three parts as text, so that a run over many files can list what it skipped.
    """

    def __init__(self, source: str | PathLike, problem: str, remedy: str):
        self.source, self.problem, self.remedy = str(source), problem, remedy
        super().__init__(f"{self.source}: {problem}. {remedy}")

    def __reduce__(self):
        return type(self), (self.source, self.problem, self.remedy)
