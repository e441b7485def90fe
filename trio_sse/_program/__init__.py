"""The program `trio-sse`.

`cli` reads the options, `program` serves and ends, `demo` and `lines` are what may be broadcast.
"""
