"""Which sub-folders are classes and which are not."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from diffusion_lib.data.pictures import is_shown

TRAINING = {"train", "training", "trn", "trainset", "trainval"}
HELD_OUT = {"test", "tests", "testing", "tst", "testset", "val", "vals", "valid", "validation", "validate", "valset", "dev", "devset"}
HELD_OUT |= {"eval", "evaluation", "holdout", "heldout"}
CONTAINERS = {"image", "images", "img", "imgs", "jpegimages", "picture", "pictures", "pics", "photo", "photos", "data", "dataset"}
CONTAINERS |= {"datasets", "mask", "masks", "label", "labels", "annotation", "annotations"}
FILLERS = {"a", "b", "the", "my", "set", "split", "splits", "folder", "seg", "full", "raw"} | CONTAINERS  # as in seg_train or trainA


class Layout(NamedTuple):
    """Pictures by class."""

    folder: Path  # whose sub-folders are the classes
    of_class: dict[str, list[Path]]  # in the order of the labels; only "" if there are no classes
    notes: list[str]  # what the user should know about this choice


def find_classes(top: Path, pictures: list[Path]) -> Layout:
    """Sub-folders with pictures are classes; without them, there are no classes.

    A single folder around the classes, as in many archives, is opened. Raises `ValueError` if the folders are not classes (train and
    test, images and masks) or if pictures lie both beside and inside them.
    """
    of_class = defaultdict(list)
    for file in pictures:
        of_class[_first_folder(file, top)].append(file)
    names = sorted(of_class)
    if "" in names and len(names) > 1:
        raise ValueError(
            f"{top} contains images both beside and inside its sub-folders; expected one or the other (sub-folders are classes): "
            f"move {_some(file.name for file in of_class[''])} elsewhere, or load one sub-folder, as in {_written(top / names[1])}"
        )
    if names == [""]:
        return Layout(top, {"": of_class[""]}, [])
    inside = {name: {_first_folder(file, top / name) for file in of_class[name]} for name in names}
    if len(names) == 1 and ("" not in inside[names[0]] or _is_part(names[0]) or _is_container(names[0])):
        return _look_into(top / names[0], pictures)
    _check_for_parts(top, inside)
    return Layout(top, {name: of_class[name] for name in names}, [*_empty(top, names), *_doubts(top, inside)])


def _look_into(folder: Path, pictures: list[Path]) -> Layout:
    """The layout of the only folder with pictures."""
    layout = find_classes(folder, pictures)
    note = f"all images are in one folder, {folder.name!r}, which does not count as a class: it was loaded as {_written(folder)}"
    return layout._replace(notes=[note, *layout.notes])


def _check_for_parts(top: Path, inside: dict[str, set[str]]) -> None:
    """Raises if the folders are parts of a dataset. A single folder called train among others may be a class of vehicles."""
    parts = [name for name in inside if _is_part(name)]
    kinds = {_is_part(name) for name in parts}
    others = [name for name in inside if name not in parts and not _is_container(name)]
    if not others or len(kinds) > 1 or any("" not in inside[name] for name in parts):
        best = min(inside, key=lambda name: ("training", "held out", "").index(_is_part(name)))
        remedy = f"move {_some(parts)} elsewhere" if others else f"load one part, as in {_written(top / best)}"
        raise ValueError(
            f"{top} contains the folders {_some(inside)}, but {_some(parts or inside)} look like parts of a dataset, not like classes; "
            f"expected one folder per class: {remedy}, or rename them if they are classes"
        )


def _doubts(top: Path, inside: dict[str, set[str]]) -> list[str]:
    """Warnings if the folders may not be the intended classes."""
    notes = []
    for name in filter(_is_part, inside):
        others = _some(other for other in inside if other != name)
        notes.append(f"the folder {name!r} counts as a class, like {others}; if it is not one, move it away")
    number = Counter(chain.from_iterable(inside.values()))
    common = sorted(name for name in number if number[name] > 1 and name)
    if len(common) > 1 and all("" not in below for below in inside.values()):
        notes.append(
            f"the classes are {_some(inside)}, not the folders inside ({_some(common)}); if those are the classes, load one folder, "
            f"as in {_written(top / next(iter(inside)))}"
        )
    return notes


def _empty(top: Path, names: list[str]) -> list[str]:
    """A note on sub-folders without pictures, which may have been meant as classes."""
    with os.scandir(top) as entries:
        empty = sorted(entry.name for entry in entries if entry.is_dir() and is_shown(entry.name) and entry.name not in names)
    return [f"folders without images are not classes: {_some(empty)}"] if empty else []


def _first_folder(file: Path, top: Path) -> str:
    """The sub-folder of `top` that contains a file; empty if the file is in `top` itself."""
    parts = file.relative_to(top).parts
    return parts[0] if len(parts) > 1 else ""


def _is_part(name: str) -> str:
    """ "training" or "held out" for such names in any spelling (Train, test2017, seg_train, trainA), else empty."""
    words = set(re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold().replace("held_out", "heldout"))) - FILLERS
    if words and words <= TRAINING | HELD_OUT:
        return "training" if words & TRAINING else "held out"
    return ""


def _is_container(name: str) -> bool:
    return name.casefold() in CONTAINERS


def _some(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _written(folder: Path) -> str:
    return repr(f"folder:{folder}")
