"""Reports of many images: what the images have in common is named once, and each of them by its reference alone.

TID 1601 has the descriptors of a group of images for that. highdicom builds the tree of the first image; the others are
put beside it here, since entry by entry a series of 384 images takes it a quarter of a minute.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wetread_gateway.results.content import ContentFacts, ImageFacts

_LIBRARY, _MEASUREMENTS = "111028", "126010"  # Image Library; Imaging Measurements (DCM)
_CONTENT = 0x0040A730  # Content Sequence
_SOURCE = "121112"  # Source of Measurement (DCM)


def lean(facts: ContentFacts) -> ContentFacts:
    """Give the facts with their first image alone, without the geometry that each image has of its own."""
    first = replace(facts.images[0], modality="OT", descriptors=())
    findings = tuple(replace(finding, images=finding.images[:1] and (0,)) for finding in facts.findings)
    return replace(facts, images=(first,), findings=findings)


def widen(report: Dataset, facts: ContentFacts) -> None:
    """Put all images into a report that was built of `lean` facts."""
    for container in report.ContentSequence:
        name = _name(container)
        if name == _LIBRARY:
            _widen_library(container.ContentSequence[0], facts)
        elif name == _MEASUREMENTS:
            for group, finding in zip(container.ContentSequence, facts.findings, strict=True):
                _widen_group(group, [facts.images[place] for place in finding.images])


def _widen_library(group: Dataset, facts: ContentFacts) -> None:
    entry = group.ContentSequence[0]
    common = list(entry.ContentSequence)
    del entry.ContentSequence
    _put_items(group, [*common, *_references(entry, facts.images)])


def _widen_group(group: Dataset, images: list[ImageFacts]) -> None:
    items: list[Dataset] = []
    for item in group.ContentSequence:
        items += _references(item, images) if _name(item) == _SOURCE else [item]
    _put_items(group, items)


def _references(model: Dataset, images: tuple[ImageFacts, ...] | list[ImageFacts]) -> Iterator[Dataset]:
    """Give the item `model`, which references an image, for each of `images`."""
    for image in images:
        reference, made = Dataset(), Dataset()
        reference.ReferencedSOPClassUID = image.sop_class_uid
        reference.ReferencedSOPInstanceUID = image.sop_instance_uid
        for element in model:
            if element.keyword != "ReferencedSOPSequence":  # setting it would change the element that all share
                made.add(element)
        made.ReferencedSOPSequence = [reference]
        yield made


def _put_items(container: Dataset, items: list[Dataset]) -> None:
    """Set the content sequence as plain items: highdicom's would ask each for what only its own have."""
    container.add(DataElement(_CONTENT, "SQ", items))


def _name(item: Dataset) -> str:
    named = item.get("ConceptNameCodeSequence")
    return str(named[0].CodeValue) if named else ""
