"""The Oxford-IIIT Pet dataset, cat or dog against background."""

from __future__ import annotations

from segcore_smp.datasets.oxford_pet import OxfordPetDataset, SimpleOxfordPetDataset

__all__ = ["OxfordPetDataset", "SimpleOxfordPetDataset"]
