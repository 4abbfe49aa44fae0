"""A run whose second checkpoint does not fit on the disk: after the first, no file may grow beyond half a checkpoint.

full_disk.py FOLDER: trains with checkpoints in FOLDER.
"""

import resource
import signal
import sys
from pathlib import Path

from helpers import CONFIG, tiny_dataset, tiny_denoiser

import diffusion_lib as dl

folder = Path(sys.argv[1])
for step in dl.train(tiny_denoiser(), tiny_dataset(), CONFIG, folder):
    if step.step == 3:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        half = (folder / "step-00000003.pt").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
