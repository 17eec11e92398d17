"""Where tiles lie and how their weights add up."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from segcore_plugin_predict.tiles import BLENDS, spans

from segcore import OptionValueError


@st.composite
def plans(draw):
    step = draw(st.sampled_from([1, 2, 8, 32]))
    tile = draw(st.integers(step, 200))
    return draw(st.integers(1, 1500)), tile, draw(st.integers(0, tile - 1)), draw(st.sampled_from(BLENDS)), step


@given(plans())
@settings(max_examples=300, deadline=None)
def test_tiles_cover_the_axis_and_their_weights_are_a_partition_of_one(plan):
    size, tile, overlap, _, step = plan
    found = spans(*plan)
    total, covered = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.int64)
    for span in found:
        assert span.start % step == 0
        assert span.length <= tile
        assert len(span.weights) == span.length
        assert (span.weights >= 0).all()
        total[span.start : span.stop] += span.weights
        covered[span.start : span.stop] += 1
    assert (covered >= 1).all()
    assert (total - 1).abs().max() < 1e-6
    assert found[-1].stop == size
    for earlier, later in pairwise(found):
        assert earlier.stop - later.start >= overlap or overlap > tile - step
        assert earlier.length == tile
    assert found[-1].length > tile - step or len(found) == 1


@given(plans())
@settings(max_examples=200, deadline=None)
def test_head_and_keep_say_which_pixels_are_shared(plan):
    found = spans(*plan)
    for index, span in enumerate(found):
        pixels = range(span.start, span.stop)
        earlier = {pixel for other in found[:index] for pixel in range(other.start, other.stop)}
        later = {pixel for other in found[index + 1 :] for pixel in range(other.start, other.stop)}
        assert span.head == sum(pixel in earlier for pixel in pixels)
        assert span.keep == sum(pixel not in later for pixel in pixels)
        alone = span.weights[span.head : max(span.head, span.keep)]
        if plan[3] != "crop":
            assert torch.equal(alone, torch.ones_like(alone))


@given(plans())
@settings(max_examples=200, deadline=None)
def test_cuts_follow_each_other_without_a_gap(plan):
    position = 0
    for span in spans(*plan):
        assert span.start + span.cut[0] == position
        assert 0 <= span.cut[0] < span.cut[1] <= span.length
        position = span.start + span.cut[1]
    assert position == plan[0]


@pytest.mark.parametrize("blend", ["gaussian", "linear"])
def test_weights_of_two_axes_multiply_to_a_partition(blend):
    total = torch.zeros(700, 1100)
    for y in spans(700, 256, 100, blend, 32):
        for x in spans(1100, 256, 60, blend, 32):
            total[y.start : y.stop, x.start : x.stop] += y.weights[:, None] * x.weights
    assert (total - 1).abs().max() < 1e-6


def test_the_weights_fall_towards_the_edge_that_is_shared():
    first, second = spans(200, 128, 56, "gaussian")
    shared = first.weights[first.keep :]
    assert (shared.diff() < 0).all()
    assert shared[0] > 0.9
    assert shared[-1] < 0.1
    assert torch.allclose(second.weights[: second.head].flip(0), shared)


def test_the_number_of_tiles_is_the_least_and_they_are_spread_evenly():
    assert [span.start for span in spans(4096, 512, 64, "gaussian", 32)] == list(range(0, 3585, 448))
    assert [span.start for span in spans(513, 512, 64, "gaussian")] == [0, 1]
    assert [span.start for span in spans(512, 512, 64, "gaussian", 32)] == [0]
    assert [span.start for span in spans(1000, 400, 0, "crop")] == [0, 300, 600]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 50, 50, "crop"), "less than the tile, 50"),
        ((100, 50, -1, "crop"), "at least 0"),
        ((100, 16, 0, "crop", 32), "at least 32 pixels"),
        ((100, 0, 0, "crop"), "at least 1 pixels"),
        ((100, 50, 5, "gauss"), "'gaussian', 'linear', 'crop'"),
    ],
)
def test_values_that_cannot_work(arguments, message):
    with pytest.raises(OptionValueError, match=message):
        spans(*arguments)
