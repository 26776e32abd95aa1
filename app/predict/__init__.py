"""Predictions for images that nobody has labelled, among known classes and new ones."""
