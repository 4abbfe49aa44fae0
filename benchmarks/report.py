"""Writes the stored results into README.md and docs, as tables, sentences and a plot: `python benchmarks/report.py`."""

import hashlib
from pathlib import Path

import matplotlib

from diffusion_lib.measure.distances import Estimate
from diffusion_lib.measure.results import FOLDER, load_results
from diffusion_lib.plots import plot_time_to_quality

ROOT = Path(__file__).parents[1]
PLOT = ROOT / "docs" / "time_to_quality.png"


def throughput(results: dict) -> str:
    """One row per network and precision; two numbers in a cell are for training and calls."""
    rows = {(row["network"], row["precision"], row["kind"]): row for row in results["rows"]}
    if len(rows) < len(results["rows"]):
        raise ValueError("throughput.json has rows of several batch sizes or modes; expected one of each, the default of throughput.py")
    lines = [
        "| network | precision | images/s, training | images/s, calls | times slower | GFLOP/s | fraction of the best convolutions |",
        "|---|---|---|---|---|---|---|",
    ]
    for network, precision in dict.fromkeys((network, precision) for network, precision, _ in rows):
        trained, called = (rows[network, precision, kind] for kind in ("training", "calls"))
        pairs = {"times_slower_than_ours": "{:.1f}", "gflop_per_second": "{:.0f}", "of_best_convolutions": "{:.0%}"}
        cells = [f"{row['images_per_second']:.0f}" for row in (trained, called)]
        cells += [f"{form.format(trained[key])} and {form.format(called[key])}" for key, form in pairs.items()]
        lines.append(f"| {network} | {precision} | {' | '.join(cells)} |")
    settings, sampling = results["settings"], results["sampling"]
    batch_size = results["rows"][0]["batch_size"]
    lines += [
        "",
        f"Medians of {settings['rounds']} rounds, batches of {batch_size} images of "
        f"{'x'.join(map(str, settings.get('shape', (1, 28, 28))))}. Where a cell has two numbers, the first is for training and the "
        'second for calls of the network; "times slower" and the last column are medians of the ratios in each round. A DDIM chain takes '
        f"{sampling['overhead']:.1%} more than its network calls; 64 glyphs in 50 steps take "
        f"{sampling['seconds_of_64_glyphs_in_50_steps']:.1f} s. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def caption(results: dict) -> str:
    """The caption of the picture of postcards."""
    settings, seen, unseen = results["settings"], results["seen"]["samples"], results["held out"]["samples"]
    lowest, hardest = (min(accuracies(found), key=lambda each: each.value) for found in (seen, unseen))
    return (
        f"*Drawn by the shipped model from captions: {results['model']['parameters'] / 1e6:.1f} million parameters, trained on two CPU "
        f"cores;\n{settings['steps']} DDIM steps, guidance {settings['scale']:g}. A classifier finds each of twelve attributes as asked in "
        f"at least {lowest.value:.1%} of {settings['n']:,} pictures\n"
        f"({hardest.value:.1%} for combinations that occur in no training picture).*"
    )


def accuracies(found: dict) -> list[Estimate]:
    """Of each attribute."""
    return [Estimate(**found[name]) for name in found if name not in ("all", "frechet_distance")]


def postcards(results: dict) -> str:
    """One row per attribute, one column for each kind of caption, and one for real pictures."""
    kinds = [results["seen"]["samples"], results["held out"]["samples"], results["seen"]["real"]]
    lines = ["| attribute | captions as in training | combinations held out of training | real pictures |", "|---|---|---|---|"]
    for name in kinds[0]:
        estimates = [Estimate(**kind[name]) for kind in kinds]
        if name == "frechet_distance":
            cells = ["Fréchet distance", *map(str, estimates)]
        else:
            label = dict(all="all twelve").get(name, name.replace("_", " "))
            cells = [label, *(f"{each.value:.1%} [{each.low:.1%}, {each.high:.1%}]" for each in estimates)]
        lines.append(f"| {' | '.join(cells)} |")
    settings = results["settings"]
    lines += [
        "",
        f"The fraction of {settings['n']:,} pictures in which the classifier reads the attribute as asked. Complete captions, "
        f"{settings['steps']} DDIM steps, guidance {settings['scale']:g}, in {settings['precision']}. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def weights(results: dict) -> str:
    """Two rows per model: its samples, and real images."""
    lines = ["| model | parameters | images | accuracy | Fréchet distance |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        for what, name, parameters in (("samples", row["model"], f"{row['parameters'] / 1e6:.2f} million"), ("real", "", "")):
            read, distance = (Estimate(**row[what][score]) for score in ("accuracy", "frechet_distance"))
            cells = [name, parameters, what, f"{read.value:.2%} [{read.low:.2%}, {read.high:.2%}]", str(distance)]
            lines.append(f"| {' | '.join(cells)} |")
    settings = results["settings"]
    lines += [
        "",
        f'{settings["n"]:,} samples of each model in {settings["steps"]} DDIM steps, compared with as many held-out images; rows "real" '
        "compare other held-out images with the same images. Brackets hold 95% intervals. "
        f"torch {results['torch'].split('+')[0]}, {results['date']}.",
    ]
    return "\n".join(lines)


def time_to_quality(results: dict) -> str:
    """One row per network, one column per training time."""
    budgets = sorted({row["budget"] for row in results["rows"]})
    lines = ["| network | " + " | ".join(f"{budget:g} s" for budget in budgets) + " |", "|---" * (1 + len(budgets)) + "|"]
    for network in dict.fromkeys(row["network"] for row in results["rows"]):
        rows = {row["budget"]: row for row in results["rows"] if row["network"] == network}
        cells = [f"{Estimate(**rows[b]['frechet_distance'])}, {rows[b]['images']:,} images" if b in rows else "" for b in budgets]
        lines.append(f"| {' | '.join([network, *cells])} |")
    settings = results["settings"]
    lines += [
        "",
        f"Fréchet distance (95% interval) of {settings['n']:,} samples, and the number of images trained on by then. "
        f"Other real images: {Estimate(**results['real'])}. No classes, "
        f"{settings['steps']} DDIM steps for all. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def machine(results: dict) -> str:
    """The machine of the results, in words."""
    m = results["machine"]
    what = m["gpu"] or f"{m['cores']} cores of an {m['cpu']}" + (f" with {m['instructions'].upper()}" if m["instructions"] else "")
    return f"{what}, torch {results['torch'].split('+')[0]}, {results['date']}"


FILES = {  # the markers in each file: the function that fills them, and its results
    "README.md": {"caption": (caption, "postcards_quality")},
    "docs/speed.md": {"throughput": (throughput, "throughput"), "throughput_colour": (throughput, "throughput_colour")},
    "docs/quality.md": {
        "weights": (weights, "weights_quality"),
        "postcards": (postcards, "postcards_quality"),
        "time_to_quality": (time_to_quality, "time_to_quality"),
    },
}


def filled_in(file: str, text: str) -> str:
    """The text of one of FILES, with current results between its markers."""
    for name, (write, results) in FILES[file].items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{file}: expected {begin.strip()!r} once, and after it {end!r} once, around the generated text")
        before, rest = text.split(begin)
        text = before + begin + write(load_results(results)) + "\n" + end + rest.split(end)[1]
    return text


def digest() -> str:
    """The digest of the plotted results, stored in the picture so that an outdated picture is detected."""
    return hashlib.sha256((FOLDER / "time_to_quality.json").read_bytes()).hexdigest()


def draw(path: Path = PLOT) -> None:
    matplotlib.use("agg")
    ax = plot_time_to_quality(load_results("time_to_quality"))
    ax.figure.savefig(path, dpi=150, metadata={"results": digest()})


if __name__ == "__main__":
    draw()
    for name in FILES:
        path = ROOT / name
        path.write_text(filled_in(name, path.read_text(encoding="utf-8")), encoding="utf-8")
