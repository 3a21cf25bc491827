"""Damage to files: what number n of a run is, is a function of (seed, n)."""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"- ", b"&a ", b"*a", b"<<: ", b"!!int ", b"!!python/name:os ",
    b"NaN", b"1e999", b"-1", b"9" * 400, b"\\ud800", b"null", b"../", b"\0", b"\xff", b"[" * 300, b"0x", b"%s",
)  # fmt: skip
_BLOCK = 512  # of a tar file
Mutation = Callable[[np.random.Generator, bytearray], None]


def mutated(content: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    """A file with one to five faults: in its bytes, its numbers, its words, its length or its order."""
    result = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        kind = int(rng.integers(8))
        if kind == 0 and others:
            _splice(rng, result, others)
        elif result:
            _MUTATIONS[kind % len(_MUTATIONS)](rng, result)
    return bytes(result)


def with_valid_checksums(png: bytes) -> bytes:
    """A damaged PNG whose chunks are right by their checksums, so that decoders look further into them."""
    result, place = bytearray(png), 8
    while place + 12 <= len(result):
        length = int.from_bytes(result[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(result)


def with_valid_headers(tar: bytes) -> bytes:
    """A damaged tar file whose headers, wherever they were, are right by their checksums."""
    result = bytearray(tar)
    for place in range(0, len(result) - _BLOCK + 1, _BLOCK):
        block = result[place : place + _BLOCK]
        if block[257:262] == b"ustar":
            total = sum(block[:148]) + 8 * ord(" ") + sum(block[156:])
            result[place + 148 : place + 156] = f"{total:06o}\0 ".encode()
    return bytes(result)


def with_valid_ends(table: bytes) -> bytes:
    """A damaged parquet file that begins and ends as one does."""
    return b"PAR1" + table[4:-4] + b"PAR1"


def _place(rng: np.random.Generator, content: bytearray) -> int:
    """Any place, more often near the beginning, where headers are."""
    reach = len(content) if rng.random() < 0.5 else min(len(content), 200)
    return int(rng.integers(reach))


def _flip(rng: np.random.Generator, content: bytearray) -> None:
    content[_place(rng, content)] ^= 1 << int(rng.integers(8))


def _overwrite(rng: np.random.Generator, content: bytearray) -> None:
    number = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    width = max(1, (number.bit_length() + 7) // 8, int(rng.choice([1, 2, 4])))
    encoded = number.to_bytes(width, "big")
    place = _place(rng, content)
    content[place : place + width] = encoded if rng.random() < 0.5 else encoded[::-1]


def _say(rng: np.random.Generator, content: bytearray) -> None:
    place = _place(rng, content)
    content[place : place + int(rng.integers(4))] = _WORDS[int(rng.integers(len(_WORDS)))]


def _cut(rng: np.random.Generator, content: bytearray) -> None:
    del content[_place(rng, content) :]


def _remove(rng: np.random.Generator, content: bytearray) -> None:
    place = _place(rng, content)
    del content[place : place + int(rng.integers(1, 64))]


def _repeat(rng: np.random.Generator, content: bytearray) -> None:
    place = _place(rng, content)
    content[place:place] = content[place : place + int(rng.integers(1, 600))] * int(rng.integers(1, 9))


def _garble(rng: np.random.Generator, content: bytearray) -> None:
    place, count = _place(rng, content), int(rng.integers(1, 64))
    content[place : place + count] = rng.bytes(count)


def _splice(rng: np.random.Generator, content: bytearray, others: Sequence[bytes]) -> None:
    other = others[int(rng.integers(len(others)))]
    if content and other:
        content[_place(rng, content) :] = other[int(rng.integers(len(other))) :]


_MUTATIONS: tuple[Mutation, ...] = (_flip, _overwrite, _say, _cut, _remove, _repeat, _garble, _flip)
