"""Checks of what a training loop returns: an average of the weights, a checkpoint, or nothing."""

from typing import Any

import torch
from torch import Tensor, nn

from diffusion_lib.exercises.diagnosis.report import Notes
from diffusion_lib.exercises.diagnosis.witness import Witness

NAMES = ("body.weight", "head.weight")


def about_returned(notes: Notes, result: Any, network: Witness, history: list[Tensor]) -> None:
    """Adds findings about a returned average or checkpoint. history: the weights (8,) before each call, and after the last."""
    if isinstance(result, dict) and not _is_weights(result):
        _about_checkpoint(notes, result)
    first, last = history[0], history[-1]
    moved = (last - first).norm()
    for average in _averages(result, network):
        if moved == 0:
            return
        if torch.equal(average, first):
            notes.find(
                "The average is never updated",
                f"it still has the first weights, while the trained ones have moved by {moved:.3g}",
                "decay * average + (1 - decay) * weights after each update",
                "the line that updates the average: a condition that never holds, a result that is not stored, or no call",
                11,
            )
            return
        way = ((average - first) @ (last - first) / moved**2).item()
        if torch.equal(average, last):
            notes.remarks.append("the returned copy has the current weights: it is not an average, unless its decay is 0")
        elif way < 0.5:
            notes.remarks.append(
                f"the average has come {way:.0%} of the way from the first weights to the trained ones: for so few steps its decay is high"
            )
        else:
            notes.passed.append(f"the average follows the weights ({way:.0%} of their way)")


def _is_weights(value: Any) -> bool:
    return isinstance(value, dict) and any(str(key).endswith(NAMES) for key in value)


def _weights(state: dict) -> Tensor | None:
    parts = [next((value for key, value in state.items() if str(key).endswith(name)), None) for name in NAMES]
    if not all(isinstance(part, Tensor) and part.numel() == 4 for part in parts):
        return None
    return torch.cat([part.detach().cpu().double().flatten() for part in parts if part is not None])


def _averages(result: Any, network: Witness) -> list[Tensor]:
    """The weights of all copies of the network in the returned value, except the network's own."""
    if isinstance(result, nn.Module):
        own = {id(weight) for weight in network.parameters()}
        if any(id(weight) in own for weight in result.parameters()):
            return []
        found = _weights(dict(result.state_dict()))
        return [] if found is None else [found]
    if isinstance(result, dict):
        if _is_weights(result):
            found = _weights(result)
            return [] if found is None else [found]
        # in a checkpoint, entries whose key names an average
        return [each for key, value in result.items() if any(word in str(key).lower() for word in ("ema", "average", "avg", "shadow"))
                for each in _averages(value, network)]  # fmt: skip
    if isinstance(result, list | tuple):
        return [each for value in result for each in _averages(value, network)]
    return []


def _about_checkpoint(notes: Notes, result: dict) -> None:
    holds_step = any(str(key).lower() in ("step", "epoch", "iteration", "global_step") for key in result)
    if not holds_step or not any(_is_weights(value) or isinstance(value, nn.Module) for value in result.values()):
        return
    states = [value.state_dict() if isinstance(value, torch.optim.Optimizer) else value for value in result.values()]
    if any(isinstance(state, dict) and {"state", "param_groups"} <= state.keys() for state in states):
        notes.passed.append("the checkpoint holds the optimizer's state")
        return
    notes.find(
        "The checkpoint lacks the optimizer",
        f"it holds {', '.join(repr(key) for key in result)}",
        "also the optimizer's state: without Adam's running means, a resumed run restarts with full-sized steps",
        "the dict that is saved: optimizer=optimizer.state_dict()",
        12,
    )
