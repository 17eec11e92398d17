import pytest
import torch
from torch import nn

from segcore import ClassificationHead, OptionValueError, SegmentationHead
from segcore.heads import ACTIVATIONS, make_activation


@pytest.mark.parametrize("size", [(7, 9), (14, 18), (15, 17)])
def test_segmentation_head_gives_the_asked_size(size):
    head = SegmentationHead(4, 3)
    assert head(torch.rand(2, 4, 7, 9), size).shape == (2, 3, *size)
    assert sorted(head.state_dict()) == ["0.bias", "0.weight"]


def test_align_corners_is_torchs():
    x = torch.rand(1, 4, 5, 5)
    for align in (True, False):
        head = SegmentationHead(4, 2, align_corners=align)
        wanted = nn.functional.interpolate(head[0](x), size=(20, 20), mode="bilinear", align_corners=align)
        assert torch.equal(head(x, (20, 20)), wanted)


def test_activations():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(make_activation(None)(x), x)
    assert torch.equal(make_activation("identity")(x), x)
    assert torch.equal(make_activation("sigmoid")(x), x.sigmoid())
    assert torch.equal(make_activation("softmax")(x), x.softmax(1))
    assert torch.equal(make_activation("logsoftmax")(x), x.log_softmax(1))
    assert torch.equal(make_activation("tanh")(x), x.tanh())
    assert torch.equal(make_activation("argmax")(x), x.argmax(1))
    for given in (torch.sigmoid, nn.Sigmoid, nn.Sigmoid()):
        assert torch.equal(make_activation(given)(x), x.sigmoid())
    assert set(ACTIVATIONS) == {"identity", "sigmoid", "softmax", "logsoftmax", "tanh", "argmax"}


@pytest.mark.parametrize("wrong", ["sigmod", 3, dict])
def test_a_wrong_activation_is_refused(wrong):
    with pytest.raises(OptionValueError, match="activation="):
        make_activation(wrong)


@pytest.mark.parametrize(("pooling", "reduce"), [("avg", lambda x: x.mean((2, 3))), ("max", lambda x: x.amax((2, 3)))])
def test_classification_head(pooling, reduce):
    x = torch.rand(2, 4, 5, 6)
    head = ClassificationHead(4, 3, pooling=pooling, dropout=0.5, activation="softmax").eval()
    torch.testing.assert_close(head(x), head[3](reduce(x)).softmax(1))
    assert sorted(head.state_dict()) == ["3.bias", "3.weight"]
    assert isinstance(ClassificationHead(4, 3, dropout=None)[2], nn.Identity)


@pytest.mark.parametrize("wrong", [{"pooling": "mean"}, {"dropout": 1.0}, {"dropout": -0.1}, {"activation": "no"}])
def test_classification_head_refuses(wrong):
    with pytest.raises(OptionValueError):
        ClassificationHead(4, 3, **wrong)
