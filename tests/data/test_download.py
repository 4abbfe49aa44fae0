"""Downloads: failing hosts, several mirrors, concurrent and killed processes, and the cache folder."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_mnist import IMAGES, assert_whole

import diffusion_lib as dl
from diffusion_lib.data import cache_folder
from diffusion_lib.data.download import download


def test_downloads_once(tmp_path, mnist_host):
    with mnist_host() as host:
        assert_whole(dl.load_dataset("mnist"))
    assert len(host.asked) == 2 * len(set(host.asked)) == 8  # torchvision asks twice, the first time for redirections
    # the host is gone, the files are in the cache folder, and nothing else is
    assert_whole(dl.load_dataset("mnist", train=False))
    assert (tmp_path / "cache" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name != ".mnist.lock") == ["MNIST"]


def silent(handler, content):
    """Half of the file, and then nothing until the client has hung up."""
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    handler.connection.settimeout(None)  # the client's timeout is the whole process's
    handler.rfile.read(1)


def in_chunks(handler, content):
    """Half of a chunk."""
    handler.wfile.write(b"%x\r\n" % 100 + content[:50])


HOSTS = {
    "a silent one": (silent, "timed out"),
    "one that sends half a file": (lambda handler, content: handler.wfile.write(content[: len(content) // 2]), "corrupted|IncompleteRead"),
    "one that breaks off in a chunk": (in_chunks, "IncompleteRead"),
    "one that sends other bytes": (lambda handler, content: handler.wfile.write(bytes(len(content))), "corrupted"),
}


@pytest.mark.parametrize("kind", HOSTS)
def test_bad_host_is_reported_and_leaves_no_partial_files(tmp_path, mnist_host, monkeypatch, kind):
    send, reason = HOSTS[kind]
    if kind == "a silent one":
        monkeypatch.setattr("diffusion_lib.data.download.TIMEOUT", 0.5)
    message = rf"(?is)mnist is not in .*({reason}).*'glyphs' needs neither"
    with mnist_host(send, chunked="chunk" in kind), pytest.raises(FileNotFoundError, match=message):
        dl.load_dataset("mnist")
    assert socket.getdefaulttimeout() is None
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name != ".mnist.lock"] == []
    monkeypatch.setattr("diffusion_lib.data.download.TIMEOUT", 60.0)
    with mnist_host():
        assert_whole(dl.load_dataset("mnist"))


@pytest.mark.parametrize("kind", HOSTS)
def test_falls_back_to_the_next_mirror(mnist_host, monkeypatch, kind):
    from torchvision.datasets import MNIST

    send, _ = HOSTS[kind]
    download = MNIST.download

    def with_timeout(self):  # short for the silent host alone: the good one may take its time
        socket.setdefaulttimeout(0.5 if kind == "a silent one" and self.mirrors == [f"{bad.address}/"] else 60.0)
        download(self)

    monkeypatch.setattr(MNIST, "download", with_timeout)
    with mnist_host(send, chunked="chunk" in kind) as bad, mnist_host() as good:
        monkeypatch.setattr(MNIST, "mirrors", [f"{bad.address}/", f"{good.address}/"])
        assert_whole(dl.load_dataset("mnist"))
    assert bad.asked


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_unreachable_host_is_reported_with_a_remedy(tmp_path, monkeypatch, name):
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for kind in (MNIST, FashionMNIST):
        monkeypatch.setattr(kind, "mirrors", [address])
    monkeypatch.setattr(CIFAR10, "url", f"{address}cifar.tar.gz")
    with pytest.raises(
        FileNotFoundError, match=rf"(?s){name} is not in .* could not be downloaded there .*root=.*The dataset 'glyphs' needs neither"
    ):
        dl.load_dataset(name, root=tmp_path)


def test_failed_download_leaves_existing_files_unchanged(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_text("old")

    def fetch(folder, fails):
        for name in "ab":
            (Path(folder) / "set" / name).parent.mkdir(exist_ok=True)
            (Path(folder) / "set" / name).write_text("new")
        if fails:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        download("set", tmp_path, lambda folder: fetch(folder, fails=True), is_there=lambda: False)
    assert {path.name: path.read_text() for path in (tmp_path / "set").iterdir()} == {"a": "old"}
    download("set", tmp_path, lambda folder: fetch(folder, fails=False), is_there=lambda: True)
    assert os.listdir(tmp_path / "set") == ["a"], "nothing is fetched that another process has fetched meanwhile"
    download("set", tmp_path, lambda folder: fetch(folder, fails=False), is_there=lambda: False)
    assert {path.name: path.read_text() for path in (tmp_path / "set").iterdir()} == {"a": "new", "b": "new"}
    assert sorted(os.listdir(tmp_path)) in (["set"], [".set.lock", "set"])


LOAD = """
import sys
import filelock
from torchvision.datasets import MNIST
import diffusion_lib as dl

class Announced(filelock.FileLock):
    def __enter__(self):
        print("at the lock", flush=True)
        return super().__enter__()

filelock.FileLock = Announced
sys.modules["diffusion_lib.data.download"].TIMEOUT = 600.0  # the host waits for the other process to start
MNIST.mirrors, MNIST.resources = [sys.argv[1]], eval(sys.argv[2])
print(dl.to_uint8(dl.load_dataset("mnist").images).sum().item())
"""


PATIENCE = 600  # seconds until a process that says nothing is taken to hang


@pytest.fixture
def start_loading():
    """Starts a process that loads MNIST from a host, and has come to the lock on the cache folder; it is killed after the test."""
    processes = []

    def start(host):
        line = [sys.executable, "-c", LOAD, f"{host.address}/", repr(host.resources)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "at the lock\n", process.communicate(timeout=PATIENCE)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_concurrent_downloads_do_not_interfere(mnist_host, start_loading):
    reached, go = threading.Event(), threading.Event()

    def when_both_are_there(handler, content):
        reached.set()
        go.wait()
        handler.wfile.write(content)

    with mnist_host(when_both_are_there) as host:
        try:
            first = start_loading(host)
            assert reached.wait(PATIENCE)
            second = start_loading(host)  # while the first one holds the lock
        finally:
            go.set()
        answers = [process.communicate(timeout=PATIENCE) for process in (first, second)]
    assert [out.strip() for out, _ in answers] == [str(int(IMAGES.sum()))] * 2, answers
    assert len(host.asked) == 8  # the second one waited, and found what the first one had fetched


def test_killed_download_is_restarted_and_its_leftovers_are_removed(tmp_path, mnist_host, start_loading):
    reached = threading.Event()

    def send(handler, content):
        reached.set()
        silent(handler, content)

    with mnist_host(send) as host:
        process = start_loading(host)
        assert reached.wait(PATIENCE)
        process.kill()
        process.communicate()
    assert list((tmp_path / "cache").glob(".mnist-*"))
    with mnist_host():
        assert_whole(dl.load_dataset("mnist"))
    assert not list((tmp_path / "cache").glob(".mnist-*"))


def test_tilde_expands_to_the_home_folder(tmp_path, mnist_host, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    with mnist_host():
        assert_whole(dl.load_dataset("mnist", root="~/data"))
    assert (tmp_path / "home" / "data" / "MNIST").is_dir()
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", "~/data")
    assert_whole(dl.load_dataset("mnist"))


def test_cache_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DIFFUSION_LIB_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "diffusion_lib"
