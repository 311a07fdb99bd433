"""How far a map points at a mask: the definitions, ties, and what is not defined."""

import libxai
import numpy as np
import pytest


def test_by_hand():
    map = np.array([[4.0, 3, 2], [1, 0, 0]])
    mask = np.array([[1, 0, 1], [0, 0, 0]])
    found = libxai.localisation(map, mask)
    assert found["pointing"] == 1
    assert found["mass"] == pytest.approx(6 / 10)
    assert found["rank"] == pytest.approx(1 / 2)  # the two highest: one of them inside
    assert found["auc"] == pytest.approx((4 + 3) / 8)  # 4 beats all four outside, 2 beats three
    assert found["iou"] == pytest.approx(2 / 3)  # 4, 3 and 2 are at least half of 4


def test_auc_is_the_definition():
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 5, (3, 8, 9)) / 4
    masks = rng.random((3, 8, 9)) < 0.3
    found = libxai.localisation(maps, masks)
    for row in range(3):
        inside, outside = maps[row][masks[row]], maps[row][~masks[row]]
        pairs = (inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2
        assert found["auc"][row] == pytest.approx(pairs)


def test_equal_pixels_share_their_rank():
    mask = np.zeros((4, 4))
    mask[0] = 1
    found = libxai.localisation(np.ones((4, 4)), mask)
    assert found["pointing"] == found["rank"] == found["mass"] == 0.25 and found["auc"] == 0.5


def test_a_map_without_evidence_points_nowhere():
    mask = np.eye(4)
    found = libxai.localisation(-np.ones((4, 4)), mask)
    assert found["pointing"] == 0 and np.isnan(found["mass"]) and found["auc"] == 0.5 and found["iou"] == 0
    assert found["rank"] == 0.25


def test_rows_stand_alone():
    rng = np.random.default_rng(1)
    maps, masks = rng.random((4, 6, 6)), rng.random((4, 6, 6)) < 0.4
    together = libxai.localisation(1000 * maps * np.arange(1, 5)[:, None, None], masks)
    for row in range(4):
        alone = libxai.localisation(maps[row], masks[row])
        assert {name: together[name][row] for name in together} == pytest.approx(alone)


def test_wrong_arguments():
    with pytest.raises(libxai.ShapeError, match="mask"):
        libxai.localisation(np.ones((4, 4)), np.ones((4, 5)))
    with pytest.raises(ValueError, match="NaN"):
        libxai.localisation(np.full((2, 2), np.nan), np.ones((2, 2)))
    with pytest.raises(ValueError, match="threshold"):
        libxai.localisation(np.ones((2, 2)), np.ones((2, 2)), threshold=0)
