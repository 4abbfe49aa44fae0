"""A progress bar for long work."""

from typing import Any


def progress_bar(total: int | None, visible: bool, unit: str = "step", **options) -> Any:
    """tqdm's bar, for a notebook or a terminal, as a context manager: call `bar.update()` after each of `total` pieces of work."""
    from tqdm.auto import tqdm  # slow to import and rarely needed

    return tqdm(total=total, unit=unit, disable=not visible, **options)
