import copy

import pytest
import torch
from segcore_plugin_train import SegmentationData, SegmentationTask, TrainingError
from segcore_plugin_train.engine import Trainer
from segcore_plugin_train.optim import MovingAverage, make_optimizer, parameter_groups, schedule
from segcore_plugin_train.run import EXPECTED_WARNINGS
from segcore_plugin_train.sharding import units
from torch import nn

import segcore
from segcore import IncompatiblePartsError, OptionValueError
from segcore.testing import TinyDecoder, TinyEncoder

pytestmark = [pytest.mark.filterwarnings(f"ignore:.*{text}") for text in EXPECTED_WARNINGS]  # reasons stand there


@pytest.fixture(autouse=True)
def tiny_parts():
    segcore.encoders["train-tiny"] = TinyEncoder
    segcore.decoders["train-tiny"] = TinyDecoder
    yield
    del segcore.encoders["train-tiny"]
    del segcore.decoders["train-tiny"]


def tiny(classes=4, **options):
    torch.manual_seed(0)
    return segcore.create_model("train-tiny", "train-tiny", classes=classes, **options)


def fit(task, shapes, tmp_path, **options):
    data = SegmentationData.from_folders(shapes / "images", shapes / "masks", classes=4, crop=24, batch_size=4)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=tmp_path, **{"max_epochs": 2, **options},
    )  # fmt: skip
    trainer.fit(task, datamodule=data)
    return trainer, data


def test_a_task_works_in_a_trainer_of_ones_own(shapes, tmp_path):
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    trainer, data = fit(SegmentationTask(model, seed=1), shapes, tmp_path)
    assert trainer.global_step == 4
    assert 0 <= float(trainer.callback_metrics["val_iou"]) <= 1
    assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())
    assert sorted(trainer.lightning_module.per_image) == data.val_indices
    pixels = 32 * 32 * len(data.val_indices)
    assert int(trainer.lightning_module.confusion.matrix.sum()) == pixels


def test_modes_losses_and_batches():
    labels = torch.randint(4, (2, 16, 16))
    assert SegmentationTask(tiny(), "ce").loss(torch.randn(2, 4, 16, 16), labels) > 0
    assert SegmentationTask(tiny(1)).mode == "binary"
    assert SegmentationTask(tiny(3), mode="multilabel", loss="bce").mode == "multilabel"
    assert SegmentationTask(tiny(), lambda output, target: output.sum()).loss is not None


def test_values_that_make_no_sense():
    model = tiny()
    for options in (
        {"mode": "both"}, {"lr": 0}, {"lr_schedule": "polly"}, {"freeze": ["encoda"]}, {"ema": 1.5},
        {"loss": lambda a, b: a, "loss_options": {"x": 1}},
    ):  # fmt: skip
        with pytest.raises(OptionValueError):
            SegmentationTask(model, **options)
    with pytest.raises(segcore.UnknownNameError):
        SegmentationTask(model, "dyce")
    with pytest.raises(OptionValueError, match="activation"):
        SegmentationTask(tiny(activation="softmax"))


def test_outputs_that_are_no_logits_are_told(shapes, tmp_path):
    task = SegmentationTask(tiny(), lambda output, target: output["masks"].mean())
    inner = tiny().eval()
    task.model.forward = lambda x: {"masks": inner(x)}
    with pytest.raises(IncompatiblePartsError, match="logits"):
        fit(task, shapes, tmp_path)


def test_parameter_groups_hold_everything_once_with_their_rates():
    model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 16), classes=2)
    groups = parameter_groups(model, 1.0, 0.1, 0.5)
    parameters = [p for group in groups for p in group["params"]]
    assert len({id(p) for p in parameters}) == len(parameters) == len(list(model.parameters()))
    inside = {id(p) for p in model.encoder.parameters()}
    for group in groups:
        assert all((id(p) in inside) == (group["lr"] == 0.1) for p in group["params"])
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.5) for p in group["params"])
    model.requires_grad_(False)
    with pytest.raises(OptionValueError, match="frozen"):
        parameter_groups(model, 1.0, 0.1, 0.5)


def test_schedules():
    for name in ("poly", "cosine"):
        rule = schedule(name, 100)
        values = [rule(step) for step in range(101)]
        assert values[0] == 1
        assert values[-1] == pytest.approx(0)
        assert values == sorted(values, reverse=True)
    assert schedule("poly", 100)(50) == pytest.approx(0.5**0.9)
    assert schedule("cosine", 100)(50) == pytest.approx(0.5)
    warm = schedule("constant", 100, warmup=4)
    assert [warm(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    with pytest.raises(OptionValueError, match="'cosine'"):
        schedule("cosin", 100)
    with pytest.raises(OptionValueError, match="'adamw'"):
        make_optimizer("adam", [])


def test_the_moving_average_by_hand():
    model, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.num_batches_tracked.fill_(7)
    MovingAverage(0.5).update(average, model, step=0)  # at most 1 / 10
    assert average.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert average.num_batches_tracked.item() == 7
    MovingAverage(0.5).update(average, model, step=1000)
    assert average.weight.item() == pytest.approx(0.5 * 2.8 + 0.5 * 3)


def test_the_average_is_what_is_validated(shapes, tmp_path):
    task = SegmentationTask(tiny(), ema=0.99)
    fit(task, shapes, tmp_path)
    assert task.result is task.averaged
    assert not any(torch.equal(a, b) for a, b in zip(task.averaged.parameters(), task.model.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in task.averaged.parameters())


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_frozen_parts_keep_weights_and_statistics_until_they_are_unfrozen(shapes, tmp_path):
    def train(epochs, **options):
        torch.manual_seed(0)
        model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 16), classes=4)
        before = copy.deepcopy(model.encoder.state_dict())
        fit(SegmentationTask(model, freeze=["encoder"], **options), shapes, tmp_path, max_epochs=epochs)
        return [torch.equal(before[name], value) for name, value in model.encoder.state_dict().items()]

    assert all(train(2))
    assert all(train(1, unfreeze_epoch=1))
    changed = train(2, unfreeze_epoch=1)
    assert not any(changed)  # statistics of norms too, so they are in training mode again


def test_a_class_of_modules_can_be_frozen():
    model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 16), classes=4)
    task = SegmentationTask(model, freeze=["BatchNorm2d"])
    assert set(task._frozen.modules) == set(norms(model))
    assert not any(p.requires_grad for norm in norms(model) for p in norm.parameters())
    assert model.encoder.conv1.weight.requires_grad


def test_every_parameter_gets_a_gradient_that_the_optimiser_knows(shapes, tmp_path):
    task = SegmentationTask(tiny(), "ce")
    trainer, _ = fit(task, shapes, tmp_path, max_steps=1, max_epochs=-1)
    states = trainer.optimizers[0].state
    assert set(states) == set(task.model.parameters())


def test_a_loss_that_is_not_finite_stops(shapes, tmp_path):
    task = SegmentationTask(tiny(), lambda output, target: output.sum() * float("nan"))
    with pytest.raises(TrainingError, match=r"loss is nan at step 1.*--lr"):
        fit(task, shapes, tmp_path)


def test_random_numbers_of_a_step_follow_from_seed_and_step(shapes, tmp_path):
    drawn = {}

    class Noisy(SegmentationTask):
        def training_step(self, batch, batch_idx):
            drawn.setdefault(self.step, []).append(torch.rand(()).item())
            return super().training_step(batch, batch_idx)

    for _ in range(2):
        fit(Noisy(tiny(), seed=3), shapes, tmp_path, max_epochs=1)
        torch.rand(5)
    assert len(drawn) == 2
    assert all(a == b for a, b in drawn.values())
    assert drawn[0][0] != drawn[1][0]


def test_channels_last_changes_the_layout_and_hardly_the_result(shapes, tmp_path):
    found = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = segcore.create_model("unet", "resnet18", encoder_depth=2, decoder_channels=(16, 16), classes=4)
        fit(SegmentationTask(model, channels_last=channels_last), shapes, tmp_path, max_steps=1, max_epochs=-1)
        weight = model.encoder.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
        found.append(weight.detach().contiguous())
    assert torch.allclose(*found, atol=1e-3)


def test_parts_that_are_gathered_by_themselves_are_blocks_that_are_called():
    model = segcore.create_model("segformer", "resnet18", classes=4)
    names = {module: name for name, module in model.named_modules()}
    blocks = [f"encoder.layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert sorted(names[part] for part in units(model, 70_000)) == blocks  # not the decoder's layers, used by weight
    assert sorted(names[part] for part in units(model, 2_000_000)) == blocks[-2:]
    nested = nn.Sequential(nn.Sequential(nn.Sequential(nn.Linear(9, 9)), nn.ModuleList([nn.Linear(9, 9)])))
    assert list(units(nested, 10)) == [nested[0][0]]
