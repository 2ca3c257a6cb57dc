"""What is pure of the dialect iothub: connection strings, signatures, topics, patches."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import ConfigError
from edged.mqtt.iothub import connection_string, sas, topics, twin
from edged.mqtt.iothub.account import Account
from edged.mqtt.iothub.topics import DesiredPatch, MethodCall, TwinAnswer
from tests.fakes.hub.identities import check_signature, derived_key

KEY = base64.b64encode(bytes(range(32))).decode()
STRING = f"HostName=hub.example;DeviceId=line4;SharedAccessKey={KEY}"


def test_a_devices_connection_string() -> None:
    account = connection_string.parse(STRING + "\n")
    assert account == Account("hub.example", "line4", "", KEY)
    assert account.client_id == "line4"
    assert account.username == "hub.example/line4/?api-version=2021-04-12"
    assert account.resource == "hub.example/devices/line4"
    assert account.events == "devices/line4/messages/events/"
    assert KEY not in repr(account)


def test_a_modules_behind_a_gateway_with_a_certificate() -> None:
    text = "DeviceId=line4;ModuleId=$edgeAgent;HostName=hub.example;x509=true;GatewayHostName=gw"
    account = connection_string.parse(text)
    assert (account.host, account.hub, account.key) == ("gw", "hub.example", "")
    assert account.client_id == "line4/$edgeAgent"
    assert account.resource == "hub.example/devices/line4/modules/$edgeAgent"
    assert account.events == "devices/line4/modules/$edgeAgent/messages/events/"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected KEY=VALUE"),
        ("nonsense", "expected KEY=VALUE"),
        (f"DeviceId=d;SharedAccessKey={KEY}", "HostName is missing"),
        (f"HostName=h;SharedAccessKey={KEY}", "DeviceId is missing"),
        ("HostName=h;DeviceId=d", "either SharedAccessKey or x509=true"),
        (STRING + ";x509=true", "either SharedAccessKey or x509=true"),
        (STRING + ";x509=maybe", "expected true or false"),
        (STRING + ";Host=x", "unknown key 'Host'; the nearest is 'HostName'"),
        (STRING + ";DeviceId=e", "DeviceId is there twice"),
        ("HostName=h;SharedAccessKeyName=owner;SharedAccessKey=" + KEY, "for services"),
        ("HostName=h/x;DeviceId=d;x509=true", "expected a host name"),
        ("HostName=h;DeviceId=a/b;x509=true", "expected a name"),
        ("HostName=h;DeviceId=a#;x509=true", "expected a name"),
        ("HostName=h;DeviceId=d;SharedAccessKey=***", "expected a key in Base64"),
    ],
)
def test_what_is_wrong_with_a_connection_string_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        connection_string.parse(text)
    assert said in str(error.value)
    assert KEY not in str(error.value)


def test_a_signature_is_what_the_hub_checks() -> None:
    token = sas.sign("hub.example/devices/line4", KEY, 2_000_000_000)
    expires = check_signature(token, "hub.example/devices/line4", KEY, 1_900_000_000, [""])
    assert expires == 2_000_000_000
    token = sas.sign("0ne1/registrations/a", KEY, 2_000_000_000, "registration")
    assert check_signature(token, "0ne1/registrations/a", KEY, 0, ["registration"])
    assert token.endswith("&skn=registration")


def test_a_signature_known_by_heart() -> None:
    # Computed with openssl dgst -sha256 -mac HMAC from the text "h%2Fdevices%2Fd\n1".
    assert sas.sign("h/devices/d", KEY, 1) == (
        "SharedAccessSignature sr=h%2Fdevices%2Fd"
        "&sig=asLBFXrGSpGFx%2F3yH69TbX6z7PuH2BIXYasUwcJnlL0%3D&se=1"
    )


def test_a_key_derived_from_a_groups() -> None:
    assert sas.derive(KEY, "line4") == derived_key(KEY, "line4")


def test_topics_that_come() -> None:
    assert topics.parse("$iothub/twin/res/200/?$rid=7") == TwinAnswer(200, "7", 0, 0.0)
    answer = "$iothub/twin/res/204/?$rid=a&$version=12"
    assert topics.parse(answer) == TwinAnswer(204, "a", 12, 0.0)
    throttled = "$iothub/twin/res/429/?$rid=a&retry-after=5"
    assert topics.parse(throttled) == TwinAnswer(429, "a", 0, 5.0)
    patch = "$iothub/twin/PATCH/properties/desired/?$version=9"
    assert topics.parse(patch) == DesiredPatch(9)
    assert topics.parse("$iothub/methods/POST/ping/?$rid=x") == MethodCall("ping", "x")
    assert topics.parse("$iothub/methods/POST/a%20b/?$rid=x") == MethodCall("a b", "x")


@given(st.text(max_size=80), st.text(max_size=40))
def test_no_topic_is_too_odd_to_be_passed_over(middle: str, end: str) -> None:
    for topic in (middle, f"$iothub/{middle}/?{end}", f"$iothub/methods/POST/{middle}/?$rid={end}"):
        topics.parse(topic)
    assert topics.parse("$iothub/methods/POST/" + "x" * 5000 + "/?$rid=1") is None


def test_topics_that_go() -> None:
    assert topics.get_twin("1") == "$iothub/twin/GET/?$rid=1"
    assert topics.report("1") == "$iothub/twin/PATCH/properties/reported/?$rid=1"
    assert topics.answer(200, "1") == "$iothub/methods/res/200/?$rid=1"
    assert topics.event("devices/d/messages/events/", kind="a b") == (
        "devices/d/messages/events/$.ct=application%2Fjson&$.ce=utf-8&kind=a%20b"
    )


VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=5)


@given(DOCUMENTS, DOCUMENTS)
def test_a_difference_merged_gives_the_new_document(
    old: dict[str, Any], new: dict[str, Any]
) -> None:
    before = json.dumps(old)
    patch = twin.difference(old, new)
    merged = twin.merge(old, patch)
    assert json.dumps(merged, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert json.dumps(old) == before
    assert twin.difference(new, new) == {}


def test_a_patch_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="at most 32 levels"):
        twin.merge({}, deep)


@pytest.mark.parametrize("bad", [None, [], 1, "x"])
def test_properties_that_are_none(bad: object) -> None:
    with pytest.raises(TypeError, match="expected an object"):
        twin.plain(bad)


@pytest.mark.parametrize("bad", [{}, {"$version": "1"}, {"$version": True}, {"$version": -1}])
def test_versions_that_are_none(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="version"):
        twin.version(bad)
