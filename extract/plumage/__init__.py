"""Plumage: an embedded zero-shot dataset of procedurally drawn birds, for trying everything offline."""
