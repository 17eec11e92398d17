import copy
import pickle

import pytest
import torch
from torch import nn

import segcore
from segcore import InputError, SegmentationModel
from segcore.testing import TinyDecoder, TinyEncoder


def tiny(**encoder):
    return segcore.create_model(TinyDecoder, TinyEncoder(**encoder), classes=2)


def test_mask_and_label():
    model = segcore.create_model(TinyDecoder, TinyEncoder(), classes=2, aux_params={"classes": 5})
    mask, label = model(torch.rand(3, 3, 40, 50))
    assert mask.shape == (3, 2, 40, 50)
    assert label.shape == (3, 5)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (31, 33), (64, 32)])
def test_the_mask_has_the_size_of_the_image(size):
    with torch.no_grad():
        assert tiny().eval()(torch.rand(2, 3, *size)).shape == (2, 2, *size)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (torch.zeros(3, 8, 8), r"x\[None\]"),
        (torch.zeros(1, 1, 3, 8, 8), "shape"),
        (torch.zeros(1, 1, 8, 8), "in_channels=1"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "x.float()"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), "torch.int64"),
        (torch.zeros(1, 3, 0, 8), "empty"),
    ],
)
def test_wrong_images_are_refused(x, says):
    with pytest.raises(InputError, match=says):
        tiny()(x)


def test_padding_to_a_multiple_is_cropped_again():
    encoder = TinyEncoder()
    encoder._size_multiple = 14
    seen = []
    encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    model = segcore.create_model(TinyDecoder, encoder, classes=2).eval()
    assert model(torch.rand(1, 3, 15, 28)).shape == (1, 2, 15, 28)
    assert seen == [(28, 28)]


def test_several_masks_by_name_are_cropped_too():
    class Named(nn.Module):
        def forward(self, x, size):
            return {"logits": torch.zeros(1, 2, *size), "aux_0": torch.zeros(1, 2, *size)}

    encoder = TinyEncoder()
    encoder._size_multiple = 16
    model = SegmentationModel(encoder, TinyDecoder(encoder.feature_info), Named()).eval()
    assert {name: mask.shape[-2:] for name, mask in model(torch.rand(1, 3, 9, 9)).items()} == {
        "logits": (9, 9),
        "aux_0": (9, 9),
    }


def test_predict_is_eval_without_gradient_and_restores_every_mode():
    model = tiny().train()
    model.decoder.eval()
    before = [module.training for module in model.modules()]
    x = torch.rand(2, 3, 32, 32)
    mask = model.predict(x)
    assert not mask.requires_grad
    assert [module.training for module in model.modules()] == before
    assert torch.equal(mask, copy.deepcopy(model).eval()(x).detach())


def test_predict_restores_modes_after_an_error():
    model = tiny().train()
    with pytest.raises(InputError):
        model.predict(torch.rand(3, 3))
    assert model.training


def test_a_frozen_encoder_stays_frozen_and_evaluates():
    class Noisy(TinyEncoder):
        def __init__(self):
            super().__init__()
            self.noise = nn.Dropout(0.5)

        def forward(self, x):
            return [self.noise(feature) for feature in super().forward(x)]

    model = segcore.create_model(TinyDecoder, Noisy(), classes=1).train()
    model.freeze_encoder()
    statistics = model.encoder.stages[0][1].running_mean.clone()
    model.train()
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert torch.equal(model.encoder.stages[0][1].running_mean, statistics)
    assert all(value.grad is None for value in model.encoder.parameters())
    assert all(value.grad is not None for value in model.decoder.parameters())
    model.eval()  # a frozen encoder must not stay behind in training mode
    assert not any(module.training for module in model.modules())
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    model.train()
    model.unfreeze_encoder()
    assert model.encoder.training
    assert all(value.requires_grad for value in model.encoder.parameters())


def test_copies_and_pickles_keep_their_output_and_config():
    model, x = tiny().eval(), torch.rand(1, 3, 32, 32)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))
        assert other.config == model.config


def test_compile_and_export_equal_eager():
    model = tiny().eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    exported = torch.export.export(
        model,
        (torch.rand(2, 3, 64, 96),),
        dynamic_shapes={
            "x": {
                0: torch.export.Dim("n", min=1, max=8),
                2: torch.export.Dim("h", min=33),
                3: torch.export.Dim("w", min=33),
            }
        },
        strict=False,
    ).module()
    for size in ((64, 64), (70, 50)):
        x = torch.rand(3, 3, *size)
        assert torch.equal(compiled(x), model(x))
        assert torch.equal(exported(x), model(x))
