"""The pooled baseline of MSDN's Table 2."""
