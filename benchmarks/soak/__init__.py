"""What must hold, whatever it costs: nothing lost, nothing left, nobody else disturbed.

Each file is one scenario with a function `check` that runs it and returns its findings.
"""
