"""What a client of the Kafka door is to do, and what it says at the end. For the programs in Python.

The order comes in variables of the environment, CLIENT_*; ../kafka/kafkajs.mjs and Produce.java read the same ones.
Record number i goes to partition i % PARTITIONS; its bytes follow from RUN and i alone (`record`).
"""
import json
import os
import time

ORDER = {name[7:].lower(): value for name, value in os.environ.items() if name.startswith("CLIENT_") and value}
TOPIC, RUN = ORDER["topic"], ORDER["run"]
COUNT, PARTITIONS = int(ORDER["count"]), int(ORDER["partitions"])
PAUSE = float(ORDER.get("seconds", 0)) / COUNT  # between two records
PATIENCE = float(ORDER["patience"])  # seconds, for all of it
MORE_BYTES = int(ORDER.get("more_bytes", 0))
MAX_REQUEST = 8 << 20  # so that it is not the client that finds a record too large
PROTOCOL = ("SASL_" if "mechanism" in ORDER else "") + ("SSL" if "ca" in ORDER else "PLAINTEXT")
IDEMPOTENT = {"true": True, "false": False}.get(ORDER.get("idempotent"))  # None: the client's own default

_began = time.monotonic()
acks, errors = [], {}


def record(i):
    value = f"{RUN} {i} ".encode() + bytes((i + j) % 256 for j in range(i * 37 % 200)) + bytes(MORE_BYTES)
    return dict(partition=i % PARTITIONS, key=f"{RUN}-{i}".encode(), value=value, headers=[("n", str(i).encode()), ("empty", b"")])


def left():
    return max(0.0, PATIENCE - (time.monotonic() - _began))


def due(i):
    """How long it is until record i is to be sent."""
    return max(0.0, PAUSE * i - (time.monotonic() - _began))


def acked(i, offset):
    acks.append([i, -1 if offset is None else offset])


def fault(error_class, code, message):
    one = errors.setdefault((error_class, str(code)), {"class": error_class, "code": str(code), "message": str(message)[:500], "count": 0})
    one["count"] += 1


def summary(client, version):
    print(json.dumps({"client": client, "version": version, "seconds": round(time.monotonic() - _began, 3), "acks": acks, "errors": list(errors.values())}), flush=True)
