"""The error for an unknown name: it lists the known names and suggests the nearest."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: object, known: Iterable[str]) -> ValueError:
    """The `ValueError` to raise when `name` is not one of the `known` names of a `kind` ("schedule", "dataset", …)."""
    known = list(known)
    nearest = get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest and name is not None else ""
    return ValueError(f"unknown {kind} {name!r}; expected one of {', '.join(map(repr, known))}.{hint}")


def check_name(kind: str, name: object, known: Iterable[str]) -> None:
    """Raises `unknown_name` unless `name` is one of the `known` names of a `kind`; also if it is not a string."""
    known = list(known)
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)
