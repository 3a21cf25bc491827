"""What a proxy has made of a prompt, as it is recorded in pictures."""

from pydantic import BaseModel, ConfigDict, Field

MOST = 16
"""Rewritings of a prompt at most: a picture that averages them costs as many times as much."""


class Rewriting(BaseModel):
    """What a proxy made of a prompt.

    Attributes:
        model: its name at the endpoint.
        instruction: what it was told to do.
        texts: its answers. A picture of one is drawn from it; one of several, from the mean of their predictions.

    Example:
        >>> rewriting = Rewriting(model="gpt-5", instruction="Resolve riddles.", texts=("a dog", "a brown dog"))
        >>> rewriting.of_picture(3, average=False).texts
        ('a brown dog',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    instruction: str
    texts: tuple[str, ...] = Field(min_length=1, max_length=MOST)

    def of_picture(self, number: int, average: bool) -> "Rewriting":
        """That of picture `number` (from 0) of the prompt: all texts, or those in turn.

        Drawing from one at a time samples the mixture of their pictures; the mean of several predictions is that of
        the product of their densities (docs/proxy.md).
        """
        alike = len(set(self.texts)) == 1
        texts = self.texts if average and not alike else (self.texts[number % len(self.texts)],)
        return self.model_copy(update={"texts": texts})
