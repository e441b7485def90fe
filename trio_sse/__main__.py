"""`python -m trio_sse`: the program `trio-sse`."""

from ._cli import main

main()
