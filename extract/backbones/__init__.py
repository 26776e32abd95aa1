"""Frozen networks whose maps are cached."""
