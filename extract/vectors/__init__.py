"""Attribute word vectors: built from a file of word vectors, imported from published files, kept as .npz."""
