"""Language: from a prompt to an encoding, one vector per token, read from the blocks of a decoder-only LLM."""

from llmdiff.language.config import EXTRACTIONS, ReadingConfig
from llmdiff.language.encode import encode
from llmdiff.language.encoding import Encoding, Tokens
from llmdiff.language.model import LanguageModel
from llmdiff.language.reading import read_stack, read_sum
from llmdiff.language.text_encoding import TextEncoding, condense, term_count
from llmdiff.language.tokens import tokenize

__all__ = [
    "EXTRACTIONS",
    "Encoding",
    "LanguageModel",
    "ReadingConfig",
    "TextEncoding",
    "Tokens",
    "condense",
    "encode",
    "read_stack",
    "read_sum",
    "term_count",
    "tokenize",
]
