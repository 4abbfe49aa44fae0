"""Seeds for random generators, derived from everything they depend on."""

import secrets

import numpy as np


def derived_seed(*numbers: int) -> int:
    """A 63-bit seed, hashed from these numbers (0 or more each) in this order; trailing zeros make no difference.

    torch's CPU generator uses 32 bits of a seed: among n seeds, about n^2 / 2^33 pairs give the same numbers (0.3 pairs for
    n = 50,000).
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def fresh_seed() -> int:
    """An unpredictable seed, for callers who want different numbers at each call."""
    return secrets.randbits(63)
