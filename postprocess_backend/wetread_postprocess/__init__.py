"""Model outputs to probabilities, heatmap and novelty. numpy only; knows nothing of Triton."""

from wetread_postprocess.heatmap import heatmap, heatmap_size
from wetread_postprocess.novelty import FeatureStatistics
from wetread_postprocess.pipeline import FindingRule, NoveltyRule, Pipeline
from wetread_postprocess.reading import InvalidGeometry, InvalidScores, Postprocessor, Reading

__all__ = [
    "FeatureStatistics", "FindingRule", "InvalidGeometry", "InvalidScores", "NoveltyRule", "Pipeline",
    "Postprocessor", "Reading", "heatmap", "heatmap_size",
]  # fmt: skip
