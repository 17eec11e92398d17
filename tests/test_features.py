import pickle

import pytest

from segcore import FeatureInfo, IncompatiblePartsError
from segcore.features import levels_at_depth

FIVE = FeatureInfo((3, 8, 16, 24, 32, 40), (1, 2, 4, 8, 16, 32))


def test_lookup_by_stride():
    assert FIVE.at(8) == (3,)
    assert FIVE.at(64) == ()
    assert FIVE.from_stride(8) == (3, 4, 5)
    dilated = FeatureInfo((3, 8, 16, 24, 32, 40), (1, 2, 4, 8, 16, 16))
    assert dilated.at(16) == (4, 5)
    assert len(dilated) == 6


def test_isotropic():
    assert FeatureInfo((3, 8, 8, 8), (1, 16, 16, 16)).isotropic
    assert not FIVE.isotropic
    assert not FeatureInfo((3, 8), (1, 16)).isotropic


def test_require_names_what_is_missing():
    FIVE.require("fpn", (4, 8, 16, 32))
    with pytest.raises(
        IncompatiblePartsError, match="fpn needs feature maps at strides 4, 8, 16, 32; the encoder gives 1, 2, 4, 8."
    ):
        FeatureInfo((3, 8, 16, 24), (1, 2, 4, 8)).require("fpn", (4, 8, 16, 32))
    with pytest.raises(IncompatiblePartsError, match="encoder_neck='pyramid'"):
        FeatureInfo((3, 8, 8), (1, 16, 16)).require("fpn", (4, 8, 16, 32))


@pytest.mark.parametrize(("channels", "strides"), [((3, 8), (1,)), ((8,), (2,)), ((3, 8, 8), (1, 4, 2)), ((), ())])
def test_malformed_facts_are_refused(channels, strides):
    with pytest.raises(IncompatiblePartsError):
        FeatureInfo(channels, strides)


def test_levels_at_depth():
    five = ((3, 8, 16, 24, 32, 40), (1, 2, 4, 8, 16, 32))
    assert levels_at_depth(*five, 5) == five
    assert levels_at_depth(*five, 2) == ((3, 8, 16), (1, 2, 4))
    assert levels_at_depth((3, 8, 16, 24, 32), (1, 4, 8, 16, 32), 3) == ((3, 8, 16), (1, 4, 8))
    assert levels_at_depth((3, 8, 8), (1, 14, 14), 4) == ((3, 8, 8), (1, 14, 14))


def test_pickles():
    assert pickle.loads(pickle.dumps(FIVE)) == FIVE
