"""Small programs as SMP's users write them, with nothing changed but the import."""

import pytest
import segcore_smp as smp
import torch
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    """Bright squares on dark ground."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        top, left = (int(value) for value in torch.randint(0, 32, (2,), generator=generator))
        mask = torch.zeros(1, 64, 64)
        mask[:, top : top + 24, left : left + 24] = 1
        image = 0.1 * torch.rand(3, 64, 64, generator=generator) + 0.8 * mask
        return image, mask


def test_first_steps():
    model = smp.Unet(encoder_name="resnet18", encoder_weights=None, in_channels=1, classes=3)
    mask = model(torch.ones([1, 1, 64, 64]))
    assert mask.shape == (1, 3, 64, 64)
    preprocess = smp.encoders.get_preprocessing_fn("resnet18", pretrained="imagenet")
    assert preprocess(torch.zeros(8, 8, 3).numpy()).shape == (8, 8, 3)
    model = smp.Unet("resnet18", encoder_weights=None, aux_params={"pooling": "avg", "dropout": 0.5, "classes": 4})
    mask, label = model(torch.ones([2, 3, 64, 64]))
    assert label.shape == (2, 4)


def test_training():
    torch.manual_seed(0)
    model = smp.create_model("FPN", encoder_name="resnet18", encoder_weights=None, in_channels=3, classes=1)
    params = smp.encoders.get_preprocessing_params("resnet18")
    std = torch.tensor(params["std"]).view(1, 3, 1, 1)
    mean = torch.tensor(params["mean"]).view(1, 3, 1, 1)
    loss_fn = smp.losses.DiceLoss(smp.losses.BINARY_MODE, from_logits=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        counts = []
        for image, mask in DataLoader(Squares(), batch_size=4):
            logits = model((image - mean) / std)
            loss = loss_fn(logits, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            predicted = (logits.sigmoid() > 0.5).float()
            counts.append(smp.metrics.get_stats(predicted.long(), mask.long(), mode="binary"))
    assert losses[-1] < losses[0]
    tp, fp, fn, tn = (torch.cat(parts) for parts in zip(*counts, strict=True))
    per_image = smp.metrics.iou_score(tp, fp, fn, tn, reduction="micro-imagewise")
    dataset_iou = smp.metrics.iou_score(tp, fp, fn, tn, reduction="micro")
    assert 0 <= per_image <= 1
    assert 0 <= dataset_iou <= 1


def test_saving_and_loading(tmp_path):
    model = smp.Unet("resnet18", encoder_weights=None, classes=2)
    model.save_pretrained(tmp_path / "model", dataset="Squares", metrics={"iou": 0.5})
    restored = smp.from_pretrained(tmp_path / "model")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(restored(x), model.eval()(x))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    other = smp.Unet("resnet18", encoder_weights=None, classes=2)
    other.load_state_dict(torch.load(tmp_path / "weights.pth"))
    assert torch.equal(other.eval()(x), model(x))


def test_tracing():
    model = smp.Unet("resnet18", encoder_weights=None).eval()
    x = torch.rand(1, 3, 32, 32)
    with pytest.warns() as caught:  # torch deprecates its tracer, and it warns of sizes read while tracing
        traced = torch.jit.trace(model, x)
    assert {item.category.__name__ for item in caught} <= {"DeprecationWarning", "TracerWarning", "FutureWarning"}
    torch.testing.assert_close(traced(x), model(x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripting_is_refused():
    model = smp.Unet("resnet18", encoder_weights=None).eval()
    assert not model._is_torch_scriptable
    with pytest.raises(RuntimeError, match=r"Use torch\.export"):
        torch.jit.script(model)


@pytest.mark.slow
def test_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = smp.Unet("resnet18", encoder_weights=None).eval()
    x = torch.rand(1, 3, 32, 32)
    torch.onnx.export(model, (x,), tmp_path / "model.onnx", dynamo=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x), rtol=1e-3, atol=1e-4)


def test_a_model_assembled_from_parts():
    class Two(smp.base.SegmentationModel):
        def __init__(self):
            super().__init__()
            self.encoder = smp.encoders.get_encoder("resnet18", in_channels=6, depth=5, weights=None)
            self.decoder = smp.decoders.fpn.decoder.FPNDecoder(self.encoder.out_channels)
            self.segmentation_head = smp.base.SegmentationHead(128, 2, kernel_size=1, upsampling=4)
            self.classification_head = smp.base.ClassificationHead(512, classes=3)
            self.initialize()

    model = Two()
    mask, label = model(torch.rand(2, 6, 64, 64))
    assert mask.shape == (2, 2, 64, 64)
    assert label.shape == (2, 3)
