"""What joins both stages: the only folder that imports `extract` and `train`."""
