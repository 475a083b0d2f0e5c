"""Buckets: a volume is padded to a size that depends on its own shape alone, so that like volumes share a batch."""

from wetread_preprocess.volumes.grid import Triple


def padded_shape(shape: Triple, multiple: Triple) -> Triple:
    """Give the bucket of a volume of `shape`: each axis rounded up to the next multiple."""
    first, second, third = (-(-side // step) * step for side, step in zip(shape, multiple, strict=True))
    return first, second, third
