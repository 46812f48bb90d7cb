"""Work directories and tables on object storage: what is read of them is what is read on a disk."""

import functools
import http.server
import threading

import fsspec
import pytest

import flatwide
from flatwide.report import command
from flatwide.runs import storage


@pytest.fixture
def stored(tmp_path):
    """Return the address of a work directory in fsspec's memory, and its path on the disk."""
    for rho in (0.0, 0.1):
        flatwide.run({"num_neurons": (4,), "rho": rho, "num_train_steps": 2, "threads": 1}, tmp_path / "w", quiet=True)
    files = fsspec.filesystem("memory")
    files.put(str(tmp_path / "w"), "/study", recursive=True)
    yield "memory://study", tmp_path / "w"
    files.rm("/study", recursive=True)


def test_table_and_report_are_those_of_the_folder(stored, tmp_path, monkeypatch):
    address, folder = stored
    monkeypatch.chdir(tmp_path)
    table = flatwide.load(folder)
    assert len(table) == 2
    assert flatwide.load(address).equals(table)
    printed = command.report([address])
    assert printed.endswith("report: study.report.html")
    assert address in (tmp_path / "study.report.html").read_text()
    with storage.local(address) as copy:
        assert list(copy.glob("runs/*/metrics.csv"))
        assert not list(copy.glob("runs/*/checkpoints"))
    assert not copy.exists()


def test_a_table_on_a_server_is_reported(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp", reason="fsspec reaches servers through aiohttp")
    lines = [f"{size},{rho},{seed},0.{size + seed}" for size in (10, 20) for rho in (0, 0.1) for seed in (1, 2)]
    (tmp_path / "runs.csv").write_text("\n".join(["num_params,rho,seed,test_accuracy", *lines]))
    monkeypatch.chdir(tmp_path)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        printed = command.report([f"http://127.0.0.1:{server.server_port}/runs.csv"])
        server.shutdown()
    assert printed.endswith("report: runs.report.html")
    assert (tmp_path / "runs.report.html").exists()


def test_an_address_without_anything_is_one_line():
    with pytest.raises(FileNotFoundError, match="memory://nothing: there is no such file or folder"):
        flatwide.load("memory://nothing")


def test_an_unknown_kind_of_storage_is_one_line():
    with pytest.raises(ValueError, match="Protocol not known: nowhere"):
        flatwide.load("nowhere://study")
