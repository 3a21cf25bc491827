"""Why a picture came out as it did: where the attention of words goes, what blocks weigh, what a word moves."""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.explanation.attention import WordAttention, draw_attention
    from llmdiff.explanation.blocks import BlockWeights, block_weights
    from llmdiff.explanation.exchange import Exchanges, exchange_words
    from llmdiff.explanation.explained import Explanation, explain
    from llmdiff.explanation.nearest import Nearest, nearest_prompts
    from llmdiff.explanation.plot import figure, write_figure
    from llmdiff.explanation.words import Word, words_of

__all__ = [
    "BlockWeights",
    "Exchanges",
    "Explanation",
    "Nearest",
    "Word",
    "WordAttention",
    "block_weights",
    "draw_attention",
    "exchange_words",
    "explain",
    "figure",
    "nearest_prompts",
    "words_of",
    "write_figure",
]

__getattr__ = lazy.names(
    __name__,
    {
        "attention": ("WordAttention", "draw_attention"),
        "blocks": ("BlockWeights", "block_weights"),
        "exchange": ("Exchanges", "exchange_words"),
        "explained": ("Explanation", "explain"),
        "nearest": ("Nearest", "nearest_prompts"),
        "plot": ("figure", "write_figure"),
        "words": ("Word", "words_of"),
    },
)
