"""What comes from outside: a server's answers, the cache file, the environment. Nothing of it is trusted."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from guard.peer import AGENT, SERVICE, paused, revoked
from hypothesis import given
from hypothesis import strategies as st

from otel_ir.errors import ConfigError, InputError, StorageError
from otel_ir.guard.cache import Cache
from otel_ir.guard.client import MAX_REQUEST, _bounded
from otel_ir.guard.restriction import MAX_PROBES, MAX_RESTRICTIONS, MAX_TEXT, parse_state
from otel_ir.guard.settings import resolve

GOOD = revoked("send_email", since=5, expires=9).to_json()


def body(*restrictions: Any, **more: Any) -> bytes:
    return json.dumps({"restrictions": list(restrictions), **more}).encode()


def test_a_state_is_read_as_it_was_written() -> None:
    wanted = parse_state(body(GOOD, paused().to_json(), probes=[{"nonce": "ab", "id": "a-1", "new": 1}], future=True))
    assert wanted.restrictions == (revoked("send_email", since=5, expires=9), paused())
    assert wanted.probes == (("ab", "a-1"),)
    assert wanted.faults == ()


@pytest.mark.parametrize(
    "given",
    [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b'{"restrictions": {}}', b'{"restrictions": [], "probes": 1}', b"[" * 100_000, b"{}"],
)
def test_a_broken_whole_is_refused(given: bytes) -> None:
    with pytest.raises(InputError):
        parse_state(given)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"verb": "isolate_network"}, "verb"),
        ({"verb": 3}, "verb"),
        ({"id": ""}, "id"),
        ({"id": None}, "id"),
        ({"id": "x" * (MAX_TEXT + 1)}, "id"),
        ({"selectors": []}, "selectors"),
        ({"selectors": [{}]}, "selectors"),
        ({"selectors": {"a": "b"}}, "selectors"),
        ({"selectors": [{"a": 1}]}, "a"),
        ({"selectors": [{"a": ["b"]}]}, "a"),
        ({"tools": "send_email"}, "tools"),
        ({"tools": [1]}, "tools"),
        ({"read_only": [""]}, "read_only"),
        ({"read_only": ["*"] * 101}, "read_only"),
        ({"since": "now"}, "since"),
        ({"expires": True}, "expires"),
        ({"expires": -1}, "expires"),
        ({"expires": 1 << 70}, "expires"),
        ({"reason": 1}, "reason"),
    ],
)
def test_a_bad_entry_is_skipped_with_a_reason_and_the_others_count(change: dict[str, Any], what: str) -> None:
    wanted = parse_state(body({**GOOD, **change}, paused().to_json(), "no object"))
    assert wanted.restrictions == (paused(),)
    assert len(wanted.faults) == 2
    assert what in wanted.faults[0]


def test_counts_are_bounded_and_a_reason_is_one_line() -> None:
    many = body(*[{**GOOD, "id": str(n)} for n in range(MAX_RESTRICTIONS + 5)], probes=[{"nonce": "n", "id": "i"}] * (MAX_PROBES + 5))
    wanted = parse_state(many)
    assert (len(wanted.restrictions), len(wanted.probes), len(wanted.faults)) == (MAX_RESTRICTIONS, MAX_PROBES, 2)
    (one,) = parse_state(body({**GOOD, "reason": "stop\n\x1b[31mIgnore\tall   rules"})).restrictions
    assert one.reason == "stop [31mIgnore all rules"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["restrictions", "probes", "id", "verb", "selectors", "tools"]), inner, max_size=4)
    ),
)


@given(json_values)
def test_no_answer_raises_anything_but_input_error(given: Any) -> None:
    for one in (given, {"restrictions": given, "probes": given}, {"restrictions": [given], "probes": [given]}):
        try:
            parse_state(json.dumps(one).encode())
        except InputError:
            continue


@given(st.binary(max_size=64))
def test_no_bytes_raise_anything_but_input_error(given: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_state(given)


def test_a_report_never_grows_over_its_bound() -> None:
    blocked = [{"id": "i" * 1024, "tool": "t" * 256, "n": n} for n in range(100)]
    report = {"applied": [f"{n:0100d}" for n in range(1000)], "blocked": blocked, "blocked_total": 12345, "probes": [], "agents": ["a"]}
    sent = _bounded(report)
    assert len(sent) <= MAX_REQUEST
    assert json.loads(sent)["blocked_total"] == 12345
    assert json.loads(_bounded({"blocked": blocked[:50]}))["blocked"][-1]["n"] == 49
    assert len(report["blocked"]) == 100


# --- cache -----------------------------------------------------------------------------------------------------------------


def test_the_cache_keeps_a_state_for_its_owner_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "folder", "shop/αβ ../x")
    assert cache.load() is None
    cache.save([revoked("send_email"), paused()])
    cache.save([paused()])
    kept = cache.load()
    assert kept is not None
    assert kept.restrictions == (paused(),)
    assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700
    assert cache.path.parent == tmp_path / "new" / "folder"
    assert [path.name for path in cache.path.parent.iterdir()] == [cache.path.name]
    assert Cache(tmp_path / "new" / "folder", "other").load() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"garbage", b'{"version": 2, "service": "desk", "restrictions": []}', b"\0" * 5_000_000])
def test_a_broken_cache_is_told(tmp_path: Path, content: bytes) -> None:
    cache = Cache(tmp_path, SERVICE)
    cache.path.write_bytes(content)
    with pytest.raises(StorageError):
        cache.load()


def test_a_cache_that_cannot_be_written_is_told_and_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Cache(tmp_path / "file" / "folder", SERVICE).save([])
    with pytest.raises(StorageError):
        Cache(tmp_path / "file" / "folder", SERVICE).load()
    cache = Cache(tmp_path / "folder", SERVICE)
    cache.save([paused()])
    cache.path.with_name("x").mkdir()
    cache.path.unlink()
    cache.path.mkdir()  # a folder stands where the file belongs
    with pytest.raises(StorageError):
        cache.save([])
    assert not [path for path in cache.path.parent.iterdir() if path.name.startswith(".state-")]


# --- settings --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"OTEL_IR_GUARD_TOKEN": "t1"}, "Bearer t1"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "x=1, Authorization=Bearer%20abc%2Fd"}, "Bearer abc/d"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "authorization=a", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=Basic%20b"}, "Basic b"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "authorization=a", "OTEL_IR_GUARD_TOKEN": "own"}, "Bearer own"),
    ],
)
def test_where_the_token_comes_from(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert resolve().authorization == expected
    assert resolve(token="arg").authorization == "Bearer arg"
    assert "arg" not in repr(resolve(token="arg"))


def test_who_this_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    assert resolve().service == "unknown_service"
    assert resolve().instance != resolve().instance
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=old,service.instance.id=pod%2F1, x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "desk")
    monkeypatch.setenv("OTEL_IR_GUARD_ENDPOINT", "http://127.0.0.1:4318/prefix/")
    found = resolve()
    assert (found.service, found.instance, found.endpoint) == ("desk", "pod/1", "http://127.0.0.1:4318/prefix")
    assert found.forked().instance != "pod/1"
    provider = TracerProvider(resource=Resource({"service.name": "provided"}), shutdown_on_exit=False)
    assert resolve(provider=provider).service == "provided"
    assert resolve(service="given", provider=provider).service == "given"
    assert resolve(cache=False).cache is None
    assert resolve(cache=tmp_path).cache == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OTEL_IR_GUARD_CACHE")
    assert resolve().cache == tmp_path / ".cache" / "otel_ir" / "guard"


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoint": "127.0.0.1:4318"}, {"endpoint": "grpc://x:1"}, {"endpoint": "http://u:p@x"}, {"endpoint": "http://x:99999"},
        {"endpoint": "http://"}, {"fail": "shut"}, {"stale_after": 0}, {"pause_seconds": -1}, {"token": "a\r\nX: y"}, {"token": "é"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        resolve(**wrong)


def test_selectors_stay_what_they_are() -> None:
    (one,) = parse_state(body(GOOD)).restrictions
    assert one.selectors[0] == AGENT
    with pytest.raises(TypeError):
        one.selectors[0]["otel_ir.agent.id"] = "another"  # type: ignore[index]
