"""What an event costs: this package and its peers, measured the same way in the same run.

The README here tells how to run it. Everything is started and ended by the run itself, and talks
over loopback only.
"""
