"""What must hold besides the cost of an event: memory, many clients, long bursts, stalls, churn.

Each file is one scenario with a function `check` that measures it and returns its findings.
"""
