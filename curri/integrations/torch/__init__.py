"""PyTorch: samplers around ``DataLoader`` that yield what a curriculum picks, and a dataset of a store's prompts."""

from __future__ import annotations

from curri.integrations.torch.dataset import PromptDataset
from curri.integrations.torch.sampler import CurriculumBatchSampler, CurriculumSampler, TooStale

__all__ = ["CurriculumBatchSampler", "CurriculumSampler", "PromptDataset", "TooStale"]
