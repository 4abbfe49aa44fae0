"""The measurements shipped with the package: they load, and were made with the shipped models."""

import common
import pytest
import report
import weights_quality
from PIL import Image

import diffusion_lib as dl
from diffusion_lib.measure.results import FOLDER, load_results


@pytest.mark.parametrize("name", ["ddim_table", "postcards_quality"])
def test_postcards_were_measured_on_the_shipped_weights(name):
    results = load_results(name)
    network = dl.load_pretrained(results["model"]["name"]).network
    assert results["model"]["sha256"] == common.digest_of(network.state_dict()), f"run {results['script']} again"


def test_weights_quality_was_measured_on_the_shipped_weights():
    results = load_results("weights_quality")
    assert {row["model"] for row in results["rows"]} == set(weights_quality.MODELS)
    for row in results["rows"]:
        assert row["sha256"] == common.digest(row["model"]), f"run {results['script']} again"


def test_every_result_records_how_it_was_made():
    names = [path.stem for path in FOLDER.glob("*.json")]
    assert names
    for name in names:
        results = load_results(name)
        assert results["script"] == f"benchmarks/{name.removesuffix('_colour')}.py"  # one script, run with other images
        assert {"date", "settings", "machine", "torch"} <= results.keys()


def test_rejects_unknown_results_and_suggests_the_nearest():
    known = "'ddim_table', 'postcards_quality', 'throughput', 'throughput_colour', 'time_to_quality', 'weights_quality'"
    with pytest.raises(ValueError, match=rf"unknown results file 'ddim_tabel'; expected one of {known}.*Did you mean 'ddim_table'\?"):
        load_results("ddim_tabel")


@pytest.mark.parametrize("file", report.FILES)
def test_readme_and_docs_show_the_shipped_results(file):
    text = (report.ROOT / file).read_text(encoding="utf-8")
    assert report.filled_in(file, text) == text, "run python benchmarks/report.py"
    for name in report.FILES[file]:
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, old, after = text.partition(begin)[0], text.partition(begin)[2].partition(end)[0], text.partition(end)[2]
        assert len(old) > 100
        assert report.filled_in(file, f"{before}{begin}\nold numbers\n{end}{after}") == text
        with pytest.raises(ValueError, match=f"{file}: expected '{begin}' once"):
            report.filled_in(file, text.replace(begin, ""))


def test_throughput_table_rejects_mixed_batch_sizes_and_modes():
    results = load_results("throughput")
    results["rows"].append(results["rows"][0] | dict(batch_size=1024))
    with pytest.raises(ValueError, match="rows of several batch sizes or modes; expected one of each"):
        report.throughput(results)


def test_plot_shows_the_shipped_results(tmp_path):
    remedy = "run python benchmarks/report.py"
    assert Image.open(report.PLOT).text["results"] == report.digest(), remedy
    report.draw(tmp_path / "again.png")
    assert Image.open(tmp_path / "again.png").size == Image.open(report.PLOT).size, remedy


def test_default_network_is_several_times_faster_than_its_peers():
    for row in load_results("throughput")["rows"]:
        if row["network"] != "diffusion_lib":
            assert row["times_slower_than_ours"] >= 8, "what docs/quality.md claims"
