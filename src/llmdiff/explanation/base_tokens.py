"""Which tokens of a base model's own text encoder belong to which characters of a prompt.

Pipelines make their tokens each in its own way: in lower case, behind an instruction, cut. So the ids are taken from
the text encoder's call, and the prompt's own tokens are looked for among them.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from llmdiff.language.spans import Span

_INSERTED = 16  # tokens that a pipeline may put into a prompt


class PromptIds:
    """Within this context, the ids of the first text that a pipeline's first text encoder reads are taken down.

    Args:
        pipe: its tokenizer is asked for the characters of each token.

    Attributes:
        ids: of the first row; None as long as nothing was read.
    """

    def __init__(self, pipe: Any) -> None:
        self._encoder = getattr(pipe, "text_encoder", None)
        self._tokenizer = getattr(pipe, "tokenizer", None)
        self._handle: RemovableHandle | None = None
        self.ids: list[int] | None = None

    def __enter__(self) -> "PromptIds":
        if isinstance(self._encoder, nn.Module):
            self._handle = self._encoder.register_forward_pre_hook(self._take, with_kwargs=True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._handle is not None:
            self._handle.remove()

    def _take(self, _encoder: nn.Module, args: Any, kwargs: Any) -> None:
        ids = args[0] if args else kwargs.get("input_ids")
        if self.ids is None and ids is not None:
            self.ids = ids[0].tolist()

    def spans(self, prompt: str, length: int) -> list[Span | None] | None:
        """Where the tokens of the text features stand in a prompt, None of those that are not of it.

        Args:
            prompt: that was read first.
            length: how many tokens the features have. Where they are fewer than were read, they are the first and the
                last ones, as in Sana, whose instruction is cut; what is more is of another text encoder.

        Returns:
            As many as `length`; None if the tokenizer does not know where its tokens are.
        """
        if self.ids is None or not getattr(self._tokenizer, "is_fast", False):
            return None
        spans = spans_among(self.ids, self._tokenizer, prompt)
        if length < len(spans):
            spans = [spans[0], *spans[len(spans) - length + 1 :]]
        return spans + [None] * (length - len(spans))


def spans_among(ids: Sequence[int], tokenizer: Any, prompt: str) -> list[Span | None]:
    """The span of each id in a prompt, None of ids that are not the prompt's own tokens.

    Args:
        ids: what a text encoder read: the prompt, as it is or in lower case, with something around it, perhaps cut.
            Its first word has another token where a space stands before it.
        tokenizer: a fast one.
        prompt: the prompt.
    """
    best: list[Span | None] = [None] * len(ids)
    longest = 0
    for text in (prompt, prompt.lower(), f" {prompt}", f" {prompt.lower()}"):
        spans, size = _spans(ids, tokenizer, text, len(text) - len(prompt))
        if size > longest:
            best, longest = spans, size
    return best


def _spans(ids: Sequence[int], tokenizer: Any, text: str, shift: int) -> tuple[list[Span | None], int]:
    """The span of each id in a text, `shift` characters further left, and the length of the longest run of them.

    Beside that run, others are taken that are as far from it as in the text, but for a few tokens that were put between
    them, as those of a textual inversion are.
    """
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
    offsets = [(max(0, begin - shift), max(0, end - shift)) for begin, end in coded["offset_mapping"]]
    blocks = SequenceMatcher(None, ids, coded["input_ids"], autojunk=False).get_matching_blocks()
    longest = max(blocks, key=lambda block: block.size)
    spans: list[Span | None] = [None] * len(ids)
    for block in blocks:
        if abs((block.a - block.b) - (longest.a - longest.b)) <= _INSERTED:
            spans[block.a : block.a + block.size] = offsets[block.b : block.b + block.size]
    return spans, longest.size
