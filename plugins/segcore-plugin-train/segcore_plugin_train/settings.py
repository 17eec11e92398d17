"""All options of a training run in one record; the command line and configuration files are made from it. No torch."""

# ruff: noqa: RUF009 - `_option` makes a field, as `field` does

from __future__ import annotations

import contextlib
import dataclasses
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcore import OptionValueError, UnknownOptionError
from segcore_plugin_train.wording import near_match


def _option(default: Any, help_text: str, *, group: str, **more: Any) -> Any:
    metadata = {"help": help_text, "group": group, **more}
    if isinstance(default, list | dict):
        return field(default_factory=type(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """A training run; see `segcore train --help` for what each field means.

    Lists and mappings are written in a file as such, and on the command line by repeating the option.
    """

    images: str | None = _option(None, "Folder of images.", group="data")
    masks: str | None = _option(None, "Folder of masks: the same names, any ending.", group="data")
    mask_suffix: str = _option("", "What names of masks have before the ending, such as _mask.", group="data")
    multilabel: bool = _option(False, "A pixel may have several classes: masks have a band for each.", group="data")
    class_folders: list[str] = _option([], "Folder of a class below --masks, in order; repeat.", group="data")
    table: str | None = _option(None, "CSV file with the columns image, mask and perhaps split.", group="data")
    dataset: str | None = _option(None, "Hugging Face dataset: name or folder (needs datasets).", group="data")
    dataset_split: str = _option("train", "Its split to train on.", group="data")
    dataset_val_split: str | None = _option(None, "Its split to validate with.", group="data")
    image_column: str = _option("image", "Its column of images.", group="data")
    mask_column: str = _option("mask", "Its column of masks.", group="data")
    val_images: str | None = _option(None, "Folder of images to validate with.", group="data")
    val_masks: str | None = _option(None, "Folder of their masks.", group="data")
    val_fraction: float = _option(0.2, "Share that validates if no others are given.", group="data")
    classes: int | None = _option(None, "Number of classes; 1 is one class and background.", group="data")
    names: list[str] = _option([], "Name of a class, in order; repeat.", group="data")
    label: dict[str, Any] = _option(
        {}, "VALUE=CLASS or VALUE=ignore: what a number or colour #rrggbb in masks means; repeat.", group="data"
    )
    ignore_label: int | None = _option(None, "Number in masks that does not count.", group="data")
    channels: int = _option(3, "Channels of the images.", group="data")
    bands: list[int] = _option([], "Band to read, counted from 1; repeat.", group="data")
    full_scale: float | None = _option(None, "Value in images that counts as 1.", group="data")
    alpha: str = _option("refuse", "Transparent pixels: refuse, drop, black or white.", group="data")
    check: str = _option("full", "Before training: full, sizes or none.", group="data")

    decoder: str = _option("unet", "Any installed decoder.", group="model")
    encoder: str = _option("resnet34", "Any installed encoder.", group="model")
    encoder_weights: str | None = _option(None, "Tag of published weights, or a file.", group="model")
    option: dict[str, Any] = _option({}, "NAME=VALUE of create_model, value in JSON; repeat.", group="model")
    checkpoint: str | None = _option(None, "Start from a checkpoint instead of new parts.", group="model")

    epochs: int = _option(50, "Passes over the images.", group="training")
    steps: int | None = _option(None, "Steps instead of epochs.", group="training")
    samples_per_epoch: int | None = _option(None, "Samples of an epoch instead of all images once.", group="training")
    crop: int = _option(256, "Height and width of samples.", group="training")
    batch_size: int = _option(8, "Samples per process and batch.", group="training")
    val_batch_size: int = _option(1, "Whole images per process at a time.", group="training")
    tile: int | None = _option(
        None, "Validate images that are larger tile by tile, of this height and width.", group="training"
    )
    overlap: int = _option(64, "Pixels that such tiles share.", group="training")
    accumulate: int = _option(1, "Batches per step.", group="training")
    augment: str = _option("default", "default, aerial (all turns), flips or none.", group="training")
    loss: str | None = _option(None, "Any installed loss, or a sum: dice+ce.", group="training")
    loss_option: dict[str, Any] = _option({}, "NAME=VALUE of the loss, value in JSON; repeat.", group="training")
    optimizer: str = _option("adamw", "adamw or sgd.", group="training")
    lr: float = _option(1e-3, "Learning rate.", group="training")
    encoder_lr: float = _option(1.0, "Factor of the encoder's learning rate.", group="training")
    weight_decay: float = _option(0.01, "Weight decay.", group="training")
    schedule: str = _option("poly", "poly, cosine or constant.", group="training")
    warmup: int = _option(0, "Steps over which the rate grows.", group="training")
    clip: float | None = _option(None, "Largest norm of the gradients.", group="training")
    freeze: list[str] = _option([], "Module not to train: name, pattern or class; repeat.", group="training")
    unfreeze_epoch: int | None = _option(None, "Epoch from which they are trained.", group="training")
    ema: float | None = _option(None, "Decay of a moving average of the weights.", group="training")
    patience: int | None = _option(None, "Epochs without a better IoU before the end.", group="training")
    seed: int = _option(0, "Same seed, same result.", group="training")

    channels_last: bool = _option(False, "Memory layout that is faster on most machines.", group="machine")
    precision: str = _option("32", "32, bf16, 16 (scaled losses) or 64.", group="machine")
    compile: bool = _option(False, "Compile the model.", group="machine")
    workers: int = _option(0, "Processes that read images, per process that trains.", group="machine", free=True)
    threads: int | None = _option(None, "CPU threads per process.", group="machine", free=True)
    accelerator: str = _option("auto", "auto, cpu, gpu or another of Lightning's.", group="machine", free=True)
    devices: int | None = _option(
        None, "Devices of this machine. None is what torchrun or SLURM says, else 1.", group="machine", free=True
    )
    strategy: str = _option("auto", "auto, ddp or fsdp.", group="machine", free=True)

    out: str = _option("segcore-run", "Folder of the run.", group="run", free=True)
    save_every: int = _option(200, "Steps between saves; an epoch saves too.", group="run", free=True)
    log_every: int = _option(10, "Steps between lines of the log.", group="run", free=True)
    worst: int = _option(12, "Images in the report, the worst first.", group="run", free=True)
    resume: bool = _option(False, "Continue the run in --out, or begin it if there is none.", group="run", free=True)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "val_batch_size", "accumulate", "crop", "save_every", "log_every"):
            _at_least(name, getattr(self, name), 1)
        for name in ("steps", "samples_per_epoch", "tile", "patience", "classes", "threads", "devices"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        for name in ("workers", "warmup", "worst", "overlap"):
            _at_least(name, getattr(self, name), 0)
        _one_of("precision", self.precision, ("32", "bf16", "16", "64"))
        _one_of("strategy", self.strategy, ("auto", "ddp", "fsdp"))
        for name, lacks in (("compile", self.compile), ("tile", self.tile), ("precision='16'", self.precision == "16")):
            if self.strategy == "fsdp" and lacks:
                raise OptionValueError(f"strategy='fsdp' and {name} do not go together: leave it out, or use 'ddp'.")
        _one_of("check", self.check, ("full", "sizes", "none"))

    def constant(self) -> dict[str, Any]:
        """Return the fields that a run cannot change when it continues."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if not f.metadata.get("free")}


def _at_least(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionValueError(f"{name}={value!r}: a whole number of at least {least} is needed.")


def _one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionValueError(f"{name}={value!r}: it is {', '.join(map(repr, choices))}.")


FIELDS = {f.name: f for f in dataclasses.fields(Settings)}


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the fields that a YAML, TOML or JSON file gives; hyphens in names count as underscores.

    Raises:
        OptionValueError: the file cannot be read, or a value is of another type.
        UnknownOptionError: it has a field that there is not.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        data = tomllib.loads(text) if file.suffix.lower() == ".toml" else _yaml(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise OptionValueError(f"{str(file)!r} cannot be read: {error}. YAML or TOML is needed.") from error
    if not isinstance(data, Mapping):
        raise OptionValueError(f"{str(file)!r}: names and values are needed, got {type(data).__name__}.")
    return {name: value for key, given in data.items() for name, value in [_checked(str(key), given, str(file))]}


def _yaml(text: str) -> Any:
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,), "list[str]": (list,), "list[int]": (list,),
    "dict[str, Any]": (dict,),
}  # fmt: skip


def _checked(key: str, value: Any, where: str) -> tuple[str, Any]:
    name = key.replace("-", "_")
    if name not in FIELDS:
        raise UnknownOptionError(f"{where}: there is no option {key!r}." + near_match(name, FIELDS))
    kind = str(FIELDS[name].type)
    optional = kind.endswith(" | None")
    kind = kind.removesuffix(" | None")
    if value is None and optional:
        return name, None
    if kind == "float" and isinstance(value, str):  # YAML takes 1e-3 for text
        with contextlib.suppress(ValueError):
            value = float(value)
    if kind == "str" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # precision: 32
    wrong = not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "bool")
    if kind.startswith("list") and not wrong:
        wrong = any(not isinstance(entry, str if "str" in kind else int) for entry in value)
    if wrong:
        raise OptionValueError(f"{where}: {key}={value!r:.80}: {kind.partition('[')[0]} is needed.")
    if kind == "float":
        value = float(value)
    return name, {str(k): v for k, v in value.items()} if kind.startswith("dict") else value


def parse_assignment(name: str, text: str) -> tuple[str, Any]:
    """Return name and value of ``NAME=VALUE``; the value is JSON, or text if it is none.

    Raises:
        OptionValueError: there is no ``=``.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise OptionValueError(f"--{name.replace('_', '-')} {text!r}: NAME=VALUE is needed.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
