"""Rotate the key that signs Web Push messages, and move subscriptions to another endpoint of their browser."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.access.key_admin import KeyAdmin
from progressbar_tracker.server.notifications import web_push
from progressbar_tracker.server.notifications.dispatcher import MIN_BACKOFF_SECONDS
from tests.support.push_service import PushService, follow, get_counts, list_own, patch_item, put_item
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import make_response

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from tests.support.push_service import Browser
    from tests.support.server import RunningServer, ServerGroup

pytestmark = pytest.mark.usefixtures("fast_timers")


def rotate(served: RunningServer) -> None:
    """Rotate the key in the database, as the command line does."""
    with KeyAdmin(served.database) as admin:
        admin.rotate_push_key(web_push.rotate_vapid_keys)


def read_public_key(served: RunningServer) -> str:
    return str(served.client("read").get("/api/v1/push/key").json()["public_key"])


def wait_for_rotation(served: RunningServer, before: str) -> str:
    wait_until(lambda: read_public_key(served) != before)
    return read_public_key(served)


def move(
    client: httpx.Client, subscription: dict[str, object], browser: Browser, server_key: str | None = None
) -> httpx.Response:
    path = f"/api/v1/push/subscriptions/{subscription['subscription_id']}"
    return client.patch(path, json={**browser.fields, "server_key": server_key})


def test_running_server_adopts_the_rotated_key(served: RunningServer) -> None:
    before = read_public_key(served)
    rotate(served)
    after = wait_for_rotation(served, before)
    served.restart()
    assert read_public_key(served) == after


def test_former_key_signs_until_the_browser_renews(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    subscription = follow(served, browser, item="a", events=("end", "stuck"))
    put_item(served, heartbeat_timeout=10)
    former = read_public_key(served)
    rotate(served)
    current = wait_for_rotation(served, former)
    served.clock.advance(11)
    (message,) = service.wait_for_messages(1)
    assert (message.public_key, message.document.get("renew")) == (former, True)
    renewed = service.subscribe()
    assert move(served.client("read"), subscription, renewed, current).status_code == 200
    patch_item(served, status="failed")
    service.wait_for_messages(2)
    (message,) = service.list_messages(renewed)
    assert (message.public_key, message.document.get("renew")) == (current, None)


def test_subscription_with_the_former_key_is_accepted(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    former = read_public_key(push_server)
    rotate(push_server)
    wait_for_rotation(push_server, former)
    body = {**browser.fields, "events": ["end"], "item": "a", "server_key": former}
    assert push_server.client("read").post("/api/v1/push/subscriptions", json=body).status_code == 201
    put_item(push_server, status="failed")
    (message,) = service.wait_for_messages(1)
    assert message.public_key == former


def test_repeated_subscription_keeps_the_key_of_its_endpoint(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    follow(push_server, browser, item="a")
    former = read_public_key(push_server)
    rotate(push_server)
    wait_for_rotation(push_server, former)
    follow(push_server, browser, item="a", events=("failure",))
    put_item(push_server, status="failed")
    (message,) = service.wait_for_messages(1)
    assert message.public_key == former


def test_message_without_its_key_waits_for_the_renewal(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    subscription = follow(served, browser, item="a")
    for _ in range(web_push.MAX_VAPID_KEYS):
        before = read_public_key(served)
        rotate(served)
        wait_for_rotation(served, before)
    put_item(served, status="failed")
    wait_until(lambda: get_counts(served)[1] == 1)
    assert service.received == []
    renewed = service.subscribe()
    assert move(served.client("read"), subscription, renewed).status_code == 200
    served.clock.advance(MIN_BACKOFF_SECONDS)
    (message,) = service.wait_for_messages(1)
    assert message.public_key == read_public_key(served)


def test_message_before_the_move_is_sent_to_the_new_endpoint(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    service.script.append(make_response(500))
    subscription = follow(served, browser, item="a")
    put_item(served, status="failed")
    service.wait(1)
    wait_until(lambda: get_counts(served)[1] == 1)
    renewed = service.subscribe()
    assert move(served.client("read"), subscription, renewed).status_code == 200
    served.clock.advance(MIN_BACKOFF_SECONDS)
    service.wait(2)
    first, second = service.list_messages(browser) + service.list_messages(renewed)
    assert first.document["id"] == second.document["id"]


def test_moved_subscription_outlives_its_former_endpoint(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    renewed = service.subscribe()
    subscription = follow(served, browser, item="a")

    def move_meanwhile(connection: object) -> None:
        assert move(served.client("read"), subscription, renewed).status_code == 200
        connection.sendall(make_response(410))  # type: ignore[attr-defined]

    service.script.append(move_meanwhile)
    put_item(served, status="failed")
    service.wait(1)
    wait_until(lambda: get_counts(served)[1] == 1)
    wait_until(lambda: [n.attempts for n in served.background.store.read_due_notices(1e12, 9)] == [1])
    served.clock.advance(MIN_BACKOFF_SECONDS)
    service.wait(2)
    assert len(service.list_messages(renewed)) == 1
    assert len(list_own(served.client("read"))) == 1


def test_moved_subscription_keeps_its_id_and_its_subject(
    push_server: RunningServer, service: PushService, browser: Browser
) -> None:
    http, renewed = push_server.client("read"), service.subscribe()
    before = follow(push_server, browser, item="a", events=("stuck",))
    after = move(http, before, renewed).json()
    assert after == {**before, "browser": after["browser"]}
    assert after["browser"] != before["browser"]
    assert follow(push_server, renewed, item="a", events=("stuck",)) == after
    again = follow(push_server, browser, item="a")
    assert again["subscription_id"] != before["subscription_id"]
    assert {one["subscription_id"] for one in list_own(http)} == {one["subscription_id"] for one in (after, again)}


def test_move_to_a_subscribed_endpoint_leaves_one_subscription(
    served: RunningServer, service: PushService, browser: Browser
) -> None:
    http, renewed = served.client("read"), service.subscribe()
    before = follow(served, browser, item="a")
    follow(served, renewed, item="a")
    other = follow(served, renewed, item="b")
    after = move(http, before, renewed).json()
    served.restart()
    listed = list_own(served.client("read"))
    assert sorted(listed, key=itemgetter("item")) == [after, other]


@pytest.mark.parametrize("key", ["admin", "write"])
def test_subscription_of_another_holder_cannot_be_moved(
    push_server: RunningServer, service: PushService, browser: Browser, key: str
) -> None:
    subscription = follow(push_server, browser, item="a")
    assert move(push_server.client(key), subscription, service.subscribe()).status_code == 404
    assert list_own(push_server.client("read")) == [subscription]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"endpoint": "http://169.254.169.254/"}, "endpoint"), ({"p256dh": "A" * 87}, "p256dh"), ({"auth": ""}, "auth"),
        ({"server_key": "B"}, "server_key"), ({"server_key": "A" * 87}, "server_key"),
    ],
)  # fmt: skip
def test_invalid_move_is_refused(
    push_server: RunningServer, service: PushService, browser: Browser, fields: dict[str, str], field: str
) -> None:
    subscription = follow(push_server, browser, item="a")
    path = f"/api/v1/push/subscriptions/{subscription['subscription_id']}"
    body = {**service.subscribe().fields, **fields}
    reply = push_server.client("read").patch(path, json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, field)
    assert list_own(push_server.client("read")) == [subscription]


def test_rotation_without_a_key_is_an_error(make_server: Callable[..., RunningServer]) -> None:
    served = make_server()
    with pytest.raises(ConfigError, match="no key for messages"):
        rotate(served)
    assert served.background.app.services.credentials.vapid_key is None


def test_rotated_keys_are_bounded() -> None:
    keys: tuple[str, ...] = ()
    for _ in range(web_push.MAX_VAPID_KEYS + 2):
        former, keys = keys, web_push.rotate_vapid_keys(keys)
        assert keys[1:] == former[: web_push.MAX_VAPID_KEYS - 1]
    assert len(set(keys)) == web_push.MAX_VAPID_KEYS


# Two servers on one database.


def test_all_servers_adopt_the_rotated_key(
    replicas: tuple[ServerGroup, RunningServer, RunningServer], service: PushService, browser: Browser
) -> None:
    _, follower, leader = replicas
    former = read_public_key(follower)
    subscription = follow(follower, browser, item="a", events=("end", "stuck"))
    rotate(leader)
    current = wait_for_rotation(leader, former)
    assert wait_for_rotation(follower, former) == current
    put_item(follower, status="failed")
    (message,) = service.wait_for_messages(1)
    assert (message.public_key, message.document["renew"]) == (former, True)
    renewed = service.subscribe()
    moved = move(follower.client("read"), subscription, renewed, current).json()
    wait_until(lambda: list_own(leader.client("read")) == [moved])  # before, it uses the former endpoint
    put_item(leader, run_id="next", status="failed")
    wait_until(lambda: service.list_messages(renewed))
    (message,) = service.list_messages(renewed)
    assert message.public_key == current


def test_simultaneous_rotations_keep_all_keys(
    replicas: tuple[ServerGroup, RunningServer, RunningServer], service: PushService, browser: Browser
) -> None:
    _, follower, leader = replicas
    follow(follower, browser, item="a")
    first = read_public_key(leader)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(rotate, [follower, leader]))
    wait_until(lambda: len(follower.background.app.services.credentials.vapid_keys) == 3)
    keys = follower.background.app.services.credentials.vapid_keys
    assert len(set(keys)) == 3
    assert web_push.derive_public_key(keys[-1]) == first
    put_item(follower, status="failed")
    (message,) = service.wait_for_messages(1)
    assert message.public_key == first
