"""Seeds of random generators, each made of all that it depends on."""

import secrets

import numpy as np


def derived_seed(*numbers: int) -> int:
    """A seed that depends on these numbers (0 or more each) and their order, but for zeros at the end: 63 bits, by hashing.

    Of its seed torch's generator for CPUs uses 32 bits: among n seeds, some n^2 / 2^33 pairs make the same numbers (for n = 50,000,
    0.3 pairs).
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def fresh_seed() -> int:
    """A seed that nobody can foresee, for those who want other numbers at each call."""
    return secrets.randbits(63)
