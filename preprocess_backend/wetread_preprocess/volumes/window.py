"""CT windows: by name, or by level and width in HU."""

from wetread_preprocess.volumes.steps import Window

WINDOWS_HU: dict[str, tuple[float, float]] = {
    "abdomen": (50.0, 400.0),
    "angiography": (300.0, 600.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "liver": (30.0, 150.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft_tissue": (50.0, 400.0),
    "spine": (50.0, 250.0),
    "stroke": (40.0, 40.0),
    "subdural": (75.0, 215.0),
    "temporal_bone": (600.0, 2800.0),
}
"""Level and width: what scanners and textbooks preset."""


def window_limits(step: Window) -> tuple[float, float]:
    """Give the HU that become 0 and 1: level -/+ half the width (LINEAR_EXACT of PS3.3 C.11.2.1.3.2).

    Raises:
        ValueError: no window of that name, or not a name or else a level and a width above 0.
    """
    stated = (step.level is not None, step.width is not None)
    if step.name:
        if any(stated):
            raise ValueError(f"window {step.name!r} also states a level or a width; it is one or the other")
        if step.name not in WINDOWS_HU:
            raise ValueError(f"no window is called {step.name!r}; known are {', '.join(WINDOWS_HU)}")
        level, width = WINDOWS_HU[step.name]
    elif step.level is None or step.width is None:
        raise ValueError("a window has a name, or a level and a width in HU")
    else:
        level, width = float(step.level), float(step.width)
    if not width > 0:
        raise ValueError(f"a window's width is above 0 HU, not {width:g}")
    return level - width / 2, level + width / 2
