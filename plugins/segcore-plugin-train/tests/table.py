"""Writes the page of measured results: IoU by decoder, loss and seed, and segcore beside SMP.

    OMP_NUM_THREADS=1 python table.py docs/reference/training-results.md [--steps 80]

takes some twelve CPU-minutes. Numbers are kept in a JSON file beside the work folder, so a table can be made again alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from segcore import guard_torchvision

guard_torchvision()
sys.path.insert(0, str(Path(__file__).parent))

import segmentation_models_pytorch as smp  # noqa: E402
from segcore_plugin_demo.data import load_coins  # noqa: E402
from segcore_plugin_losses.metrics import ConfusionMatrix  # noqa: E402
from segcore_plugin_train import SegmentationData, Settings, train  # noqa: E402
from segcore_plugin_train.task import make_loss  # noqa: E402
from shapes import NAMES, make  # noqa: E402

import segcore  # noqa: E402

SEEDS = (0, 1, 2)
DECODERS = ("unet", "linknet", "fpn", "deeplabv3plus", "segformer")
SIZE = 48
LOSSES = ("ce", "focal", "lovasz", "dice+ce")
BINARY = ("bce", "dice+bce")


def coins(folder: Path) -> None:
    """Write the two halves of the demo's photograph: coins to train on and coins to validate with."""
    pair = load_coins()
    for part, half in (("train", pair.seen), ("val", pair.unseen)):
        for kind, values in (("images", half(pair.image)[0] * 255), ("masks", half(pair.mask).float())):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.round().to(torch.uint8).numpy()).save(folder / part / kind / "coins.png")


def run(work: Path, data: str, decoder: str, loss: str, seed: int, steps: int) -> float:
    """Return the mean IoU of the best checkpoint of one training run."""
    shared = {"decoder": decoder, "encoder": "resnet18", "loss": loss, "seed": seed, "batch_size": 8, "lr": 2e-3,
              "steps": steps, "check": "none", "worst": 0, "threads": 1, "warmup": 10}  # fmt: skip
    out = str(work / f"{data}-{decoder}-{loss}-{seed}")
    if data == "shapes":
        more = {"images": str(work / "shapes/images"), "masks": str(work / "shapes/masks"), "classes": len(NAMES),
                "crop": SIZE, "samples_per_epoch": 160, "val_fraction": 0.25, "augment": "flips"}  # fmt: skip
    else:
        halves = {
            f"{p}{k}": str(work / "coins" / d / k)
            for p, d in (("", "train"), ("val_", "val"))
            for k in ("images", "masks")
        }
        more = {**halves, "classes": 1, "channels": 1, "crop": 64, "samples_per_epoch": 160, "augment": "aerial"}
    done = train(Settings(**shared, **more, out=out), tell=lambda line: None)
    return done.mean_iou


def side_by_side(work: Path, seed: int, steps: int) -> dict[str, float]:
    """Train segcore's and SMP's Unet/resnet18 from one set of weights on the same batches; return IoU."""
    data = SegmentationData.from_folders(
        work / "shapes/images", work / "shapes/masks", classes=4, crop=SIZE, val_fraction=0.25, augment="flips",
        samples_per_epoch=8 * steps, seed=seed,
    )  # fmt: skip
    torch.manual_seed(seed)
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=4)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = segcore.from_pretrained(folder)
    fast = segcore.create_model("unet", "resnet18", classes=4)
    fast.load_state_dict(ours.state_dict())
    models = {
        "segcore": ours,
        "smp": theirs,
        "segcore, channels_last + bf16": fast.to(memory_format=torch.channels_last),
    }
    loss = make_loss("dice+ce", "multiclass", data.ignore, None)
    optimizers = {name: torch.optim.AdamW(model.train().parameters(), 2e-3) for name, model in models.items()}
    for step, (images, labels) in enumerate(data.train_dataloader()):
        for name, model in models.items():
            for group in optimizers[name].param_groups:
                group["lr"] = 2e-3 * min(1, (step + 1) / 10) * (1 - step / steps) ** 0.9
            x = images.contiguous(memory_format=torch.channels_last) if "last" in name else images
            with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name):
                output = model(x)
            optimizers[name].zero_grad()
            loss(output, labels).backward()
            optimizers[name].step()
    found = {}
    for name, model in models.items():
        seen = ConfusionMatrix(4)
        model.eval()
        with torch.inference_mode():
            for groups in data.val_dataloader():
                for images, labels, _ in groups:
                    seen.update(model(images), labels)
        found[f"iou {name}"] = float(seen.score("iou"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "segcore-table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = options.work
    make(work / "shapes", 64, SIZE, 0)
    coins(work / "coins")
    kept = work / f"numbers-{options.steps}.json"
    numbers = json.loads(kept.read_text()) if kept.exists() else {}
    jobs = [("shapes", decoder, "dice+ce") for decoder in DECODERS]
    jobs += [("shapes", "unet", loss) for loss in LOSSES if loss != "dice+ce"]
    jobs += [("coins", decoder, "dice+bce") for decoder in ("unet", "fpn")]
    jobs += [("coins", "unet", loss) for loss in BINARY if loss != "dice+bce"]
    for seed in SEEDS:
        for job in [*jobs, ("beside", "unet", "dice+ce")]:
            key = "/".join([*job, str(seed)])
            if key not in numbers:
                steps = options.steps
                numbers[key] = side_by_side(work, seed, steps) if job[0] == "beside" else run(work, *job, seed, steps)
                kept.write_text(json.dumps(numbers, indent=1))
                print(key, numbers[key], flush=True)
    options.page.write_text(page(numbers, options.steps), encoding="utf-8")


def rows(numbers: dict, data: str, second: int) -> list[str]:
    """Return lines of a table: one per decoder (1) or loss (2)."""
    found: dict[str, list[float]] = {}
    for key, value in numbers.items():
        name, decoder, loss, _ = key.split("/")
        fits = loss.startswith("dice+") if second == 1 else decoder == "unet"
        if name == data and fits:
            found.setdefault((decoder, loss)[second - 1], []).append(value)
    return [
        f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} | {statistics.mean(values):.3f} |"
        for name, values in sorted(found.items(), key=lambda item: -statistics.mean(item[1]))
    ]


def page(numbers: dict, steps: int) -> str:
    """Return the page as Markdown."""
    seeds = "".join(f" seed {seed} |" for seed in SEEDS)
    rule = "|---|" + "---|" * (len(SEEDS) + 1)
    beside = [numbers[f"beside/unet/dice+ce/{seed}"] for seed in SEEDS]
    names = [key.removeprefix("iou ") for key in beside[0] if key.startswith("iou ")]
    lines = [
        "# Results of training",
        "",
        "Made by `plugins/segcore-plugin-train/tests/table.py`; do not edit. Encoder resnet18, from random weights, one CPU",
        f"thread, torch {torch.__version__.partition('+')[0]}. Mean IoU on images that did",
        "not train the model, of the best checkpoint, which was chosen on the same images.",
        "",
        "## Shapes",
        "",
        f"64 images of {SIZE} x {SIZE} pixels with exact masks of {len(NAMES)} classes ({', '.join(NAMES)}), made by",
        f"`tests/shapes.py`: 48 train, 16 validate. {steps} steps of 8 samples, AdamW, learning rate 0.002, poly, flips.",
        "Runs are short, images small and nothing is tuned, so the order of decoders and losses holds for this set alone.",
        "",
        f"| decoder (loss dice+ce) |{seeds} mean |", rule, *rows(numbers, "shapes", 1), "",
        f"| loss (decoder unet) |{seeds} mean |", rule, *rows(numbers, "shapes", 2), "",
        "## Coins",
        "",
        f"The photograph of `segcore demo`: 12 coins train, the 12 others validate. {steps} steps of 8 crops of 64 x 64",
        "pixels, all flips and turns. IoU of the coins.",
        "",
        f"| decoder (loss dice+bce) |{seeds} mean |", rule, *rows(numbers, "coins", 1), "",
        f"| loss (decoder unet) |{seeds} mean |", rule, *rows(numbers, "coins", 2), "",
        "## Beside segmentation_models_pytorch",
        "",
        f"Unet with resnet18 of both libraries (SMP {smp.__version__}), from the same weights, on the same batches of the",
        "shapes. What a step costs beside SMP's is among the [benchmarks](benchmarks.md), under `step`.",
        "",
        f"| model |{seeds} mean |", rule,
    ]  # fmt: skip
    for name in names:
        values = [found[f"iou {name}"] for found in beside]
        lines.append(f"| {name} | {' | '.join(f'{v:.3f}' for v in values)} | {statistics.mean(values):.3f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
