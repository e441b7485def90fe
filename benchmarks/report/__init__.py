"""What was measured: figures, ratios and findings, the plot, and the machine."""
