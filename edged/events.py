"""What happens in the daemon, by name: each event has a message id for ever, and words of its own.

A record that is logged with ``extra={"event": NAME}`` goes to the journal with ``EDGED_EVENT=NAME``
and the ``MESSAGE_ID`` below, by which programs find it whatever its text says (``journalctl
MESSAGE_ID=...``). The words are shown by ``journalctl -x``, from a catalogue made of this table.

An id is never changed and never given to another event; ``systemd-id128 new`` makes one.
"""

from __future__ import annotations

from typing import NamedTuple


class Event(NamedTuple):
    """One kind of record.

    Attributes:
        id: 128 bits as systemd writes them, 32 hexadecimal digits.
        subject: what it is about, in a line.
        text: what it means, and what to do about it.
    """

    id: str
    subject: str
    text: str


EVENTS: dict[str, Event] = {
    "ready": Event(
        "b9b58e980e824d3c97f8b2f1f2727d0e",
        "edged is ready",
        "edged listens. The model in service may still be loading; requests wait for it.",
    ),
    "stopping": Event(
        "693668c2fb6945bb840639ceec78c28e",
        "edged is stopping",
        "edged was told to stop: it answers the requests that it has accepted, and takes no more.",
    ),
    "stopped": Event(
        "d1e43ae704904a81af4532a319582b39",
        "edged has stopped",
        "edged has ended in an orderly way.",
    ),
    "state": Event(
        "862bb64b8e544ab99b1039faade98d40",
        "The state of service has changed",
        "EDGED_STATE says how requests fare: serving; swapping, they wait for a swap; "
        "starting, they wait for the model's process; not_serving, they are refused. 'edged "
        "status' says the same.",
    ),
    "loaded": Event(
        "15894cec5637431faed4090791429c1e",
        "A model's process is ready",
        "A process has loaded the model EDGED_DIGEST. It is not in service before it took the NPU.",
    ),
    "death": Event(
        "b2d738e47631432885a29e3acbb73fda",
        "The model's process is lost",
        "The process with the model EDGED_DIGEST ended, or was ended. It is started again; "
        "the request that it ran was answered INTERNAL. 'edged logs' shows its last words.",
    ),
    "out_of_memory": Event(
        "04cc4967e0ff4fc18da4a19b120536a7",
        "The model's process was ended for want of memory",
        "The process needed more than it may have. Raise memory_limit, or send fewer items "
        "in a request.",
    ),
    "heartbeat": Event(
        "f473efbaad2e463fa800a1e1f492129d",
        "The model's process gives no sign of life",
        "The process that drives the NPU did not answer edged's heartbeat, or is stopped. "
        "edged ends it and starts it again.",
    ),
    "watchdog": Event(
        "17ad8acfc0f94129b95430c8942061bc",
        "edged does not feed the watchdog any more",
        "Something in edged itself stands still. The service manager will end and start it "
        "again; the record says what it was. Please report it with the output of 'edged "
        "support-bundle'.",
    ),
    "deploy": Event(
        "636a0a96d06b4862a6ffd7e2896719bd",
        "A deployment has ended",
        "EDGED_STATE says how; EDGED_DIGEST is the image. 'edged history' has all of them.",
    ),
    "undeploy": Event(
        "f5a291f165994e9da0674af6c4430049",
        "The model was taken out of service",
        "An operator or a controller did so. Requests are refused until the next deployment.",
    ),
    "kept": Event(
        "16217903825b4d0291153dd6cd5c9ab6",
        "A new model has passed its window of good behaviour",
        "The model before is not loaded any more; 'edged rollback' still has it.",
    ),
    "revert": Event(
        "9005c9bbb9e04a33a17dfa28c9f85112",
        "A new model was taken out of service",
        "It ended too often after its commit; the model before serves again. 'edged "
        "history' says why, 'edged quarantine' whether the image is refused from now on.",
    ),
    "quarantine": Event(
        "ddc9258207fe4281b8a4f543df2990b6",
        "An image is in quarantine",
        "The image EDGED_DIGEST was at fault itself and is refused from now on. 'edged "
        "quarantine clear DIGEST' allows it again.",
    ),
    "hold": Event(
        "526cf2f709fe4bf18d2162855436b512",
        "Deployments are held, or held no more",
        "Somebody keeps the device as it is; 'edged release' ends that.",
    ),
    "release": Event(
        "a877db01088646e1b8a3158338a2d7a3",
        "Deployments are allowed again",
        "A hold was ended before its time.",
    ),
    "link": Event(
        "740231cbbec1464fb6b55cc8ef1c16a3",
        "A registry's link broke",
        "The fetch of an image goes on from the byte where it stopped.",
    ),
    "store_fault": Event(
        "a098b663dabd45429ca5d88a84775611",
        "Something in the store is wrong",
        "A file is missing or not what its digest says. What is in service is checked by "
        "itself; 'edged status' lists the faults, a new deployment of the image mends them.",
    ),
    "self_test": Event(
        "2132b571d23248adbab292a198391994",
        "The golden test of the model in service has failed",
        "It does not answer as it did when it was built. Look for faults of the machine's "
        "memory or disk; 'edged rollback' brings the model before.",
    ),
    "request_failed": Event(
        "b46dca593cd94d809d91917aa22ef24c",
        "A request failed within the device",
        "REQUEST_ID is the call's edged-request-id. The cause is the model's or the "
        "device's, not the caller's; 'edged logs' has more.",
    ),
    "reload": Event(
        "4650e7730bb74957a668ff4e0decd5f7",
        "The configuration was read again",
        "What can change while edged runs has changed; the record names what needs a restart.",
    ),
    "reload_refused": Event(
        "ced1a58e475b44799c087fec8a2b4e95",
        "The configuration was not taken",
        "The file cannot be used, and the settings of before stay. 'edged check-config' "
        "says what is wrong with it.",
    ),
    "refused_caller": Event(
        "5140a21ff46a447fab6c030ca52231ad",
        "Calls were refused for want of credentials",
        "Somebody called over the network without credentials that count. Further failures from "
        "there are answered late, and told once a minute. 'edged tokens list' shows who may call.",
    ),
    "audit": Event(
        "457f3327c84d4954aa4b29cd26f7f7e1",
        "An administrative act",
        "Who did what, and how it ended. The audit log in the state folder has the same.",
    ),
    "restart": Event(
        "089db35003a0443f84438d70101847fc",
        "The model's process is restarted",
        "An operator or a controller asked for it. Requests wait until the model serves again.",
    ),
    "link_up": Event(
        "1b4650823a384e858cd7840d752a946a",
        "The link to the controller stands",
        "edged has subscribed, and reports how the device is.",
    ),
    "link_down": Event(
        "ec32e654105f459f820ee956898cc901",
        "The link to the controller does not stand",
        "The record says why, and what to do about it; 'edged status' says the same. The model "
        "serves on, messages wait in the outbox, and edged tries again for ever.",
    ),
    "provision": Event(
        "cd66e9898f68461ca751bf415c6127c1",
        "The provisioning service has named a hub",
        "The device was registered, and connects to the hub that it was given.",
    ),
    "desired": Event(
        "f11650b33cf04293b7760eb7e3623364",
        "What the controller wants has come to an end",
        "The record says what became of the newest desired document. A failure that can pass is "
        "tried again; one of the model's own waits for another document.",
    ),
    "method": Event(
        "b934994ffa9342808eeb9fc68d7e4801",
        "A controller has called a method",
        "The record says which one, and how it ended.",
    ),
}
