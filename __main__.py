"""`python -m msdn`."""

from msdn.cli import main

main()
