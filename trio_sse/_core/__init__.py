"""One event, into the queue of every client.

No HTTP, no sockets, no Redis: it can be imported without any extra, and it knows no package above
it. `hub` is the engine; the adapters of this package reach it by `hub.hub_of`.
"""


def missing_extra(module: str, extra: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """Return the error of a module whose extra is not installed."""
    fix = f"{module} needs the extra {extra!r}: pip install 'trio-sse[{extra}]'"
    return ModuleNotFoundError(f"{error}; {fix}", name=error.name)
