"""Makes the screenshots of a report in ``_static``, of the demo's files: ``python docs/report_screenshots.py``.

Needs Chromium, and the folder ``tests``, whose `browser` drives it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))

from browser import chromium
from PIL import Image

from nwb_extfiles import organize, report
from nwb_extfiles.demo import make_example

WIDTH = 1000  # in pixels
FIRST_PART = "header, main > section:not(:last-child)"


def make_dandiset(folder: Path) -> Path:
    """Organize the demo's files, and break some of them."""
    make_example(folder)
    dandiset = folder / "dandiset"
    dandiset.mkdir()
    (dandiset / "dandiset.yaml").write_text('identifier: "DANDI:000000"\n', encoding="utf-8")
    organize(folder / "nwbfiles", dandiset, media_mode="copy", media_options={"manifest": True})
    first, second = (sorted(dandiset.glob(f"sub-mouse{number}/*/*.avi")) for number in (0, 1))
    first[1].unlink()
    content = second[1].read_bytes()
    second[1].write_bytes(content[: len(content) * 6 // 10])
    (folder / "video_files/test2_0.avi").replace(dandiset / "sub-mouse1/copy of test2_0.avi")
    return dandiset


def main() -> None:
    """Write the screenshots: what is wrong, and what the NWB files have."""
    with tempfile.TemporaryDirectory() as temporary, chromium(Path(temporary, "profile")) as browser:
        page = report(make_dandiset(Path(temporary, "lab")), Path(temporary, "lab/dandiset/report.html"))
        for name, hidden in (("report", "main > section:last-child"), ("report-files", FIRST_PART)):
            browser.open(page, width=WIDTH, height=400)
            browser.evaluate("document.querySelector('header .note code').textContent = '/data/dandiset'")
            browser.evaluate(f"document.querySelectorAll('{hidden}').forEach(one => one.remove())")
            browser.evaluate("document.querySelector('.trees')?.parentElement.setAttribute('open', '')")
            place = browser.screenshot(DOCS / f"_static/{name}.png")
            height = browser.evaluate("document.documentElement.scrollHeight")
            with Image.open(place) as shot:  # a palette makes it a third as large
                shown = shot.crop((0, 0, WIDTH, height))
                shown.quantize(256, dither=Image.Dither.NONE).save(place, optimize=True)


if __name__ == "__main__":
    main()
