"""The concurrency model gevent: many requests that wait, in one worker, and everything else as ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.conftest import Serve, Share
from support.load import Load
from support.server import Site
from support.waiting import wait_for

GEVENT = ("--concurrency-model", "gevent", "--max-pool-size", "1")


@pytest.mark.both_queues
def test_many_requests_that_wait_share_one_worker(share: Share) -> None:
    server = share("cooperative", *GEVENT)
    (worker,) = server.worker_pids()
    with ThreadPoolExecutor(50) as clients:
        replies = list(clients.map(lambda _: server.get("/meet?50"), range(50)))
    assert {(reply.status, reply.text) for reply in replies} == {(200, "met")}
    assert server.worker_pids() == {worker}


@pytest.mark.both_queues
def test_no_more_of_them_than_the_setting_says(serve: Serve, site: Site) -> None:
    server = serve("cooperative", *GEVENT, "--max-greenlets", "2")
    with ThreadPoolExecutor(6) as clients:
        replies = [clients.submit(server.get, f"/hold?{number}") for number in range(6)]
        wait_for(lambda: server.group()["queue"] == 4, "four requests that wait")
        assert server.workers()[0]["sessions"] == 2
        for number in range(6):
            site.write(f"{number}.release", "")
        assert {reply.result().status for reply in replies} == {200}


@pytest.mark.both_queues
def test_what_the_application_is_told_and_can_do(share: Share) -> None:
    server = share("cooperative", *GEVENT)
    told = server.get("/").json
    assert told["multithread"] is True
    assert told["multiprocess"] is False
    assert told["sleep"].startswith("gevent")
    assert server.get("/child").text == "done\n"
    assert isinstance(server.address, tuple)
    itself = f"http://{server.address[0]}:{server.address[1]}"
    assert server.get(f"/fetch?{itself}/sleep?0").text == "slept", "a request to itself"


@pytest.mark.both_queues
def test_a_long_body_goes_there_and_back(share: Share) -> None:
    server = share("cooperative", *GEVENT)
    body = bytes(range(256)) * 40_000
    assert server.request("POST", "/body", body).body == body


@pytest.mark.both_queues
def test_it_retires_without_losing_a_request(serve: Serve) -> None:
    server = serve("cooperative", "--concurrency-model", "gevent", "--max-pool-size", "2", "--max-requests", "50")
    first = server.worker_pids()
    with Load(server.address, 8) as load:
        wait_for(lambda: len(load.answers) and not first & server.worker_pids(), "the end of the first worker", 30)
    assert load.failures == []


def test_one_that_takes_too_long_does_not_take_the_others_along(serve: Serve, site: Site) -> None:
    server = serve("cooperative", *GEVENT, "--max-request-time", "4")
    (first,) = server.worker_pids()
    with ThreadPoolExecutor(4) as clients:
        stuck = clients.submit(server.get, "/sleep?60")
        # In the middle of its time, so that they begin long before its end, and have long to go then.
        wait_for(lambda: server.oldest_request() > 2, "half of its time to be over")
        others = [clients.submit(server.get, f"/hold?{number}") for number in range(3)]
        wait_for(lambda: len(list(site.directory.glob("*.begun"))) == 3, "the others in the application")
        assert stuck.result().status == 504
        for number in range(3):
            site.write(f"{number}.release", "")
        assert [other.result().status for other in others] == [200] * 3
    server.wait_log(rf"worker {first} of .* ended: killed by appsrv: a request took longer")
    server.wait_log(r"stderr: .*in application")
    assert server.get("/").json["pid"] != first
