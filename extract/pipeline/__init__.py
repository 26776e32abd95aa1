"""From images to rows of a cache: reading, computing, writing, resuming."""
