"""A page as a real browser shows it: chromium, headless, with nobody to talk to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

_MEASURE = """
<script>
const width = document.documentElement.clientWidth;
const over = [...document.querySelectorAll("body *")].filter(one => {
  if (one.closest("svg") && one.tagName !== "svg") return false;
  if (one.closest(".wide") && !one.classList.contains("wide")) return false;
  return one.getBoundingClientRect().right > width + 1;
}).map(one => one.tagName + " " + one.className);
const cut = [...document.querySelectorAll("figure svg")].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll("text")].filter(text => {
    const b = text.getBoundingClientRect();
    return b.width && (b.left < box.left - 3 || b.right > box.right + 3 ||
      b.top < box.top - 3 || b.bottom > box.bottom + 3);
  }).map(text => text.textContent);
});
const wide = [...document.querySelectorAll(".wide")].filter(one =>
  one.scrollWidth > one.clientWidth + 1).map(one => one.textContent.slice(0, 40));
document.title = JSON.stringify({
  over, cut, wide, page: document.documentElement.scrollWidth, width,
  requests: performance.getEntriesByType("resource").map(one => one.name),
  background: getComputedStyle(document.body).backgroundColor,
  figures: document.querySelectorAll("figure svg").length,
  injected: document.querySelectorAll("script:not(:last-of-type), img, iframe").length,
});
</script>
"""
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def chromium() -> str:
    """Its path; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def measured(html: str, folder: Path, *, width: int = 1200, dark: bool = False) -> dict[str, Any]:
    """What a browser finds of the page: what overflows, what is cut, what was asked for."""
    assert len(_POLICY.findall(html)) == 1
    page = folder / f"page-{width}.html"
    # The page itself allows no scripts, not even this one.
    page.write_text(_POLICY.sub("", html).replace("</body>", f"{_MEASURE}</body>"))
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    found = subprocess.run(
        [
            *(chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-dev-shm-usage", "--no-first-run"),
            *(f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1000"),
            *("--proxy-server=127.0.0.1:9", *theme, "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    title = re.search(r"<title>(\{.*?\})</title>", found.stdout, re.DOTALL)
    if title is None:
        pytest.skip(f"chromium does not run here: {found.stderr.strip()[-200:]}")
    values: dict[str, Any] = json.loads(unescape(title[1]))
    return values
