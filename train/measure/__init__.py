"""Figures: metrics, curve, scores, evaluation, selection, and how they are shown."""
