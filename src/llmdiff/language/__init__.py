"""Language: from a prompt to an encoding, one vector per token, from the blocks of a decoder-only LLM."""

from llmdiff.language.config import EXTRACTIONS, ExtractionConfig
from llmdiff.language.encode import encode
from llmdiff.language.encoding import Encoding, Tokens
from llmdiff.language.extraction import extract_stack, extract_sum
from llmdiff.language.model import LanguageModel
from llmdiff.language.text_encoding import TextEncoding, condense, term_count
from llmdiff.language.tokens import tokenize

__all__ = [
    "EXTRACTIONS",
    "Encoding",
    "ExtractionConfig",
    "LanguageModel",
    "TextEncoding",
    "Tokens",
    "condense",
    "encode",
    "extract_stack",
    "extract_sum",
    "term_count",
    "tokenize",
]
