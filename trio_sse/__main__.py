"""`python -m trio_sse`: the program `trio-sse`."""

from ._program.cli import main

main()
