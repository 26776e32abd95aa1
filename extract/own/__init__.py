"""Datasets of the user's own: a folder of images and a CSV file of class attributes."""
