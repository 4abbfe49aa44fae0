"""The command `python -m diffusion_lib.measure`: trains a classifier or, with --model, measures a model's samples."""

import argparse
import sys
import warnings

import torch
from tqdm import tqdm

from diffusion_lib.checks import whole
from diffusion_lib.data import ImageDataset, dataset_names, image_shape_of, load_dataset, num_classes_of, part_of, takes
from diffusion_lib.devices import choose_device
from diffusion_lib.measure.classifier import AttributeClassifier, Classifier, train_classifier
from diffusion_lib.measure.distances import accuracy, attribute_accuracy
from diffusion_lib.measure.own_images import compare, feature_network, split_in_halves
from diffusion_lib.options import image_size, is_shortage, message_of, of_model, path
from diffusion_lib.pretrained import load_classifier, load_model
from diffusion_lib.saving import SHIPPED

TRAINING = dict(out=None, steps=2000, batch_size=128, lr=3e-3, half=False)  # defaults without --model
MEASURING = dict(features=None, size=None, channels=None, skip_broken=False, samples=1000, sampling_steps=50, device="auto")  # and with it


def main(arguments: list[str] | None = None) -> None:
    """Trains a classifier on a labelled dataset of grey or RGB images and prints its accuracy on the test images. With --model, compares
    a model's samples, and other real images, with a dataset's images instead."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    remedy = "for training a classifier: omit --model, or this option" if options.model else "for measuring a model: add --model"
    for name, default in (TRAINING if options.model else MEASURING).items():
        if getattr(options, name) != default:
            parser.error(f"--{name.replace('_', '-')} is {remedy}")
    if not options.model and options.out is None:
        parser.error("--out is missing; expected a folder for the classifier's weights, or --model to measure a model")
    try:
        if options.model:
            measure(options)
        else:
            train(options, parser)
    except (OSError, ValueError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_shortage(error):
            raise
        remedy = "fewer --images or --samples" if options.model else f"a --batch-size below {options.batch_size}, or fewer --images"
        parser.exit(1, f"{parser.prog}: {message_of(error, remedy)}\n")


def make_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.measure", description=main.__doc__)
    parser.add_argument("--dataset", default="glyphs", help=f"{dataset_names()}; default: %(default)s")
    parser.add_argument("--root", type=path, help="folder for torchvision's datasets; default: the cache folder")
    parser.add_argument("--images", type=int, help="number of images to use; default: all")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    training = parser.add_argument_group("training a classifier")
    training.add_argument("--out", type=path, help="folder for the weights")
    for name in ("steps", "batch_size", "lr"):
        default = TRAINING[name]
        training.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help="default: %(default)s")
    training.add_argument("--half", action="store_true", help="store the weights in half precision")
    measuring = parser.add_argument_group("measuring a model")
    measuring.add_argument("--model", help="the folder of a model or of a run, a hub id, or the name of a shipped model")
    measuring.add_argument(
        "--features",
        type=path,
        help="folder of the feature network, created if it does not exist; default: the shipped classifier, or a folder in the cache for "
        "these images",
    )
    measuring.add_argument(
        "--size", type=image_size, help="height and width of photo and folder images, 32 or HEIGHTxWIDTH; default: the model's"
    )
    measuring.add_argument("--channels", type=int, choices=(1, 3), help="channels of photo and folder images; default: the model's")
    measuring.add_argument("--skip-broken", action="store_true", help="skip files of a folder that cannot be read")
    measuring.add_argument("--samples", type=int, default=MEASURING["samples"], help="largest number of samples; default: %(default)s")
    measuring.add_argument("--sampling-steps", type=int, default=MEASURING["sampling_steps"], help="DDIM steps; default: %(default)s")
    measuring.add_argument("--device", default=MEASURING["device"], help="default: %(default)s")
    return parser


def train(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Trains a classifier and saves it."""
    data = load_dataset(options.dataset, n=options.images, root=options.root)
    num_classes = num_classes_of(data)
    if num_classes is None:
        parser.error(f"--dataset {options.dataset} has no classes; expected a dataset with classes")
    held_out = load_dataset(options.dataset, train=False, root=options.root)
    torch.manual_seed(options.seed)  # for the classifier's initial weights
    if data.attributes:
        classifier: Classifier | AttributeClassifier = AttributeClassifier(data.attribute_names, image_shape_of(data)[0])
    else:
        classifier = Classifier(image_shape_of(data)[0], num_classes)
    training = train_classifier(classifier, data, options.steps, options.batch_size, options.lr, options.seed)
    for _ in tqdm(training, total=options.steps, unit="step"):
        pass
    classifier.eval().save_pretrained(options.out, half=options.half)
    if isinstance(classifier, AttributeClassifier):
        for name, estimate in attribute_accuracy(classifier, held_out.images, held_out.attributes).items():
            print(f"{name:14} {estimate.value:.2%}")
        print(f"read correctly in {len(held_out.images)} test images; saved to {options.out}")
        return
    fraction = accuracy(classifier, held_out.images, held_out.labels).value
    print(f"reads {fraction:.2%} of {len(held_out.images)} test images correctly; saved to {options.out}")


def measure(options: argparse.Namespace) -> None:
    """Prints the distance between a model's samples and real images, and between other real images and the same ones."""
    model = load_model(options.model)
    asked = of_model(options.dataset, model.image_shape, options.size, options.channels)
    data = load_dataset(options.dataset, n=options.images, root=options.root, skip_broken=options.skip_broken, **asked)
    if model.image_shape not in {None, image_shape_of(data)}:
        raise ValueError(
            f"the model makes images of shape {model.image_shape}, but those of --dataset {options.dataset} have {image_shape_of(data)}; "
            "expected the dataset that the model was trained on, with the same --size and --channels"
        )
    ships = options.features is None and (SHIPPED / "classifier" / options.dataset).is_dir()
    seen, other, reference = parts_of(data, options)
    network, place = (load_classifier(options.dataset), None) if ships else feature_network(seen, options.features)
    n = whole("--samples", options.samples, low=20)
    other, reference = (part_of(part, slice(n)) for part in (other, reference))
    device = choose_device(options.device)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        found = compare(model, network, other, reference, steps=options.sampling_steps, seed=options.seed, device=device)
    for note in dict.fromkeys(str(warning.message) for warning in notes):
        print(f"note: {note}", file=sys.stderr)
    kind = "a classifier" if isinstance(network, Classifier | AttributeClassifier) else "a random network, normalised on the images"
    print(f"features: {network.num_features} of {kind}{' (shipped)' if ships else f', in {place}'}")
    print(f"{found.n} images in each set, compared with as many real ones; brackets hold 95% intervals\n")
    print(f"{'':20}{'Fréchet distance':30}kernel distance")
    for name, (frechet, kernel) in (("samples", found.samples), ("other real images", found.real)):
        print(f"{name:20}{frechet!s:30}{kernel}")
    if found.samples[0].low > found.real[0].high:
        print("\nThe samples differ measurably from real images.")
    else:
        print("\nThe samples do not differ measurably from real images, in these features and at this number.")


def parts_of(data: ImageDataset, options: argparse.Namespace) -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    """Images for the feature network, images to compare, and reference images. The network has not seen the last."""
    if takes(options.dataset, "train") and not options.dataset.startswith("folder:"):  # a folder has only one set of images
        return data, *split_in_halves(load_dataset(options.dataset, train=False, root=options.root))
    other, reference = split_in_halves(data)
    return other, other, reference
