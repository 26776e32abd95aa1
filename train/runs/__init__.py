"""Run folders: manifest, kept results, and how they are found."""
