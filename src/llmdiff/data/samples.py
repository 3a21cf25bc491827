"""The samples of a shard: a picture and its captions, told by the names of its members as WebDataset has them.

The key of a sample is the name up to its first dot, and what follows says which part of the sample a member is. Names
with more dots are told apart by their last one where the picture has captions of its own: `1.5.jpg` and `1.5.txt`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from llmdiff.data.captions import CAPTION_SUFFIXES
from llmdiff.data.errors import Kind, PassedOver
from llmdiff.data.store import SUFFIXES
from llmdiff.data.tar import Member
from llmdiff.data.tree import special_kind


class Sample(NamedTuple):
    """A picture, and the member that has its captions, if there is one."""

    picture: Member
    captions: Member | None


def samples_of(members: Iterable[Member]) -> Iterator[Sample | PassedOver]:
    """The samples of a shard in its order, and what is passed over.

    Args:
        members: of one shard. Those of one sample stand together; captions are found wherever they stand.
    """
    groups = [list(group) for _, group in groupby(filter(_is_users_own, members), key=_key)]
    elsewhere = {_key(group[0]): group for group in groups if not any(map(_is_picture, group))}
    used: set[Member] = set()
    for group in groups:
        for sample in _samples(group, [*group, *elsewhere.get(_key(group[0]), [])]):
            used.update(one for one in sample if one)
            yield sample
    for member in members:
        if member not in used:
            yield PassedOver(f"{member.shard}: {member.name}", _kind_of_unused(member))


def _samples(group: Sequence[Member], around: Sequence[Member]) -> Iterator[Sample]:
    """Those of members with one key; `around` has more members with that key."""
    pictures = [member for member in group if _is_picture(member)]
    plain = next((picture for picture in pictures if _split(picture)[0] == _key(picture)), None)
    captions = {picture: _captions(_split(picture)[0], around) for picture in pictures}
    has_any = any(member for member in around if _split(member)[1] in CAPTION_SUFFIXES)
    for picture in pictures:
        is_dotted = _split(picture)[0] != _key(picture)
        if picture is plain or (is_dotted and captions[picture]):
            yield Sample(picture, captions[picture])
        elif plain is None and (len(pictures) == 1 or not has_any):
            yield Sample(picture, _captions(_key(picture), around))


def _captions(stem: str, members: Sequence[Member]) -> Member | None:
    by_suffix = {suffix: member for member in members for one, suffix in [_split(member)] if one == stem}
    return next((by_suffix[suffix] for suffix in CAPTION_SUFFIXES if suffix in by_suffix), None)


def _key(member: Member) -> str:
    folder, slash, file = member.name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _split(member: Member) -> tuple[str, str]:
    """The name up to its last dot, and the suffix."""
    stem, dot, suffix = member.name.rpartition(".")
    return (stem, dot + suffix.lower()) if dot and "/" not in suffix else (member.name, "")


def _is_picture(member: Member) -> bool:
    return _split(member)[1] in SUFFIXES


def _special_kind(member: Member) -> Kind | None:
    parts = (part for part in member.name.split("/") if part not in ("", ".", ".."))
    return next(filter(None, map(special_kind, parts)), None)


def _is_users_own(member: Member) -> bool:
    return _special_kind(member) is None


def _kind_of_unused(member: Member) -> Kind:
    if kind := _special_kind(member):
        return kind
    if _is_picture(member):
        return Kind.SECOND
    return Kind.SPARE if _split(member)[1] in CAPTION_SUFFIXES else Kind.UNKNOWN
