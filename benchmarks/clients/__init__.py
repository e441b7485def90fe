"""Clients that do what browsers do, and clients that do what no browser does.

They keep account of what they get; none of them is there to be cheap (those are `benchmarks.load`).
"""
