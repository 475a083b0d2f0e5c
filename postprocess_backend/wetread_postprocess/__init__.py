"""Model outputs to probabilities, heatmap and novelty. numpy only; knows nothing of Triton."""

from wetread_postprocess.heatmap import heatmap, heatmap_size
from wetread_postprocess.novelty import FeatureStatistics
from wetread_postprocess.pipeline import FindingRule, Pipeline
from wetread_postprocess.reading import InvalidGeometry, Postprocessor, Reading

__all__ = [
    "FeatureStatistics", "FindingRule", "InvalidGeometry", "Pipeline", "Postprocessor", "Reading", "heatmap",
    "heatmap_size",
]  # fmt: skip
