"""Attributes in groups: from a file, a published table, the attributes' names, or by clustering."""
