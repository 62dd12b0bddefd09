"""The HTML report in a real browser: hostile arguments run nothing and ask for nothing; and the pictures of the docs.

``OTEL_IR_PICTURES=1`` writes the pictures into ``docs/images``; otherwise they go away with the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from otel_ir.report import build_report, write_report
from otel_ir.report.fill import Written
from tests.investigate.story import demo_incident, demo_rows, from_store
from tests.report.pages import PAYLOADS, hostile_report, page

pytestmark = pytest.mark.real_full

SECONDS = 120
IMAGES = Path(__file__).parents[2] / "docs" / "images"


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser."""
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    assert found, "no Chromium on this machine (Debian: apt-get install chromium)"
    return found


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server that must not be asked for anything: its address, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/javascript")
            self.end_headers()
            self.wfile.write(b"document.documentElement.dataset.hacked = 'yes'")

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def _browse(chromium: str, folder: Path, *arguments: str) -> str:
    """What Chromium says on stdout. Its profile is the folder's, its network everything it wants."""
    common = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking")
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run([chromium, *common, profile, *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout


def _dom(chromium: str, folder: Path, html: str) -> str:
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    return _browse(chromium, folder, "--virtual-time-budget=3000", "--dump-dom", file.as_uri())


def _attack(address: str) -> str:
    """Everything that a page could be made to do, in one text."""
    return (
        f"</script></style></title></textarea></svg>--><script src='{address}/script'></script>"
        "<script>document.documentElement.dataset.hacked = 'yes'</script>"
        f"<img src='{address}/img' onerror=\"document.documentElement.dataset.hacked='yes'\">"
        f"<link rel=stylesheet href='{address}/style'><iframe src='{address}/frame'></iframe><object data='{address}/object'></object>"
        f"<style>body{{background:url({address}/background)}}</style><meta http-equiv=refresh content='0;url={address}/refresh'>"
        f"<svg><image href='{address}/svg'/><animate onbegin=\"document.documentElement.dataset.hacked='yes'\"/></svg>"
        f"<base href='{address}/'><video src='{address}/video'></video>"
    )


def test_the_trap_works(chromium: str, canary: tuple[str, list[str]], tmp_path: Path) -> None:
    """Without escaping and policy, the attack succeeds: so silence below means something."""
    address, asked = canary
    attack = _attack(address).replace("<meta", "<!--meta", 1).replace("'><svg>", "'--><svg>", 1)
    dom = _dom(chromium, tmp_path, f"<!DOCTYPE html><body>{attack}")
    assert 'data-hacked="yes"' in dom
    assert {"/script", "/img", "/frame"} <= set(asked)


def test_a_report_with_hostile_arguments_runs_nothing_and_asks_for_nothing(
    chromium: str, canary: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = canary
    for text in (_attack(address), *(payload.replace("http://canary.example", address) for payload in PAYLOADS[:6])):
        dom = _dom(chromium, tmp_path, page(hostile_report(text), Written(parts={"summary": text, "kept": text})))
        assert "data-hacked" not in dom.partition(">")[2][:200]
        assert 'data-hacked="yes"' not in dom
        assert "<h2" in dom
    assert asked == []


def test_the_policy_holds_where_escaping_would_fail(chromium: str, canary: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = canary
    html = page(hostile_report("harmless"))
    # What a policy in a page cannot forbid is where a refresh would lead; that this page has none is tested above.
    attack = _attack(address).replace("<meta", "<!--meta", 1).replace("'><svg>", "'--><svg>", 1)
    dom = _dom(chromium, tmp_path, html.replace("<main>", f"<main>{attack}", 1))
    assert 'data-hacked="yes"' not in dom
    assert asked == []


def test_pictures_of_the_report(chromium: str, tmp_path: Path) -> None:
    report = build_report(from_store(tmp_path / "evidence", demo_incident(), demo_rows()))
    cause = replace(report, sections=tuple(section for section in report.sections if section.key == "root-cause"))
    folder = IMAGES if os.environ.get("OTEL_IR_PICTURES") else tmp_path
    for name, shown, size in (("postmortem.png", report, "1240,1470"), ("postmortem-flow.png", cause, "1240,900")):
        paths, _ = write_report(shown, tmp_path / name)
        _browse(chromium, tmp_path, f"--window-size={size}", f"--screenshot={folder / name}", paths[1].as_uri())
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert (folder / name).stat().st_size > 50_000
