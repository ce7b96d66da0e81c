"""`python -m atlas_ops`."""

from atlas_ops.cli import main

main()
