"""Who a worker is, inside and on the host."""

from __future__ import annotations

from edged.containers.runc import identity

WHOLE = "         0          0 4294967295\n"


def test_an_ordinary_users_worker_is_that_user_and_no_other() -> None:
    who = identity.choose(1000, 1001, WHOLE)
    assert who.rootless
    assert (who.inside, who.host) == (0, 1000)
    assert identity.mappings(who.maps) == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert identity.mappings(who.group_maps) == [{"containerID": 0, "hostID": 1001, "size": 1}]


def test_roots_worker_is_a_user_whom_nobody_is() -> None:
    who = identity.choose(0, 0, WHOLE)
    assert not who.rootless
    assert who.inside == 65532
    hosts = [host for _, host in who.maps]
    assert all(524288 <= host <= 1879048191 for host in hosts), "systemd's range for containers"
    assert len(set(hosts)) == 2
    assert who.host in hosts


def test_root_of_a_container_uses_the_last_users_it_was_given() -> None:
    who = identity.choose(0, 0, "0 100000 65536\n65536 1000 1\n")
    assert [host for _, host in who.maps] == [65535, 65536]
    who = identity.choose(0, 0, "0 100000 65536\n")
    assert [host for _, host in who.maps] == [65534, 65535]
