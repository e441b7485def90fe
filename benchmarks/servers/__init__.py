"""The servers that are measured: one program for each subject, all with the same behaviour.

GET /events is the stream. A line ``publish COUNT SIZE`` on standard input makes the server
broadcast that many events, back to back (nginx alone is told by POST). The payloads are those of
`benchmarks.load.payload`, whatever the language.
"""
