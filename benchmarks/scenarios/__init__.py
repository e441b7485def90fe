"""What else trio-sse costs: memory, crowds, long streams, topics, the relay.

Each file is one scenario with a function `check` that measures it and returns its findings.
"""
