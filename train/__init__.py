"""Stage two: models trained and evaluated on the features of one cache. Importing this loads no torch."""
