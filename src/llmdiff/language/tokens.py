"""From prompts to token ids: templates, limits and padding.

A prompt is tokenised apart from the text around it, so the template's prefix is the same ids for every prompt, and a
control token that is spelled out in a prompt (``<|im_end|>``) is plain text, never control. Spaces at the end of the
prefix are tokenised with the prompt, as BPE vocabularies expect.
"""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from llmdiff.errors import LLMDiffError
from llmdiff.language import emphasis
from llmdiff.language.chat import chat_parts
from llmdiff.language.config import ExtractionConfig
from llmdiff.language.encoding import Tokens
from llmdiff.language.limits import within_seconds
from llmdiff.language.model import LanguageModel

_PROBE = "a"
_WORDS_SHOWN = 8
_TOKENS_SHOWN = 64  # of those that are cut, in which the words are looked for


def tokenize(llm: LanguageModel, prompts: Sequence[str], config: ExtractionConfig, *, weighted: bool = False) -> Tokens:
    """Returns the token ids of prompts in the config's template.

    The template's prefix is counted in ``skip``, and a first of two copies in ``again``; what follows the prompt in the
    template stays in the encoding, because those tokens have seen the whole prompt. Without a template, the tokens that
    the tokenizer adds by itself (such as a BOS) stay too. A prompt that yields no token at all becomes one BOS token
    (EOS or pad where the tokenizer has none), so the empty prompt has an encoding **[choice]**.

    Warns when a prompt is longer than ``max_tokens`` or than the LLM's context: once per prompt, or, of prompts that
    come in batches, as captions do, once for all.

    Args:
        llm: whose tokenizer is used.
        prompts: B texts, or a single one.
        config: template and token limit.
        weighted: True if ``(word:1.3)`` is a weight and not text, see `llmdiff.language.emphasis`.

    Returns:
        Tokens with ids and mask (B, S), padded on the right.

    Raises:
        LLMDiffError: if there is no prompt, template or tokenizer do not fit the LLM, or a weight is out of range.

    Example:
        >>> tokens = tokenize(llm, ["a red cup"], ExtractionConfig(template="Draw: {prompt}"))
        >>> llm.tokenizer.decode(tokens.ids[0, tokens.skip :])
        ' a red cup'
    """
    texts = as_texts(prompts)
    frame = make_frame(llm.tokenizer, config.template)
    limit = token_limit(llm, frame, config)
    parsed = [emphasis.parse(text) for text in texts] if weighted else []
    plain = [text for text, _ in parsed] or texts
    prompt_ids = [_plain(llm.tokenizer, frame.spaces + text) for text in plain]
    _warn_of_cuts(llm, prompt_ids, limit, is_chosen=limit == config.max_tokens)
    first = [_first_copy(llm, frame, text)[:limit] for text in plain]
    rows = [torch.tensor(_row(llm, frame, copy, ids[:limit])) for copy, ids in zip(first, prompt_ids, strict=True)]
    again = torch.tensor([len(copy) + len(frame.between) for copy in first]) if frame.doubled else None
    pad = next(iter(_ids_of(llm.tokenizer, "pad", "eos")), 0)
    ids = pad_sequence(rows, batch_first=True, padding_value=pad)
    if (largest := int(ids.max())) >= (known := llm.config.vocab_size):
        raise LLMDiffError(
            f"The tokenizer of {llm.name} gives a token the number {largest:,}, and the LLM has {known:,} tokens: "
            "it is that of another model; fetch both again."
        )
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
    begins = [len(frame.prefix)] * len(rows) if again is None else (again + len(frame.prefix)).tolist()
    weights = _weights(llm, frame, parsed, limit, begins, ids.shape).to(llm.device) if weighted else None
    return Tokens(ids.to(llm.device), mask.to(llm.device), frame.skip, weights, again)


def as_texts(prompts: Sequence[str]) -> list[str]:
    """Returns a list of texts that every tokenizer takes: a single prompt is a list of one, lone surrogates become "?".

    Raises:
        LLMDiffError: if there is none or one is not a text.
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise LLMDiffError("There is no prompt to encode; give at least one.")
    for text in texts:
        if not isinstance(text, str):
            raise LLMDiffError(f"A prompt must be a text, not {type(text).__name__}.")
    return [text.encode(errors="replace").decode() for text in texts]


@dataclass(frozen=True)
class Frame:
    """The ids around a prompt, the spaces tokenised with it, and the number of ids that are cut from the encoding.

    Of a doubled prompt, also the ids between its copies, and the spaces tokenised with the first.
    """

    prefix: list[int]
    suffix: list[int]
    spaces: str
    skip: int
    doubled: bool = False
    between: list[int] = field(default_factory=list)
    first_spaces: str = ""


def make_frame(tokenizer: PreTrainedTokenizerBase, template: str | None) -> Frame:
    """Returns the frame of a template, with the special tokens that the tokenizer puts around a text.

    Raises:
        LLMDiffError: if the template is "chat" and the tokenizer has no chat template that fits, see `chat_parts`.
    """
    head, tail = _specials(tokenizer)
    if template is None:
        return Frame(head, tail, "", skip=0)
    if template == "chat":
        before, after = chat_parts(tokenizer)
        head, tail = [], []
    else:
        before, *middle, after = template.split("{prompt}")
    ids, spaces = _before(tokenizer, before)
    prefix = head + ids
    frame = Frame(prefix, _control(tokenizer, after) + tail, spaces, skip=len(prefix))
    if template == "chat" or not middle:
        return frame
    between, own_spaces = _before(tokenizer, middle[0])
    return replace(frame, spaces=own_spaces, doubled=True, between=between, first_spaces=spaces)


def _before(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], str]:
    """The ids of a template's text before a prompt, and the spaces at its end that are tokenised with the prompt."""
    bare = text.rstrip(" ")
    spaces = text[len(bare) :]
    if _control(tokenizer, text + _PROBE) == _control(tokenizer, bare) + _control(tokenizer, _PROBE):
        spaces = ""  # the tokenizer puts a space before every text by itself
    return _control(tokenizer, bare), spaces


def _specials(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer adds before and after a text by itself."""
    whole = _coded(tokenizer, _PROBE)["input_ids"]
    bare = _coded(tokenizer, _PROBE, add_special_tokens=False)["input_ids"]
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at], whole[at + len(bare) :]


def _control(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of the template's own text, whose control tokens are meant."""
    ids: list[int] = _coded(tokenizer, text, add_special_tokens=False)["input_ids"]
    return ids


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a user's text, in which control tokens are spelled out."""
    coded = _coded(tokenizer, text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    ids: list[int] = coded["input_ids"]
    return ids


def _coded(tokenizer: PreTrainedTokenizerBase, text: str, **options: bool) -> Any:
    """What a tokenizer makes of a text, in limited time."""
    return within_seconds("The model's tokenizer", lambda: tokenizer(text, **options))


def _ids_of(tokenizer: PreTrainedTokenizerBase, *names: str) -> list[int]:
    """The ids of those of the tokenizer's special tokens (bos, eos, pad) that it has."""
    ids = [getattr(tokenizer, f"{name}_token_id") for name in names]
    return [i for i in ids if i is not None]


def token_limit(llm: LanguageModel, frame: Frame, config: ExtractionConfig) -> int:
    """The number of tokens of a prompt that are kept."""
    positions = getattr(llm.config, "max_position_embeddings", None) or float("inf")
    if llm.architecture != "decoder-only":  # RoBERTa counts its positions from 2, T5 has no number of its own
        positions = min(positions, llm.tokenizer.model_max_length)
    around = len(frame.prefix) + len(frame.between) + len(frame.suffix)
    room = min(config.max_tokens, (positions - around) / (2 if frame.doubled else 1))
    if room < 1:
        raise LLMDiffError(f"The template leaves no room for a prompt in the {positions} tokens that {llm.name} reads.")
    return int(room)


def _first_copy(llm: LanguageModel, frame: Frame, text: str) -> list[int]:
    """The ids of a prompt's first copy, none where it is there once."""
    return _plain(llm.tokenizer, frame.first_spaces + text) if frame.doubled else []


def _row(llm: LanguageModel, frame: Frame, first: list[int], prompt: list[int]) -> list[int]:
    """All ids of one prompt, at least one of them after what is cut."""
    row = frame.prefix + first + frame.between + prompt + frame.suffix
    if len(row) > frame.skip + len(first) + len(frame.between):
        return row
    return row + (_ids_of(llm.tokenizer, "bos", "eos", "pad") or [0])[:1]


def _weights(
    llm: LanguageModel,
    frame: Frame,
    parsed: list[tuple[str, list[float]]],
    limit: int,
    begins: list[int],
    shape: torch.Size,
) -> Tensor:
    """The weight of every token, (B, S): that of its last character, and 1 in the template and in a first copy."""
    weights = torch.ones(shape)
    for row, (text, of_characters) in enumerate(parsed):
        if all(weight == 1 for weight in of_characters):
            continue
        of_tokens = _token_weights(llm, frame.spaces + text, [1.0] * len(frame.spaces) + of_characters)[:limit]
        begin = begins[row]
        weights[row, begin : begin + len(of_tokens)] = torch.tensor(of_tokens)
    return weights


def _token_weights(llm: LanguageModel, text: str, of_characters: list[float]) -> list[float]:
    """The weight of every token of a text: that of its last character."""
    return [of_characters[max(begin, end - 1)] for begin, end in character_spans(llm, text)]


def character_spans(llm: LanguageModel, text: str) -> list[tuple[int, int]]:
    """Returns where each token of a user's text stands in it: its first character, and the one after its last.

    Raises:
        LLMDiffError: if the tokenizer does not know where its tokens are.

    Example:
        >>> character_spans(llm, "a cat")[0]
        (0, 1)
    """
    if not llm.tokenizer.is_fast:
        raise LLMDiffError(
            f"The tokenizer of {llm.name} cannot tell where its tokens are in a text, which weights of words and "
            "explanations need: leave them out."
        )
    options = dict.fromkeys(("split_special_tokens", "return_offsets_mapping"), True)
    coded = _coded(llm.tokenizer, text, add_special_tokens=False, verbose=False, **options)
    return [(begin, end) for begin, end in coded["offset_mapping"]]


def _warn_of_cuts(llm: LanguageModel, prompts: list[list[int]], limit: int, *, is_chosen: bool) -> None:
    """Warns of the prompts that have more tokens than are read, by choice or at the end of the LLM's context."""
    long = [ids for ids in prompts if len(ids) > limit]
    if long and len(prompts) > 1:
        _warn_of_long_captions(
            limit, "raise max_tokens" if is_chosen else f"choose an LLM that reads more than {llm.name}"
        )
    elif long:
        words = str(llm.tokenizer.decode(long[0][limit : limit + _TOKENS_SHOWN])).split()
        whole = len(words) <= _WORDS_SHOWN and len(long[0]) <= limit + _TOKENS_SHOWN
        _warn_of_cut(len(long[0]), limit, " ".join(words[:_WORDS_SHOWN]) + ("" if whole else " …"))


@functools.lru_cache(maxsize=4096)
def _warn_of_cut(count: int, limit: int, shown: str) -> None:
    warnings.warn(
        f"The prompt has {count} tokens and {limit} are read; the last {count - limit} are cut, from: {shown!r}",
        stacklevel=5,
    )


@functools.lru_cache(maxsize=64)
def _warn_of_long_captions(limit: int, remedy: str) -> None:
    warnings.warn(
        f"Some prompts have more than the {limit} tokens that are read, and their ends are cut: shorten them, or "
        f"{remedy}.",
        stacklevel=5,
    )
