"""How far long work has come."""

from typing import Any


def progress_bar(total: int | None, visible: bool, unit: str = "step", **options) -> Any:
    """tqdm's bar, in a notebook or a terminal, as a context: `bar.update()` after each of `total` pieces of work."""
    from tqdm.auto import tqdm  # slow to import, and rarely wanted

    return tqdm(total=total, unit=unit, disable=not visible, **options)
