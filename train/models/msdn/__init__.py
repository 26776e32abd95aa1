"""MSDN (CVPR 2022)."""
