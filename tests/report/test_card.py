"""The verdict card of a report, as SVG and PNG."""

import re
import struct
import zlib

import pytest

from flatwide import cli
from flatwide.report import card

ROWS = [
    (size, rho, seed, 80 + 5 * (rho > 0) * (size > 100) + 0.1 * ((3 * seed + 7 * (rho > 0) * seed**2) % 5))
    for size in (100, 1000)
    for rho in (0.0, 0.1)
    for seed in range(4)
]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["width,rho,seed,accuracy", *(",".join(map(str, row)) for row in ROWS)]))
    return path


def report(table, path):
    return cli.main(["report", str(table), f"--card={path}"])


def test_a_card_has_the_headline_the_figure_and_the_command(table, tmp_path, capsys):
    path = tmp_path / "card.svg"
    assert report(table, path) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"card: {path}\n")
    svg = path.read_text()
    text = " ".join(re.findall(r">([^<>]+)<", svg)).replace("\u00a0", " ")
    headline = out.splitlines()[0].rstrip(".")
    assert headline.startswith("SAM helps at 1,000 parameters only; +5.0")
    assert headline in text
    assert "4 seeds · runs: 16 done" in text
    assert "python main.py report runs.csv" in text
    assert "gain in accuracy" in text


def test_a_png_is_whole_and_is_known_as_ours(table, tmp_path):
    path = tmp_path / "card.png"
    assert report(table, path) == 0
    card.check(path)  # its own file may be replaced
    content, chunks = path.read_bytes(), {}
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(content):
        (length,), kind = struct.unpack(">I", content[at : at + 4]), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        assert struct.unpack(">I", content[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + length
    assert chunks[b"tEXt"] == b"Software\0flatwide"
    assert kind == b"IEND"
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) > (1000, 600)


def test_a_file_of_the_user_is_never_replaced(table, tmp_path, capsys):
    path = tmp_path / "mine.svg"
    path.write_text("<svg/>")
    assert report(table, path) == 2
    assert "flatwide did not write this and will not replace it" in capsys.readouterr().err
    assert path.read_text() == "<svg/>"
    assert not table.with_suffix(".report.html").exists()


def test_other_formats_and_folders_are_refused(table, tmp_path, capsys):
    assert report(table, tmp_path / "card.jpg") == 2
    assert "expected a name that ends in .svg or .png" in capsys.readouterr().err
    assert report(table, tmp_path / "none" / "below" / "card.svg") == 2
    assert "there is no folder" in capsys.readouterr().err
