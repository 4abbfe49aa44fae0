"""A local server that hosts MNIST's files."""

from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from types import SimpleNamespace

import pytest
from helpers import serve
from tiny_mnist import IMAGES, LABELS, mnist_files


@pytest.fixture
def mnist_host(tmp_path, monkeypatch):
    """How to serve an MNIST of four images: a context that takes what the host does with a file's content, and gives what it was asked."""
    from torchvision.datasets import MNIST

    (tmp_path / "host").mkdir()
    resources = mnist_files(tmp_path / "host", IMAGES, LABELS)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DIFFUSION_LIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(MNIST, "resources", resources)

    @contextmanager
    def host(send=lambda handler, content: handler.wfile.write(content), chunked=False):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                content = (tmp_path / "host" / self.path.strip("/")).read_bytes()
                self.send_response(200)
                self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(content)))))
                self.end_headers()
                with suppress(ConnectionError):
                    send(self, content)

            def log_message(self, *_):
                pass

        with serve(Handler) as address:
            monkeypatch.setattr(MNIST, "mirrors", [f"{address}/"])
            yield SimpleNamespace(asked=asked, address=address, resources=resources)

    return host
