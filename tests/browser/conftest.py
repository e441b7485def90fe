"""Chromium, driven by Playwright, for tests that run on Trio."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, final

import playwright.sync_api as playwright
import pytest
import trio

from ..support.waiting import PATIENCE

T = TypeVar("T")

#: What an EventSource told its page: an event's type and its data, or the readyState that came with
#: the browser's own ``open`` and ``error``.
Seen = tuple[str, str | int]

#: EventSource.CLOSED: it has given up.
CLOSED: Final = 2

#: A page that notes what its EventSource tells it.
HTML: Final = b"""<!doctype html><title>A test</title><link rel="icon" href="data:,"><script>
const seen = [], times = [], source = new EventSource("/events")
for (const type of ["open", "error", "tick", "stream-reset"])
  source.addEventListener(type, event => {
    seen.push([type, event.data ?? source.readyState])
    times.push(performance.now())
  })
</script>
"""


@final
class Page:
    """A page that is open in the browser."""

    def __init__(self, thread: ThreadPoolExecutor, page: playwright.Page) -> None:
        self._thread = thread
        self._page = page

    async def until(self, condition: Callable[[list[Seen]], bool]) -> list[Seen]:
        """Wait for something to be seen; return all that was seen so far."""
        with trio.fail_after(PATIENCE):
            while True:
                entries = await in_thread(self._thread, lambda: self._page.evaluate("seen"))
                seen = [(str(kind), value) for kind, value in entries]
                if condition(seen):
                    return seen
                await trio.sleep(0.02)

    async def times(self) -> list[float]:
        """Return when each thing was seen, in seconds."""
        times: list[float] = await in_thread(self._thread, lambda: self._page.evaluate("times"))
        return [time / 1000 for time in times]


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    """The thread in which all of Playwright's calls must be made."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def chromium(thread: ThreadPoolExecutor) -> Iterator[playwright.Browser]:
    def launch() -> tuple[playwright.Playwright, playwright.Browser]:
        driver = playwright.sync_playwright().start()
        path = shutil.which("chromium")
        return driver, driver.chromium.launch(executable_path=path, args=["--no-sandbox"])

    driver, browser = thread.submit(launch).result()
    yield browser
    thread.submit(browser.close).result()
    thread.submit(driver.stop).result()


@pytest.fixture
def open_page(
    thread: ThreadPoolExecutor, chromium: playwright.Browser
) -> Iterator[Callable[[int], Awaitable[Page]]]:
    """Open the page of the server at a port; it is closed when the test is over."""
    context = thread.submit(chromium.new_context).result()

    def load(port: int) -> playwright.Page:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        return page

    async def open_at(port: int) -> Page:
        return Page(thread, await in_thread(thread, lambda: load(port)))

    yield open_at
    thread.submit(context.close).result()


async def in_thread(thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(lambda: thread.submit(call).result())
