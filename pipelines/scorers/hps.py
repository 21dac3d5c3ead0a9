"""Human Preference Score v2.1 (Wu et al., 2023, arXiv:2306.09341; github.com/tgxs002/HPSv2)."""

from __future__ import annotations

from dataclasses import replace

from pipelines.scorers.open_clip_models import ClipModel


def as_hps(model: ClipModel) -> ClipModel:
    """A CLIP model that sees images as the score's authors show them: whole, with black beside them."""
    shown = replace(model.preprocessing, resize_mode="longest", fill_color=0)
    return replace(model, preprocessing=shown)
