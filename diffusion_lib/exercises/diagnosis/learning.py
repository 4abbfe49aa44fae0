"""Checks of the target, read from the gradient at the network's output, and of the optimizer's updates."""

from itertools import pairwise

import torch
from torch import Tensor

from diffusion_lib.exercises.diagnosis.noising import Known
from diffusion_lib.exercises.diagnosis.report import Notes
from diffusion_lib.exercises.diagnosis.witness import Lesson
from diffusion_lib.process import TARGETS


def about_target(notes: Notes, lessons: list[Lesson], known: Known, predicts: str) -> None:
    """Adds findings about the target. lessons: those whose images are the rows of `known`, in order, each with its gradient.

    For any loss that grows with each pixel's error, the gradient at the output has the sign of output - target.
    """
    output, gradient = (torch.cat([getattr(each, name) for each in lessons])[known.rows] for name in ("output", "gradient"))
    taught = gradient.abs().amax(dim=1) > 0
    if not taught.any():
        return
    x0, eps, signal, noise = (each[taught] for each in known[1:])
    output, gradient = output[taught], gradient[taught]
    a_b = {name: factors(signal, noise) for name, factors in TARGETS.items()}
    targets = {name: a * x0 + b * eps for name, (a, b) in a_b.items()}
    targets |= {f"-{name}": -target for name, target in list(targets.items())}
    targets |= {"xt": signal * x0 + noise * eps, "the scaled noise, xt - sqrt(alpha_bar_t) x0": noise * eps, "0": torch.zeros_like(eps)}
    agree = {name: _agreement(output - target, gradient) for name, target in targets.items()}
    uphill = 1 - agree[predicts] > 0.995
    if uphill or agree[predicts] > 0.995:
        if uphill:
            notes.find(
                "The loss has the wrong sign",
                "the gradient at the network's output points away from the target: training goes uphill",
                "a loss that falls as the output gets nearer to the target",
                "a minus in front of the loss",
            )
        else:
            notes.passed.append(f"target: {predicts}")
        _about_size(notes, lessons, known, targets[predicts], taught)
        return
    best = max(agree, key=lambda name: agree[name])
    said = f"the gradient at the network's output points to {predicts} in {agree[predicts]:.0%} of the pixels (half is chance)"
    if agree[best] > 0.995:
        notes.find(
            "The network learns another target",
            f"{said}; it points to {best} in {agree[best]:.0%}",
            f"{predicts}, in all",
            "the second argument of the loss, such as F.mse_loss(network(xt, t), eps)",
        )
    else:
        notes.find(
            "The target is not the noise in xt" if predicts == "eps" else f"The target is not {predicts}",
            f"{said}; the nearest of the usual targets is {best}, with {agree[best]:.0%}",
            f"{predicts} of the same x0, eps and t as in xt, in all",
            "the second argument of the loss. Candidates: other noise than that in xt (a second randn_like), another t, a shuffled batch",
        )


def _agreement(error: Tensor, gradient: Tensor) -> float:
    return (error.sign() == gradient.sign()).double().mean().item()


def _about_size(notes: Notes, lessons: list[Lesson], known: Known, target: Tensor, taught: Tensor) -> None:
    """Checks the size of the gradient: that of the loss, or multiplied by something that changes with the loss."""
    call = torch.cat([torch.full((len(each.output),), i) for i, each in enumerate(lessons) if each.output is not None])[known.rows][taught]
    output, gradient = (torch.cat([getattr(each, name) for each in lessons])[known.rows][taught] for name in ("output", "gradient"))
    error = output - target
    likeness = torch.nn.functional.cosine_similarity(error, gradient, dim=1).abs()
    if likeness.median() < 0.999:
        return  # not a squared error
    size = (gradient * error).sum(dim=1).abs() / error.square().sum(dim=1)
    losses, sizes = [], []
    for i in call.unique().tolist():
        losses.append(error[call == i].square().mean())
        sizes.append(size[call == i].median() * lessons[i].values / 2)
    loss, times = torch.stack(losses).log(), torch.stack(sizes).log()
    if len(losses) < 5 or loss.std() < 0.1:
        return
    slope = (((loss - loss.mean()) * (times - times.mean())).sum() / (loss - loss.mean()).square().sum()).item()
    together = torch.corrcoef(torch.stack([loss, times]))[0, 1].item() if times.std() > 1e-6 else 0.0
    if abs(slope) > 0.3 and abs(together) > 0.8:
        root = abs(slope + 0.5) < 0.2
        notes.find(
            "The gradient is multiplied by a power of the loss",
            f"it grows as the loss to the power {slope:.2f}, beyond the gradient of the mean squared error",
            "the power 0: the gradient of the loss itself",
            "a root around the loss" if root else "the argument of backward, loss.backward(loss): loss.backward()",
            10,
        )
        return
    factor = torch.stack(sizes).median().item()
    values = lessons[0].values
    if abs(factor / values - 1) < 0.02:
        notes.remarks.append("the loss is a sum over images and pixels, not a mean: its gradient grows with the batch")
    else:
        notes.passed.append("gradient at the output: that of a squared error" + ("" if abs(factor - 1) > 0.02 else ", averaged"))


def about_updates(notes: Notes, lessons: list[Lesson], last: Tensor, names: list[str]) -> None:
    """Adds findings about the optimizer. lessons: the calls with gradients. last: the weights (8,) after the run; names: of both layers."""
    if not lessons:
        notes.find(
            "The network is only called without gradients",
            "torch.is_grad_enabled() is False in every call",
            "True: the loss has to be differentiated",
            "torch.no_grad() around the call of the network",
        )
        return
    if not any(each.fresh for each in lessons):
        if len(lessons) > 1:
            notes.find(
                "No gradient reaches the network",
                f"none in {len(lessons)} calls",
                "one for each call",
                "loss.backward() is missing, or the output is cut from the graph: .detach(), .item(), .data, no_grad",
            )
        return
    weights = [each.weights for each in lessons] + [last]
    moved = [not torch.equal(a, b) for a, b in pairwise(weights)]
    if not any(moved):
        if sum(bool(each.fresh) for each in lessons) > 10:
            notes.find(
                "The weights never change",
                f"after {len(lessons)} calls and gradients they are unchanged",
                "an update after each gradient, or after a few",
                "optimizer.step() is missing, the learning rate is 0, or the optimizer has other parameters than network.parameters()",
            )
        return
    still = [name for i, name in enumerate(names) if all(torch.equal(weights[0][4 * i : 4 * i + 4], w[4 * i : 4 * i + 4]) for w in weights)]
    if still:
        notes.find(
            "A part of the weights never changes",
            f"{', '.join(still)}, in {len(lessons)} calls",
            "updates of all weights that have a gradient",
            "the parameters that the optimizer is given: network.parameters()",
        )
    _about_leftovers(notes, lessons, moved, names)
    _about_direction(notes, lessons, weights, moved, names)


def _about_leftovers(notes: Notes, lessons: list[Lesson], moved: list[bool], names: list[str]) -> None:
    """Checks whether .grad still holds old gradients right after an update."""
    compared, left, sizes = 0, 0, []
    for before, lesson in zip(moved, lessons[1:], strict=False):
        known = [name for name in names if before and name in lesson.fresh and name in lesson.held]
        more = [((lesson.held[name] - lesson.fresh[name]).norm() / lesson.fresh[name].norm().clamp(min=1e-12)).item() for name in known]
        compared += bool(more)
        if more and min(more) > 0.02:  # in all weights: those that the optimizer does not have keep theirs
            left += 1
            sizes.append(max(more))
    if compared and left > compared / 2:
        notes.find(
            "Gradients are not cleared",
            f"after {left} of {compared} updates .grad still holds old gradients, up to {max(sizes):.3g} times the size of the new one",
            "only what was computed since the last update",
            "optimizer.zero_grad(), once for each optimizer.step()",
        )
    elif compared:
        notes.passed.append("gradients are cleared after each update")


def _about_direction(notes: Notes, lessons: list[Lesson], weights: list[Tensor], moved: list[bool], names: list[str]) -> None:
    """Checks whether the first update goes downhill."""
    first = moved.index(True)
    lesson = lessons[first]
    if not all(name in lesson.held for name in names):
        return
    step = weights[first + 1] - weights[first]
    slope = (step * torch.cat([lesson.held[name] for name in names])).sum().item()
    if slope > 0:
        notes.find(
            "Updates go uphill",
            "the first update has the direction of the gradient",
            "the opposite direction",
            "the update's sign (p -= lr * p.grad), or maximize=True",
        )
    else:
        notes.passed.append(f"updates go downhill ({sum(moved)} in {len(lessons)} calls)")
