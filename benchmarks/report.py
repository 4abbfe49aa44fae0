"""Puts the results that ship with the package into README.md and docs, as tables, sentences and a plot: `python benchmarks/report.py`."""

import hashlib
from pathlib import Path

import matplotlib

from diffusion_lib.measure.distances import Estimate
from diffusion_lib.measure.results import FOLDER, load_results
from diffusion_lib.plots import plot_time_to_quality

ROOT = Path(__file__).parents[1]
README, PLOT = ROOT / "README.md", ROOT / "docs" / "time_to_quality.png"


def throughput(results: dict) -> str:
    """A row for each network and precision; two numbers in a cell are training and calls."""
    rows = {(row["network"], row["precision"], row["kind"]): row for row in results["rows"]}
    if len(rows) < len(results["rows"]):
        raise ValueError(
            "throughput.json has rows of several batch sizes or modes; expected one of each, as throughput.py takes by default"
        )
    lines = [
        "| network | precision | images/s trained | images/s called | times slower | GFLOP/s | of the best convolutions |",
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
        f"Medians of {settings['rounds']} rounds, batches of {batch_size}; where a cell has two numbers, they are of training and of "
        'calls; "times slower" and the last column are medians of the ratios of each round. A DDIM chain takes '
        f"{sampling['overhead']:.1%} more than its network calls; 64 glyphs in 50 steps take "
        f"{sampling['seconds_of_64_glyphs_in_50_steps']:.1f} s. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def caption(results: dict) -> str:
    """What is said below the picture of glyphs."""
    row = next(row for row in results["rows"] if row["model"] == "glyphs")
    settings, read = results["settings"], Estimate(**row["samples"]["accuracy"])
    return (
        f"*Written by the model that ships: {row['parameters'] / 1e6:.1f} million parameters, trained on two CPU cores; "
        f"{settings['steps']} DDIM steps, three seeds.\n"
        f"A classifier trained on real glyphs reads {read.value:.1%} of {settings['n']:,} such samples as the character asked for "
        f"(95% interval {read.low:.1%} to {read.high:.1%}),\nand {row['real']['accuracy']['value']:.1%} of as many real ones.*"
    )


def weights(results: dict) -> str:
    """Two rows for each model: its samples, and real images."""
    lines = ["| model | parameters | images | read right | Fréchet distance |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        for what, name, parameters in (("samples", row["model"], f"{row['parameters'] / 1e6:.2f} million"), ("real", "", "")):
            read, distance = (Estimate(**row[what][score]) for score in ("accuracy", "frechet_distance"))
            cells = [name, parameters, what, f"{read.value:.2%} [{read.low:.2%}, {read.high:.2%}]", str(distance)]
            lines.append(f"| {' | '.join(cells)} |")
    settings = results["settings"]
    lines += [
        "",
        f'{settings["n"]:,} samples of each in {settings["steps"]} DDIM steps, beside as many held-out images; the rows "real" compare '
        f"other held-out images with the same ones. In brackets: 95% intervals. torch {results['torch'].split('+')[0]}, {results['date']}.",
    ]
    return "\n".join(lines)


def time_to_quality(results: dict) -> str:
    """A row for each network, a column for each training time."""
    budgets = sorted({row["budget"] for row in results["rows"]})
    lines = ["| network | " + " | ".join(f"{budget:g} s" for budget in budgets) + " |", "|---" * (1 + len(budgets)) + "|"]
    for network in dict.fromkeys(row["network"] for row in results["rows"]):
        rows = {row["budget"]: row for row in results["rows"] if row["network"] == network}
        cells = [f"{Estimate(**rows[b]['frechet_distance'])}, {rows[b]['images']:,} images" if b in rows else "" for b in budgets]
        lines.append(f"| {' | '.join([network, *cells])} |")
    settings = results["settings"]
    lines += [
        "",
        f"Fréchet distance (95% interval) of {settings['n']:,} samples, and how many images had been trained on by then. "
        f"Other real images: {Estimate(**results['real'])}. No classes, "
        f"{settings['steps']} DDIM steps for all. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def machine(results: dict) -> str:
    """In words."""
    m = results["machine"]
    what = m["gpu"] or f"{m['cores']} cores of an {m['cpu']}" + (f" with {m['instructions'].upper()}" if m["instructions"] else "")
    return f"{what}, torch {results['torch'].split('+')[0]}, {results['date']}"


PARTS = {  # the marks in README.md: what fills them, and from which results
    "caption": (caption, "weights_quality"),
    "throughput": (throughput, "throughput"),
    "time_to_quality": (time_to_quality, "time_to_quality"),
    "weights": (weights, "weights_quality"),
}


def filled_in(text: str) -> str:
    """The README's text, what is between each two marks as the results have it now."""
    for name, (write, results) in PARTS.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README.md: expected {begin.strip()!r} once, and after it {end.strip()!r} once, around what is filled in")
        before, rest = text.split(begin)
        text = before + begin + write(load_results(results)) + end + rest.split(end)[1]
    return text


def digest() -> str:
    """Of the results that the plot shows: stored in the picture, so that a picture of older results is noticed."""
    return hashlib.sha256((FOLDER / "time_to_quality.json").read_bytes()).hexdigest()


def draw(path: Path = PLOT) -> None:
    matplotlib.use("agg")
    ax = plot_time_to_quality(load_results("time_to_quality"))
    ax.figure.savefig(path, dpi=150, metadata={"results": digest()})


if __name__ == "__main__":
    draw()
    README.write_text(filled_in(README.read_text(encoding="utf-8")), encoding="utf-8")
