"""Pieces of a long benchmark are merged: bench/pieces.py, and the table that bench/explainers.py makes of them."""

import json
import pathlib
import sys

import pytest

BENCH = str(pathlib.Path(__file__).resolve().parents[2] / "bench")


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, BENCH)
    try:
        import explainers
        import pieces

        yield explainers, pieces
    finally:
        sys.path.remove(BENCH)


def piece(pieces, network, method, own, peer, quick=False, build="abc"):
    figures = [
        pieces.Figure(network, 2, 1, method, name, [time, 2 * time], 100.0)
        for name, time in (("libxai", own), ("Captum", peer))
    ]
    return pieces.Piece(network, method, quick, 2, figures, {"Captum": "0.9"}, build, "2026-01-02 03:04", "a processor")


def test_a_later_piece_replaces_its_own_kind_alone(bench, tmp_path):
    _, pieces = bench
    path = tmp_path / "e.json"
    known = pieces.read(path)
    assert known == []
    for each in (
        piece(pieces, "resnet50", "occlusion", 100, 400),
        piece(pieces, "densenet121", "occlusion", 100, 500),
        piece(pieces, "resnet50", "occlusion", 10, 40, quick=True),
        piece(pieces, "resnet50", "lime", 100, 600),
    ):
        known = pieces.merge(pieces.read(path), each)
        pieces.write(path, known)
    again = piece(pieces, "resnet50", "occlusion", 50, 400, build="def+")
    pieces.write(path, pieces.merge(pieces.read(path), again))
    known = pieces.read(path)
    assert [each.key for each in known] == [
        ("resnet50", "occlusion", False),
        ("densenet121", "occlusion", False),
        ("resnet50", "occlusion", True),
        ("resnet50", "lime", False),
    ]
    assert known[0] == again and known[0].figures[0].least == 50 and known[2].figures[0].least == 10
    assert [each.name for each in tmp_path.iterdir()] == ["e.json"]


def test_the_table_shows_every_piece_with_build_and_date(bench):
    explainers, pieces = bench
    known = [
        piece(pieces, "resnet50", "lime", 100, 600),
        piece(pieces, "resnet50", "occlusion", 100, 200, build="def+"),
        piece(pieces, "resnet50", "lime", 10, 20, quick=True),
    ]
    lines = explainers.table(known).splitlines()
    assert len(lines) == 2 + 3 and len({line.count("|") for line in lines}) == 1
    assert "resnet50, lime" in lines[2] and "784 evaluations" in lines[2] and "**6.00** / 6.00" in lines[2]
    assert "64 evaluations" in lines[3] and "missed" in lines[3]
    assert "**2.00**" in lines[4] and "missed" in lines[4] and lines[4].endswith("| def+, 2026-01-02 03:04 |")
    assert "Captum 0.9, 600 / 900 ms" in lines[2] and "100 / 100 MiB" in lines[2]


@pytest.mark.parametrize("text", ['{"versions": {}, "figures": []}', "no json", '{"pieces": [{"network": "x"}]}'])
def test_another_file_is_kept_aside(bench, tmp_path, capsys, text):
    _, pieces = bench
    path = tmp_path / "e.json"
    path.write_text(text)
    assert pieces.read(path) == [] and (tmp_path / "e.old").read_text() == text
    assert "e.old" in capsys.readouterr().err


def test_a_piece_knows_its_build(bench):
    _, pieces = bench
    made = pieces.stamped(piece(pieces, "resnet50", "lime", 1, 2), pathlib.Path(BENCH))
    assert made.date != "2026-01-02 03:04" and made.processor
    json.dumps(made.build)
