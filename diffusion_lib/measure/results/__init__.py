"""What the scripts in benchmarks/ measured, shipped as JSON so that notebooks can show it where the scripts cannot be run."""

import json
from pathlib import Path

from diffusion_lib.errors import unknown_name

FOLDER = Path(__file__).parent


def load_results(name: str) -> dict:
    """The results called `name`, as benchmarks/`name`.py wrote them.

    "sampler_quality": DDPM and DDIM by number of steps. "weights_quality": the models that ship, beside real images.
    "throughput": images a second of training and of network calls, beside public networks.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    if name not in known:
        raise unknown_name("results file", name, known)
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
