"""A person at the page, at first at its tab "Images": what they do, and what they see."""

from __future__ import annotations

from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from PIL import Image

DESKTOP, PHONE = (1280, 900), (390, 844)
# A crowded machine may take long; a test that fails for it would be no news.
PATIENCE = 90_000  # milliseconds


class Visitor:
    """One visitor with cookies and a window of their own."""

    def __init__(self, browser: Any, address: str, size: tuple[int, int] = DESKTOP) -> None:
        self.context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, accept_downloads=True, has_touch=size == PHONE
        )
        self.context.set_default_timeout(PATIENCE)
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.tab = "images"
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.hosts.add(urlparse(request.url).hostname or ""))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.part("drop").wait_for()

    def turn_to(self, tab: str) -> None:
        """Another tab by its element id: "images", "views", "steps"."""
        names = {"images": "Images", "views": "Novel views", "steps": "Procedures"}
        self.page.get_by_role("tab", name=names[tab]).click()
        self.tab = tab
        self.part("drop").wait_for()

    def part(self, control: str, inner: str = "") -> Any:
        return self.page.locator(f"#{self.tab}-{control} {inner}".strip())

    def upload(self, *paths: Path) -> None:
        self.part("drop", "input[type=file]").set_input_files([str(path) for path in paths])

    def pictures(self, strip: str) -> Any:
        return self.part(strip, "[data-index]")

    def wait_for(self, strip: str, count: int) -> None:
        """Until so many pictures are in the strip "given" or "results"."""
        query = f"document.querySelectorAll('#{self.tab}-{strip} [data-index]').length === {count}"
        self.page.wait_for_function(query)

    def choose(self, strip: str, number: int) -> None:
        self.part(strip, f'[data-index="{number}"]').click()
        self.part(strip, f'[data-index="{number}"][aria-pressed="true"]').wait_for()

    def press(self, control: str) -> None:
        self.part(control).click()

    def set(self, **numbers: int) -> None:
        """Type numbers into sliders and fields: number=2, denoising=4, seed=1."""
        if not self.part("seed").is_visible():
            self.part("settings", "button").first.click()
            self.part("seed").wait_for()
        for control, value in numbers.items():
            field = self.part(control, "input[type=number]")
            field.fill(str(value))
            field.press("Tab")

    def generate(self, count: int) -> None:
        """Press the button and wait for so many results."""
        self.press("generate")
        self.wait_for_status("^Image|^Waiting")
        self.wait_for_status(f"^{count} image")

    def wait_for_status(self, pattern: str) -> str:
        """Until the line of text matches; the line."""
        query = "([id, pattern]) => new RegExp(pattern).test(document.getElementById(id).innerText.trim())"
        self.page.wait_for_function(query, arg=[f"{self.tab}-status", pattern])
        text: str = self.part("status").inner_text()
        return text.strip()

    def seen(self, strip: str) -> list[Image.Image]:
        """The pictures themselves, as the browser has them."""
        addresses = [image.get_attribute("src") for image in self.part(strip, "img").all()]
        return [Image.open(BytesIO(b64decode(address.split(",", 1)[1]))).convert("RGB") for address in addresses]

    def download(self, folder: Path) -> Path:
        with self.page.expect_download() as started:
            self.press("download")
        path = folder / "result.zip"
        started.value.save_as(path)
        return path

    def leave(self) -> None:
        self.context.close()
