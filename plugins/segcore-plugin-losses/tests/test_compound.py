"""Sums of losses, over one output and over several."""

import pytest
import torch
import torch.nn.functional as F
from segcore_plugin_losses import CompoundLoss

import segcore
from segcore import InputError, OptionValueError, UnknownNameError, UnknownOptionError, create_loss


@pytest.fixture
def data():
    torch.manual_seed(0)
    y = torch.randint(4, (2, 8, 8))
    y[0, :2] = 255
    return torch.randn(2, 4, 8, 8), y


@pytest.fixture(autouse=True)
def _no_local(monkeypatch):
    monkeypatch.setattr(segcore.losses, "_local", {})


def part(name, **options):
    return create_loss(name, mode="multiclass", ignore_index=255, **options)


def test_a_sum_by_name(data):
    loss = create_loss("dice+ce", mode="multiclass", ignore_index=255)
    torch.testing.assert_close(loss(*data), part("dice")(*data) + part("ce")(*data))
    loss = create_loss("dice+ce+focal", mode="multiclass", ignore_index=255, weights={"ce": 0.5, "focal": 3})
    expected = part("dice")(*data) + 0.5 * part("ce")(*data) + 3 * part("focal")(*data)
    torch.testing.assert_close(loss(*data), expected)
    terms = loss.terms(*data)
    assert list(terms) == ["dice", "ce", "focal"]
    torch.testing.assert_close(terms["focal"], 3 * part("focal")(*data))


def test_parts_with_weights_and_options(data):
    loss = CompoundLoss(
        "multiclass",
        parts={"dice": 2.0, "focal-tversky": 0.5},
        options={"dice": {"smooth": 0.0}},
        ignore_index=255,
        weight=[1, 2, 3, 4],
    )
    expected = 2 * part("dice", smooth=0.0, weight=[1, 2, 3, 4])(*data)
    torch.testing.assert_close(loss(*data), expected + 0.5 * part("focal-tversky", weight=[1, 2, 3, 4])(*data))
    assert loss.to("meta").parts[0].weight.device.type == "meta"
    assert "weights={'dice': 2.0, 'focal-tversky': 0.5}" in repr(loss)


def test_named_outputs(data):
    x, y = data
    output = {"logits": x, "aux_0": x * 2, "aux_1": x.flip(1), "edges": x * 0}
    ce = part("ce")
    loss = CompoundLoss("multiclass", parts="ce", ignore_index=255)
    torch.testing.assert_close(loss(output, y), ce(x, y) + 0.4 * (ce(x * 2, y) + ce(x.flip(1), y) + ce(x * 0, y)))
    loss = CompoundLoss("multiclass", parts="ce", outputs={"logits": 1, "aux_1": 0, "aux_*": 0.3}, ignore_index=255)
    torch.testing.assert_close(loss(output, y), ce(x, y) + 0.3 * ce(x * 2, y))
    assert list(loss.terms(output, y)) == ["logits/ce", "aux_0/ce"]
    torch.testing.assert_close(loss(x, y), ce(x, y))
    with pytest.raises(InputError, match="no output counts: there are edges"):
        loss({"edges": x}, y)


def test_lists_are_deep_supervision(data):
    x, y = data
    small = torch.randn(2, 4, 4, 4)
    ce = part("ce")
    loss = CompoundLoss("multiclass", parts="ce", ignore_index=255)
    large = F.interpolate(small, size=(8, 8), mode="bilinear")
    torch.testing.assert_close(loss([x, small], y), (2 * ce(x, y) + ce(large, y)) / 3)
    loss = CompoundLoss("multiclass", parts="ce", ignore_index=255, outputs={"1": 1.0})
    torch.testing.assert_close(loss([x, small], y), ce(large, y))


@pytest.mark.parametrize("space", [(6,), (6, 8), (4, 6, 8)])
@pytest.mark.parametrize("mode", ["binary", "multiclass", "multilabel"])
def test_small_outputs_in_every_mode_and_rank(mode, space):
    classes = 1 if mode == "binary" else 3
    y = torch.randint(2, (2, classes, *space) if mode == "multilabel" else (2, *space))
    outputs = [torch.randn(2, classes, *space), torch.randn(2, classes, *(side // 2 for side in space))]
    assert create_loss("dice+ce", mode=mode)(outputs, y).isfinite()
    if mode == "binary":
        loss = create_loss("dice+ce", mode=mode)
        torch.testing.assert_close(loss(outputs, y[:, None]), loss(outputs, y))


def test_a_model_with_auxiliary_outputs_trains():
    model = segcore.create_model("pspnet", "resnet18", classes=3, decoder_auxiliary=True)
    loss = create_loss("dice+ce", mode="multiclass")
    y = torch.randint(3, (2, 64, 64))
    terms = loss.terms(model(torch.randn(2, 3, 64, 64)), y)
    assert list(terms) == ["logits/dice", "logits/ce", "aux_0/dice", "aux_0/ce"]
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in model.segmentation_head.parameters())
    assert loss(model.eval()(torch.randn(2, 3, 64, 64)), y).isfinite()


def test_parts_of_other_packages_and_functions(data):
    segcore.losses["mine"] = lambda: lambda output, target: output.square().mean()
    loss = CompoundLoss("multiclass", parts={"dice": 1, "mine": 2})
    x, y = data[0], data[1].clamp_max(3)
    torch.testing.assert_close(loss(x, y), create_loss("dice", mode="multiclass")(x, y) + 2 * x.square().mean())
    with pytest.raises(UnknownOptionError, match="'mine' takes no option 'ignore_index'"):
        CompoundLoss("multiclass", parts=("dice", "mine"), ignore_index=255)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"parts": ()}, OptionValueError, "one or more names"),
        ({"parts": ("dice", "dice")}, OptionValueError, "each once"),
        ({"parts": ("dyce",)}, UnknownNameError, "Did you mean 'dice'"),
        ({"weights": {"focal": 1}}, UnknownOptionError, "no part; parts are dice, ce"),
        ({"options": {"focal": {}}}, UnknownOptionError, "no part; parts are dice, ce"),
        ({"options": {"dice": {"smoth": 1}}}, UnknownOptionError, "Did you mean 'smooth'"),
        ({"options": {"dice": {"reduction": "none"}}}, OptionValueError, "reduction='none'"),
        ({"weights": {"dice": -1}}, OptionValueError, "weights"),
        ({"outputs": {"logits": -1}}, OptionValueError, "outputs"),
        ({"mode": "multi"}, OptionValueError, "mode='multi'"),
        ({"ignore_index": 1.5}, OptionValueError, "ignore_index=1.5"),
    ],
)
def test_refusals(options, error, told):
    with pytest.raises(error, match=told):
        create_loss("compound", **{"mode": "multiclass", **options})


def test_outputs_that_cannot_be_used(data):
    x, y = data
    loss = create_loss("dice+ce", mode="multiclass", ignore_index=255)
    with pytest.raises(InputError, match=r"got tuple\. A model with a classification head gives \(mask, label\)"):
        loss((x, torch.zeros(2, 3)), y)
    with pytest.raises(InputError, match="no output counts: there are none"):
        loss({}, y)
    with pytest.raises(InputError, match="must have shape"):
        loss(x, y[:1])
    with pytest.raises(InputError, match="target: a tensor is needed"):
        loss(x, None)
