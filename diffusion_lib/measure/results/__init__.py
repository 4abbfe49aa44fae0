"""Stored results of the scripts in benchmarks/, as JSON: notebooks show them without running the scripts."""

import json
from pathlib import Path

from diffusion_lib.errors import unknown_name

FOLDER = Path(__file__).parent


def load_results(name: str) -> dict:
    """The results called `name`, as benchmarks/`name`.py wrote them.

    "ddim_table": samplers from DDIM to DDPM by number of steps, on postcards. "postcards_quality": what the captioned model draws, compared
    with what was asked. "weights_quality": the other shipped models, compared with real images. "throughput": images per second in
    training and in network calls, compared with public networks; "throughput_colour": the same for 32x32 colour images.
    "time_to_quality": quality after a given training time, compared with public networks.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    if name not in known:
        raise unknown_name("results file", name, known)
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
