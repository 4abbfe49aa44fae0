"""The last room of notebook 06: each changed line makes the pictures that its text describes, so none can become right unnoticed."""

from itertools import pairwise

import pytest
import torch

from diffusion_lib.exercises import museum
from diffusion_lib.exercises.museum_patients import (
    CLOSE_TO_HEALTHY,
    PATIENTS,
    PROGRAM,
    SABOTAGE,
    SmallNetwork,
    changed,
    letters,
    measured,
    sabotaged,
)


@pytest.fixture(scope="module")
def healthy():
    return sabotaged(None)


def test_healthy_letters_are_varied_differ_and_stand_on_black(healthy):
    found = measured(healthy)
    assert -0.8 < found.mean < -0.6
    assert found.ground < -0.9
    assert found.noise < 0.1
    assert found.largest == pytest.approx(1, abs=1e-3)
    assert 0.2 < found.variety < 0.5
    assert found.classes > 0.15


def test_program_as_it_stands_is_the_healthy_one(healthy):
    names = dict(torch=torch, pairwise=pairwise)
    exec(PROGRAM, names)
    torch.testing.assert_close(museum.run_program(names["train"], names["sample"]), healthy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("line", SABOTAGE)
def test_mistake_changes_exactly_one_line(line):
    pairs = list(zip(PROGRAM.splitlines(), changed(line).splitlines(), strict=True))
    ((right, wrong),) = [(a, b) for a, b in pairs if a != b]
    assert right.endswith(f"# suspect {line}")
    assert wrong.endswith(f"# suspect {line}")


def test_mixed_up_labels_give_varied_letters_of_any_class(healthy):
    found = measured(sabotaged(1))
    assert found.ground < -0.9
    assert found.variety > 0.2
    assert found.classes < 0.6 * measured(healthy).classes


def test_variance_in_place_of_its_root_does_not_show_in_samples(healthy):
    found = measured(sabotaged(2))
    assert not torch.equal(sabotaged(2), healthy)
    assert all(abs(ours - theirs) < CLOSE_TO_HEALTHY for ours, theirs in zip(found, measured(healthy), strict=True))


def test_loss_against_the_noise_gives_grey_static():
    found = measured(sabotaged(3))
    assert abs(found.mean) < 0.15
    assert 0.1 < found.std < 0.3
    assert found.variety < 0.1


def test_gradients_that_pile_up_give_one_smear():
    found = measured(sabotaged(4))
    assert found.variety < 0.02
    assert found.classes < 0.02


def test_shared_start_gives_identical_images_of_each_letter(healthy):
    found = measured(sabotaged(5))
    assert found.variety < 1e-4
    assert found.classes > measured(healthy).classes
    assert found.ground < -0.9


def test_levels_that_stop_early_leave_the_noise_of_level_50(healthy):
    found, right = measured(sabotaged(6)), measured(healthy)
    names = dict(torch=torch, pairwise=pairwise)
    exec(PROGRAM, names)
    expected = (1 - names["cosine"](1000)[50]).sqrt().item()
    assert (found.noise**2 - right.noise**2) ** 0.5 == pytest.approx(expected, abs=0.015)
    assert 1.1 < found.largest < 1.6
    assert found.classes == pytest.approx(right.classes, abs=0.03)


def test_clip_to_0_and_1_gives_a_smooth_grey_ground():
    found = measured(sabotaged(7))
    assert sabotaged(7).min() >= 0
    assert found.ground < 0.01
    assert found.noise < 0.03


def test_missing_root_in_eps_hat_gives_specks_inside_the_range():
    found = measured(sabotaged(8))
    assert found.noise > 0.3
    assert found.largest == pytest.approx(1, abs=1e-3)


def test_noise_of_level_t_never_shrinks():
    found = measured(sabotaged(9))
    assert found.noise == pytest.approx(1, abs=0.1)
    assert found.largest > 3


def test_patients_are_these_pictures_and_differ():
    assert len(set(PATIENTS.values())) == 6
    images = {name: museum.patient(name) for name in PATIENTS}
    for name, line in PATIENTS.items():
        assert torch.equal(images[name], sabotaged(line))
        images[name].zero_()  # the reader's own copy
        assert not torch.equal(images[name], museum.patient(name))


@pytest.mark.parametrize("name", ["G", "a", 1, None])
def test_rejects_unknown_patient(name):
    with pytest.raises(ValueError, match="patient"):
        museum.patient(name)


@pytest.mark.parametrize("line", [0, 10, "1"])
def test_rejects_unknown_suspect_line(line):
    with pytest.raises(ValueError, match="expected a suspect line, 1 to 9"):
        museum.sabotaged(line)


def test_leaves_the_random_numbers_of_the_notebook_as_they_were():
    torch.manual_seed(3)
    expected = torch.randn(3)
    torch.manual_seed(3)
    museum.patient("A")
    museum.run_program(lambda network, images, labels: torch.randn(5), lambda network, y: torch.randn(5))
    assert torch.equal(torch.randn(3), expected)


def test_training_set_holds_four_letters():
    images, labels = letters()
    assert images.shape[1:] == (1, 28, 28)
    assert len(images) == len(labels) >= 800
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert SmallNetwork()(images[:2], torch.tensor([1, 1000]), labels[:2]).shape == (2, 1, 28, 28)
