"""Features and annotations from elsewhere: import, annotate."""
