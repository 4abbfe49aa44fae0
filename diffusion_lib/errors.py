"""One way to say that a name is unknown: the name, the known ones, and the nearest of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The `ValueError` to raise when `name` is none of the `known` names of a `kind` ("schedule", "dataset", …)."""
    known = list(known)
    nearest = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest and name is not None else ""
    return ValueError(f"unknown {kind} {name!r}; expected one of {', '.join(map(repr, known))}.{hint}")


def check_name(kind: str, name: object, known: Iterable[str]) -> None:
    """Raises `unknown_name` unless `name` is one of the `known` names of a `kind`; also where it is no text at all."""
    known = list(known)
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)
