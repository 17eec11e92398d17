"""How a run uses devices: strategy, precision and who started the processes, as arguments of Lightning's trainer."""

from __future__ import annotations

from typing import Any

import torch

from segcore_plugin_train.engine import DoublePrecision, MixedPrecision, ModelParallelStrategy, SLURMEnvironment
from segcore_plugin_train.settings import Settings

PRECISIONS: dict[str, Any] = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}


def trainer_options(settings: Settings, local: int, nodes: int) -> dict[str, Any]:
    """Return arguments of a trainer for devices of this machine, and machines."""
    plugins: list[Any] = [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []
    strategy: Any = "auto" if local * nodes == 1 else settings.strategy.replace("auto", "ddp")
    divided = strategy == "fsdp"
    if divided:
        strategy = ModelParallelStrategy(local * nodes, 1, save_distributed_checkpoint=False)
    precision = PRECISIONS[settings.precision]
    if divided and settings.precision == "64":  # which Lightning takes as a plugin only
        plugins, precision = [*plugins, DoublePrecision()], None
    elif settings.precision == "16" and _on_cpu(settings.accelerator):  # for which Lightning would take bf16
        plugins, precision = [*plugins, MixedPrecision("16-mixed", "cpu")], None
    return {
        "accelerator": settings.accelerator,
        "devices": local,
        "num_nodes": nodes,
        "strategy": strategy,
        "precision": precision,
        "plugins": plugins,
        "inference_mode": not divided,  # in which a divided model cannot gather its parameters
    }


def _on_cpu(accelerator: str) -> bool:
    others = torch.cuda.is_available() or torch.backends.mps.is_available()
    return accelerator == "cpu" or (accelerator == "auto" and not others)
