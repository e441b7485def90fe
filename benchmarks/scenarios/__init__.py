"""What must hold besides the cost of an event: memory, crowds, long bursts, clients of all kinds.

Each file is one scenario with a function `check` that measures it and returns its findings; the
others are `finding` and `remains`, which they share.
"""
