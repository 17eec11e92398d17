import pytest
import torch
from segcore_plugin_demo.metrics import Threshold, best_threshold, components, iou, objects_found, otsu_threshold


def mask(*rows):
    return torch.tensor([[letter == "#" for letter in row] for row in rows])


def test_iou():
    assert iou(mask("##.."), mask(".##.")) == pytest.approx(1 / 3)
    assert iou(mask("...."), mask("....")) == 1
    assert iou(mask("##.."), mask("..##")) == 0


def test_components_are_connected_by_edges_not_by_corners():
    labels = components(mask("#.#.#", "#.#..", "#####", "....#", "###.."))
    assert labels.max() == 3
    assert len({int(labels[p]) for p in ((0, 0), (0, 2), (2, 3), (3, 4))}) == 1
    assert labels[0, 4] != labels[0, 0]
    assert labels[4, 0] != labels[3, 4]
    assert torch.equal(labels > 0, mask("#.#.#", "#.#..", "#####", "....#", "###.."))
    assert components(mask("..", "..")).max() == 0


def test_components_of_a_spiral_are_one():
    spiral = mask("#######", "......#", "#####.#", "#...#.#", "#.###.#", "#.....#", "#######")
    assert components(spiral).max() == 1


def test_components_agree_with_a_plain_flood_fill():
    noise = torch.rand(40, 50, generator=torch.Generator().manual_seed(0)) < 0.55
    labels, seen, count = components(noise), set(), 0
    for start in noise.nonzero().tolist():
        if tuple(start) in seen:
            continue
        count += 1
        stack, region = [tuple(start)], set()
        while stack:
            y, x = stack.pop()
            if 0 <= y < 40 and 0 <= x < 50 and noise[y, x] and (y, x) not in region:
                region.add((y, x))
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        seen |= region
        assert len({int(labels[p]) for p in region}) == 1
    assert labels.max() == count


def test_objects_found():
    truth = mask("####.####", "####.####")
    assert objects_found(truth, truth) == (2, 2)
    assert objects_found(mask("##.......", "##......."), truth) == (0, 2)  # exactly half is not enough
    assert objects_found(mask("###......", "##......."), truth) == (1, 2)
    assert objects_found(mask("#########", "####.####"), truth) == (0, 2)  # run together
    assert objects_found(mask(".........", "........."), truth) == (0, 2)
    assert objects_found(torch.ones(2, 9, dtype=torch.bool), truth) == (0, 2)
    assert objects_found(mask("#.#..####", "#.#..####"), truth) == (1, 2)  # in two pieces, none large enough


@pytest.mark.parametrize("brighter", [True, False])
def test_thresholds_separate_two_clear_groups_on_either_side(brighter):
    truth = torch.rand(20, 20, generator=torch.Generator().manual_seed(0)) < 0.3
    grey = torch.where(truth == brighter, 200, 50).to(torch.uint8)
    for rule in (otsu_threshold, best_threshold):
        threshold = rule(grey, truth)
        assert threshold.brighter == brighter
        assert 50 <= threshold.level < 200
        assert iou(threshold(grey), truth) == 1


def test_thresholds_survive_an_image_of_one_grey():
    grey, truth = torch.full((4, 4), 9, dtype=torch.uint8), torch.eye(4) > 0
    for rule in (otsu_threshold, best_threshold):
        assert rule(grey, truth)(grey).shape == (4, 4)


def test_a_threshold_calls_levels_above_it_objects():
    assert Threshold(3, brighter=True)(torch.tensor([3, 4])).tolist() == [False, True]
    assert Threshold(3, brighter=False)(torch.tensor([3, 4])).tolist() == [True, False]
