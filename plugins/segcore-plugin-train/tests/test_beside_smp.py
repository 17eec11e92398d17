"""Training changes segcore's models as it changes SMP's: the same weights and batches give the same weights."""

import torch
from segcore_plugin_train import SegmentationData
from segcore_plugin_train.task import make_loss

import segcore
from segcore import guard_torchvision

guard_torchvision()


def test_the_same_batches_change_both_libraries_models_alike(shapes, tmp_path):
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=4)
    theirs.save_pretrained(tmp_path)
    ours = segcore.from_pretrained(tmp_path)
    data = SegmentationData.from_folders(shapes / "images", shapes / "masks", classes=4, crop=32, batch_size=3)
    loss, losses = make_loss(None, "multiclass", data.ignore, None), []
    models = [model.double().train() for model in (ours, theirs)]
    optimizers = [torch.optim.SGD(model.parameters(), 0.05) for model in models]
    for images, labels in data.train_dataloader():
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            value = loss(model(images.double()), labels)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    assert len(losses) == 6
    assert torch.allclose(torch.tensor(losses[::2]), torch.tensor(losses[1::2]), rtol=1e-9)
    theirs_now = theirs.state_dict()
    before = smp.from_pretrained(tmp_path).state_dict()
    for name, value in ours.state_dict().items():
        assert torch.allclose(value, theirs_now[name], rtol=1e-7, atol=1e-9), name
    assert not torch.equal(before["encoder.conv1.weight"].double(), theirs_now["encoder.conv1.weight"])
