"""Texts as people write them: their encoding, their ends of lines, and whether they say anything."""

import unicodedata

_UNSEEN = frozenset(["Cc", "Cf", "Zs", "Zl", "Zp"])
"""Unicode's categories of controls, of marks without a width, and of spaces."""


def decoded(content: bytes) -> str:
    """A text in UTF-8, whose lines end in a line feed, whatever ended them, and which has no byte order marks.

    Raises:
        UnicodeError: It is not UTF-8, or has NUL characters: it is UTF-16, or a crash has left zeros in their place.

    Example:
        >>> decoded(b"\\xef\\xbb\\xbfa red fox\\r\\n")
        'a red fox\\n'
    """
    text = content.decode("utf-8").replace("\ufeff", "")
    if "\0" in text:
        raise UnicodeError("it has NUL characters, as UTF-16 has, or what a crash has left of a file")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def is_blank(text: str) -> bool:
    """True of a text without anything to see: of spaces, controls and marks without a width alone.

    Example:
        >>> is_blank(" \\u200b\\n"), is_blank("!")
        (True, False)
    """
    return all(unicodedata.category(letter) in _UNSEEN for letter in text)
