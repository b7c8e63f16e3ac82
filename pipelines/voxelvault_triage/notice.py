"""What stands on every screen and in every result: that none of this is a medical device."""

from __future__ import annotations

from typing import Final

DEMONSTRATION: Final = "Demonstration model trained on synthetic data; not a medical device."
"""Of what a demonstration model made."""

SITE: Final = "Made by software for research; not a medical device."
"""Of what a site's own model made, or a pipeline without a model."""

FOREIGN: Final = "Not a medical device by itself: whoever installed it answers for its use."
"""Of a model that a site installed."""

GENERAL: Final = (
    "Not a medical device; nothing here may decide about a patient. The model that ships is a demonstration "
    "model trained on synthetic data."
)
"""Where no one model is meant."""


def notice(demonstration: bool) -> str:
    """Return what a result says, by whether a demonstration model made it."""
    return DEMONSTRATION if demonstration else SITE
