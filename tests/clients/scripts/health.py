"""gRPC's own health client (grpcio-health-checking).

Arguments: ``target``; ``names``, of services to check; ``watch``, likewise. After the cases every
status that is watched is printed, until the connection ends.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.clients.scripts.cases import case, main, outcome
from tests.clients.scripts.lines import arguments, tell

ARGUMENTS = arguments()
Status = health_pb2.HealthCheckResponse.ServingStatus
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(ARGUMENTS["target"]))


def check(name: str) -> str:
    request = health_pb2.HealthCheckRequest(service=name)
    return str(Status.Name(stub.Check(request, timeout=60.0).status))


@case
def checks() -> Any:
    return {name: outcome(functools.partial(check, name)) for name in ARGUMENTS["names"]}


@case
def listed() -> Any:
    statuses = stub.List(health_pb2.HealthListRequest(), timeout=60.0).statuses
    return {name: Status.Name(response.status) for name, response in statuses.items()}


def watch(name: str) -> None:
    request = health_pb2.HealthCheckRequest(service=name)
    try:
        for response in stub.Watch(request):
            tell(service=name, status=Status.Name(response.status))
    except grpc.RpcError as exc:
        tell(service=name, status=exc.code().name)


if __name__ == "__main__":
    main()
    tell(case="end")
    threads = [threading.Thread(target=watch, args=(name,)) for name in ARGUMENTS["watch"]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
