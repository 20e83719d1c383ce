"""A real browser: pages opened from disk or served, and what a person would notice about them.

Chromium is the system's own, driven by Playwright; where there is none the tests skip.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.helpers.required import required

PHONE, DESKTOP = (360, 740), (1280, 900)
Look = Literal["light", "dark"]
LOOKS: tuple[Look, ...] = ("light", "dark")
# Of text to its ground, at least: WCAG 2.2, level AA.
CONTRAST = 4.5
# What Chromium says of a server that has gone, or is not there yet.
AWAY = ("net::ERR_CONNECTION_REFUSED", "net::ERR_INCOMPLETE_CHUNKED", "net::ERR_CONNECTION_RESET",
        "net::ERR_EMPTY_RESPONSE")  # fmt: skip
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

BROKEN_IMAGES = """() => [...document.images]
  .filter(image => !image.complete || !image.naturalWidth || !image.alt.trim())
  .map(image => image.alt || image.currentSrc.slice(0, 80))"""

# Elements that stick out of the window, but for what scrolls inside a box of its own.
STICKING_OUT = """() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = element => element && (['auto', 'scroll', 'hidden'].includes(
    getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  const out = [...document.body.querySelectorAll('*')].filter(element =>
    element.getBoundingClientRect().right > wide + 1 && !scrolls(element.parentElement));
  const page = document.documentElement.scrollWidth > wide ? ['the page itself scrolls'] : [];
  return [...page, ...out.map(element => element.outerHTML.slice(0, 120))];
}"""

# Text whose contrast with the nearest painted ground is too low: [contrast, text].
PALE_TEXT = """least => {
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = colour => {
    const [r, g, b] = parts(colour).slice(0, 3).map(value => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parts(colour).length < 4 || parts(colour)[3] > 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const pair = [light(getComputedStyle(element).color), light(ground(element))];
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < least) pale.push([contrast, text.slice(0, 60)]);
  }
  return pale;
}"""

GROUND = "() => getComputedStyle(document.body).backgroundColor"
PICTURES = "() => [...document.images].map(image => image.currentSrc)"
OPEN_ALL = "() => document.querySelectorAll('details').forEach(part => part.open = true)"


@dataclass
class Seen:
    """A page in a window, and what the browser had to say of it.

    Attributes:
        said: errors and warnings of the console, and errors of scripts.
        requests: addresses that it asked for, but for itself and what it holds (``data:``).
    """

    page: Page
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def faults(self) -> dict[str, object]:
        """Return what is wrong with the page, each fault by its name; empty where nothing is."""
        # What is folded away is looked at, too.
        self.page.evaluate(OPEN_ALL)
        found = {
            "the console says": self.said,
            "it asks the network for": self.requests,
            "images without picture or text": self.page.evaluate(BROKEN_IMAGES),
            "it is too wide": self.page.evaluate(STICKING_OUT),
            "text is pale": self.page.evaluate(PALE_TEXT, CONTRAST),
        }
        return {name: value for name, value in found.items() if value}

    @property
    def ground(self) -> str:
        """The colour behind everything, as ``rgb(...)``."""
        return str(self.page.evaluate(GROUND))

    @property
    def pictures(self) -> list[str]:
        """The addresses of the pictures that are shown, light or dark ones."""
        return [str(address) for address in self.page.evaluate(PICTURES)]


@dataclass(frozen=True)
class Browser:
    """A browser that runs; see :func:`browser`."""

    context: BrowserContext

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        size: tuple[int, int] = DESKTOP,
        scheme: Look = "light",
    ) -> Iterator[Seen]:
        """Open a file in a new window.

        Args:
            size: of the window, in CSS's pixels.
        """
        page = self.context.new_page()
        seen = Seen(page)
        address = path.resolve().as_uri()
        page.on(
            "console",
            lambda message: (
                seen.said.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda error: seen.said.append(str(error)))
        page.on(
            "request",
            lambda request: (
                seen.requests.append(request.url)
                if request.url != address and not request.url.startswith("data:")
                else None
            ),
        )
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)
        page.goto(address, wait_until="load")
        try:
            yield seen
        finally:
            page.close()

    @contextmanager
    def visit(
        self, link: str, *, size: tuple[int, int] = DESKTOP, scheme: Look = "light"
    ) -> Iterator[Seen]:
        """Open the link of a served page in a new window, and wait until the page itself is there.

        Requests to its own server are none that :attr:`Seen.requests` names, and that a server was
        away is no fault of the page.
        """
        page = self.context.new_page()
        seen = Seen(page)
        base = link.partition("/login")[0]

        def heard(message: ConsoleMessage) -> None:
            away = any(word in message.text for word in AWAY)
            if message.type in ("error", "warning") and not away:
                seen.said.append(message.text)

        def asked(request: Request) -> None:
            if not request.url.startswith((f"{base}/", "data:")):
                seen.requests.append(request.url)

        page.on("console", heard)
        page.on("pageerror", lambda error: seen.said.append(str(error)))
        page.on("request", asked)
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)
        page.goto(link, wait_until="load")
        page.wait_for_url(f"{base}/")
        try:
            yield seen
        finally:
            page.close()

    def in_both_looks(self, path: Path, *, size: tuple[int, int], pictures: int) -> str:
        """Open a file in light and in dark, find no fault, and return the text that stands there.

        Args:
            pictures: how many there are; each look has its own.
        """
        grounds, shown, text = [], [], ""
        for scheme in LOOKS:
            with self.open(path, size=size, scheme=scheme) as seen:
                assert seen.faults() == {}
                grounds.append(seen.ground)
                shown.append(seen.pictures)
                text = seen.page.inner_text("body")
        assert len(shown[0]) == len(shown[1]) == pictures
        assert not set(shown[0]) & set(shown[1])
        assert grounds[0] != grounds[1]
        return text


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser, once for all tests of a module.

    Args:
        profile: an empty folder for what it keeps.
    """
    program = required("chromium")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=program, headless=True, args=OPTIONS
        )
        try:
            yield Browser(context)
        finally:
            context.close()
