"""Puts the results that ship with the package into README.md, as tables: `python benchmarks/report.py`."""

from pathlib import Path

from diffusion_lib.results import load_results

README = Path(__file__).parents[1] / "README.md"


def throughput(results: dict) -> str:
    """A row for each network and precision; two numbers in a cell are training and calls."""
    rows = {(row["network"], row["precision"], row["kind"]): row for row in results["rows"]}
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
    lines += [
        "",
        f"Medians of {settings['rounds']} rounds, batches of {settings['batch_size']}; where a cell has two numbers, they are of training "
        f"and of calls. A DDIM chain takes {sampling['overhead']:.1%} more than its network calls; 64 glyphs in 50 steps take "
        f"{sampling['seconds_of_64_glyphs_in_50_steps']:.1f} s. Measured on {machine(results)}.",
    ]
    return "\n".join(lines)


def machine(results: dict) -> str:
    """In words."""
    m = results["machine"]
    what = m["gpu"] or f"{m['cores']} cores of an {m['cpu']} with {m['instructions'].upper()}"
    return f"{what}, torch {results['torch'].split('+')[0]}, {results['date']}"


TABLES = {"throughput": throughput}


def filled_in(text: str) -> str:
    """The README's text, every table between its two marks as the results have it now."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"README.md: expected {begin.strip()!r} once, and after it {end.strip()!r} once, around the table")
        before, rest = text.split(begin)
        text = before + begin + table(load_results(name)) + end + rest.split(end)[1]
    return text


if __name__ == "__main__":
    README.write_text(filled_in(README.read_text(encoding="utf-8")), encoding="utf-8")
