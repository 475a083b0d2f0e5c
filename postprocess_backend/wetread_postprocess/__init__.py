"""Model outputs to readings and segmentations. numpy only; knows nothing of Triton."""

from wetread_postprocess.answerer import Answerer, load_answerer
from wetread_postprocess.heatmap import heatmap, heatmap_size
from wetread_postprocess.notes import InvalidGeometry
from wetread_postprocess.novelty import FeatureStatistics
from wetread_postprocess.pipeline import FindingRule, NoveltyRule, Pipeline
from wetread_postprocess.reading import InvalidScores, Postprocessor, Reading
from wetread_postprocess.segmentation import Segmentation, Segmenter
from wetread_postprocess.segments import SegmentRules

__all__ = [
    "Answerer", "FeatureStatistics", "FindingRule", "InvalidGeometry", "InvalidScores", "NoveltyRule", "Pipeline",
    "Postprocessor", "Reading", "SegmentRules", "Segmentation", "Segmenter", "heatmap", "heatmap_size",
    "load_answerer",
]  # fmt: skip
