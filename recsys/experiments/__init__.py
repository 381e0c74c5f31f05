"""Experiments: what is compared, and who takes part in it."""

from recsys.experiments.assignment import Asked, Experiment, assign, bucket, prepared
from recsys.experiments.definition import ExperimentConfig, Name, VariantConfig, require_sound

__all__ = [
    "Asked",
    "Experiment",
    "ExperimentConfig",
    "Name",
    "VariantConfig",
    "assign",
    "bucket",
    "prepared",
    "require_sound",
]
