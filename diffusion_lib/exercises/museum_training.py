"""Exhibits of notebook 06 about training: the gradient, and the checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_lib.exercises.checking import CLOSE, Exercise, Mistake, Verdict, close
from diffusion_lib.exercises.exhibit import AS_IT_STANDS, apart, comparable

# -------------------------------------------------------------------------------------------------------------------- gradient


def _mean_square(error: Tensor) -> Tensor:
    return error.square().mean()


def _gradient_of(backward: Callable[[Tensor], object], loss: Callable[[Tensor], Tensor] = _mean_square) -> Callable:
    def gradient(theta, target):
        theta = theta.clone().requires_grad_()
        backward(loss(theta - target))
        return theta.grad

    return gradient


def _twice(loss: Tensor) -> None:
    loss.backward(retain_graph=True)
    loss.backward()


_gradient = _gradient_of(lambda loss: loss.backward())


def _weights_and_targets(random: torch.Generator) -> list[tuple]:
    """Losses from 0.02 to 50, vectors and matrices, and gradients that clipping at 1 would change."""
    sizes = ((30,), 1.0), ((3,), 5.0), ((4, 6), 0.1), ((2, 3, 5), 2.0), ((1,), 3.0)
    return [tuple(size * torch.randn(2, *shape, generator=random)) for shape, size in sizes]


def _about_gradient(got, expected, theta, target) -> str | None:
    if not comparable(got, expected):
        return None
    factor = (got / expected).mean().item()
    if close(got, factor * expected):
        loss = _mean_square(theta - target).item()
        return f"this is {apart(factor, 1)[0]} times the gradient, where the loss is {loss:.4g} and theta has {theta.numel()} values"
    if (got.sign() == expected.sign()).all():
        return f"the signs are those of the gradient, the sizes are off by up to {(got - expected).abs().max().item():.3g}"
    return None


_SUM = "this is the gradient of the sum; the loss is the mean, whose gradient does not grow with the number of values"


@dataclass(frozen=True)
class _Differentiable(Exercise):
    """An answer may set requires_grad on its arguments: that changes no number."""

    def _verdict(self, attempt: Callable) -> Verdict:
        def asked(*arguments):
            try:
                return attempt(*arguments)
            finally:
                for argument in arguments:
                    argument.requires_grad_(False)

        return super()._verdict(asked)


check_exhibit_10 = _Differentiable(
    reference=_gradient,
    inputs=_weights_and_targets,
    diagnose=_about_gradient,
    mistakes=(
        Mistake(_gradient_of(lambda loss: loss.backward(loss)), AS_IT_STANDS),
        Mistake(_gradient_of(_twice), "this is twice the gradient; a second call of backward, for example, adds it again"),
        Mistake(_gradient_of(lambda loss: loss.backward(), lambda error: error.square().sum()), _SUM),
        Mistake(
            _gradient_of(lambda loss: loss.backward(loss), lambda error: error.square().sum()),
            "the argument of backward is still there, and the loss is the sum now: two things to fix",
        ),
        Mistake(
            lambda theta, target: (theta - target) / theta.numel(),
            "this is half the gradient; a factor of 2 is missing, or one of 1/2 too many",
        ),
        Mistake(
            lambda theta, target: theta - target, "this is the error; the mean of its squares has the derivative 2 (theta - target) / n"
        ),
        Mistake(_gradient_of(lambda loss: (-loss).backward()), "the sign is flipped: this walks uphill"),
        Mistake(_gradient_of(lambda loss: loss.backward(-loss)), "the sign is flipped, and the gradient is still multiplied by the loss"),
        Mistake(_gradient_of(lambda loss: loss.log().backward()), "this divides the gradient by the loss; leave it as it is"),
        Mistake(_gradient_of(lambda loss: loss.sqrt().backward()), "this is the gradient of the loss's root; leave the loss as it is"),
        Mistake(_gradient_of(lambda loss: loss.backward(loss.sqrt())), "this multiplies the gradient by the loss's root; leave it alone"),
        Mistake(_gradient_of(lambda loss: loss.square().backward()), "this is the gradient of the loss's square; leave the loss as it is"),
        Mistake(
            _gradient_of(lambda loss: loss.backward(), lambda error: error.abs().mean()),
            "this is the gradient of the mean absolute error; the loss squares",
        ),
        Mistake(lambda theta, target: _mean_square(theta - target), "this is the loss; expected its gradient"),
        Mistake(
            lambda theta, target: torch.nn.functional.normalize(_gradient(theta, target).flatten(), dim=0).view_as(theta),
            "the direction is right, but the length is always 1; the gradient gets shorter near the target",
        ),
        Mistake(lambda theta, target: _gradient(theta, target).clamp(-1, 1), "this clips the gradient to [-1, 1]; leave it as it is"),
        Mistake(
            lambda theta, target: _gradient(theta, target) / _gradient(theta, target).norm().clamp(min=1),
            "this clips the gradient's length to 1; leave it as it is",
        ),
        Mistake(lambda theta, target: torch.zeros_like(theta), "this is 0: nothing would be learnt"),
    ),
    praise="the argument of backward multiplies the gradient; left out, it is 1",
)


# ------------------------------------------------------------------------------------------------------------------ checkpoint


def _saved(network, optimizer, step):
    return dict(network=network.state_dict(), optimizer=optimizer.state_dict(), step=step)


def _run(random: torch.Generator) -> list[tuple]:
    """Networks with buffers and without, optimizers with settings and counts of their own."""
    runs = []
    for network, updates, step in (
        (torch.nn.Linear(3, 2), 1, 7),
        (torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), 3, 1200),
    ):
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01 * updates, betas=(0.8, 0.99))
        for _ in range(updates):
            optimizer.zero_grad()
            network(torch.randn(5, 3, generator=random)).square().sum().backward()
            optimizer.step()
        runs.append((network, optimizer, step))
    return runs


_KEYS = "network", "optimizer", "step"


def _what_is_asked_for(saved: dict) -> list:
    """The parts to compare. Other entries do no harm, unless a required one is missing: then their names count."""
    parts = [_kind_of(saved[name]) if name in saved else None for name in _KEYS]
    return parts if None not in parts else [*parts, *(str(name) for name in saved if name not in _KEYS)]


def _kind_of(part: Any) -> Any:
    """Numbers and states unchanged; for other parts the type, and for a list of dicts also the keys."""
    if isinstance(part, int | float | Tensor) or _is_state(part):
        return part
    names = sorted(map(str, part[0])) if isinstance(part, list) and part and isinstance(part[0], dict) else ""
    return f"{type(part).__name__} {names}"


def _is_state(part: Any) -> bool:
    return isinstance(part, dict) and all(isinstance(key, str | int) for key in part)


def _first_difference(ours: Any, theirs: Any, path: str = "") -> str | None:
    """The first difference between nested dicts and lists, in words, with its path."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            return f"{path} is a {type(ours).__name__}; expected a dict"
        if missing := [name for name in theirs if name not in ours]:
            return f"{path} lacks the entry {missing[0]!r}"
        if more := [name for name in ours if name not in theirs]:
            return f"{path} also has {more[0]!r}, which is not in the state_dict"
        return next((said for name in theirs if (said := _first_difference(ours[name], theirs[name], f"{path}[{name!r}]"))), None)
    if isinstance(theirs, tuple | list):
        if not isinstance(ours, tuple | list) or len(ours) != len(theirs):
            return f"{path} is not as it was"
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next((said for i, pair in pairs if (said := _first_difference(*pair, f"{path}[{i}]"))), None)
    if isinstance(theirs, Tensor):
        if not isinstance(ours, Tensor) or ours.shape != theirs.shape:
            return f"{path} is not a tensor of shape {tuple(theirs.shape)}"
        if torch.allclose(ours.double(), theirs.double(), rtol=CLOSE["rtol"], atol=CLOSE["atol"]):
            return None
        if not ours.any():
            return f"{path} is all 0, and was not"
        return f"{path} is off by up to {(ours.double() - theirs.double()).abs().max().item():.3g}" + (
            f", in {ours.dtype}, which keeps few digits" if ours.dtype in (torch.float16, torch.bfloat16) else ""
        )
    return None if type(ours) is type(theirs) and ours == theirs else f"{path} is {ours!r}; expected {theirs!r}"


def _about_state(name: str, ours: Any, theirs: dict, other: dict) -> str | None:
    """What is wrong with the saved state of the network or the optimizer."""
    call = f"{name}.state_dict()"
    if isinstance(ours, torch.nn.Module | torch.optim.Optimizer):
        return f"{name!r} is the {type(ours).__name__} itself; expected {call}"
    if not isinstance(ours, dict):
        return f"{name!r} is {'None' if ours is None else f'a {type(ours).__name__}'}; expected {call}, a dict"
    if name == "optimizer" and any(isinstance(key, Tensor) for key in ours):
        return f"'optimizer' is optimizer.state, without the settings, and its keys are weights that only this run has; expected {call}"
    if name == "optimizer" and "state" in ours and not ours["state"]:
        return f"the optimizer's state is empty: Adam's two running means are missing; expected {call} of the given optimizer"
    if ours.keys() == other.keys() != theirs.keys():
        return f"{name!r} holds the state of the {'network' if name == 'optimizer' else 'optimizer'}"
    if said := _first_difference(ours, theirs, name):
        return f"{said}; take all of {call}, as it is"
    return None


def _about_checkpoint(got, expected, network, optimizer, step) -> str | None:
    if not isinstance(got, dict):
        return f"this is a {type(got).__name__}; expected a dict with the keys 'network', 'optimizer' and 'step'"
    missing = [name for name in expected if name not in got]
    unknown = [name for name in got if name not in expected]
    if len(missing) == len(unknown) == 1:
        return f"{unknown[0]!r} is not a key that `run` looks for; expected {missing[0]!r}"
    if missing:
        known = ", ".join(repr(name) for name in got if isinstance(name, str))[:100]
        return f"it lacks {' and '.join(map(repr, missing))}: expected the keys 'network', 'optimizer', 'step', got {known or 'none'}"
    for name, other in (("network", "optimizer"), ("optimizer", "network")):
        if said := _about_state(name, got[name], expected[name], expected[other]):
            return said
    return f"'step' is {got['step']!r}; expected {step}, the given step, as an integer"


def _with(**parts: Callable) -> Callable:
    """A function that saves these functions of the network, the optimizer and the step."""
    return lambda network, optimizer, step: {name: part(network, optimizer, step) for name, part in parts.items()}


_NETWORK, _OPTIMIZER, _STEP = (
    lambda network, optimizer, step: network.state_dict(),
    lambda network, optimizer, step: optimizer.state_dict(),
    lambda network, optimizer, step: step,
)

check_exhibit_12 = Exercise(
    reference=_saved,
    inputs=_run,
    look=_what_is_asked_for,
    diagnose=_about_checkpoint,
    mistakes=(
        Mistake(_with(network=_NETWORK, step=_STEP), AS_IT_STANDS),
        Mistake(
            _with(network=_NETWORK, optimizer=_OPTIMIZER),
            "the step is lost now, and with it the place in the learning rate's schedule: keep network, optimizer and step",
        ),
        Mistake(
            _with(optimizer=_OPTIMIZER, step=_STEP),
            "the weights are missing: keep network, optimizer and step",
        ),
        Mistake(
            _with(network=_NETWORK, step=_STEP, optimizer=lambda network, optimizer, step: optimizer.param_groups),
            "param_groups hold the settings; Adam's two running means are in optimizer.state_dict()",
        ),
        Mistake(
            _with(
                network=_NETWORK,
                step=_STEP,
                optimizer=lambda network, optimizer, step: {"param_groups": optimizer.state_dict()["param_groups"]},
            ),
            "param_groups hold the settings; Adam's two running means are in optimizer.state_dict() as well, under 'state'",
        ),
        Mistake(
            _with(network=_NETWORK, step=_STEP, optimizer=lambda network, optimizer, step: {"state": optimizer.state_dict()["state"]}),
            "Adam's two running means are there; the settings (param_groups) are missing: take all of optimizer.state_dict()",
        ),
        Mistake(
            _with(network=_NETWORK, step=_STEP, optimizer=lambda network, optimizer, step: optimizer.defaults),
            "these are the optimizer's settings; Adam's two running means are in optimizer.state_dict()",
        ),
        Mistake(
            _with(network=_NETWORK, optimizer=_OPTIMIZER, step=lambda network, optimizer, step: step + 1),
            "this is the step after the given one: `run` would skip one",
        ),
        Mistake(
            _with(network=_NETWORK, optimizer=_OPTIMIZER, step=lambda network, optimizer, step: step - 1),
            "this is the step before the given one: `run` would repeat one",
        ),
        Mistake(
            _with(network=_NETWORK, optimizer=_OPTIMIZER, step=lambda network, optimizer, step: 0),
            "the step is 0: the run would start over; keep the given step",
        ),
        Mistake(_with(network=_OPTIMIZER, optimizer=_NETWORK, step=_STEP), "the states of network and optimizer are swapped"),
        Mistake(
            _with(network=lambda network, optimizer, step: dict(network.named_parameters()), optimizer=_OPTIMIZER, step=_STEP),
            "the network's buffers (for example a BatchNorm's running means) are missing: take network.state_dict(), which has them",
        ),
    ),
    praise="a resumed run needs the optimizer's averages (and EMA, scaler and random state, if it has them)",
)
