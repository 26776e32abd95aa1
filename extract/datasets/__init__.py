"""Datasets that `--dataset` knows: one small file each over shared readers."""
