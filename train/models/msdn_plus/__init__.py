"""MSDN++ (2026), a reconstruction."""
