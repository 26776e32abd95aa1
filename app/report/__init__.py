"""`msdn report`: everything a run found, on one page that needs nothing but a browser."""
