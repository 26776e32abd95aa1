"""Fetches datasets, word vectors and weights: resumed, checked, unpacked safely, placed whole."""
