"""kafka-python as a client of the Kafka door; see order.py."""
import time

import kafka
import order
from kafka.net.sasl.oauth import AbstractTokenProvider


def fault(error):
    order.fault(type(error).__name__, getattr(error, "errno", ""), error)


class Token(AbstractTokenProvider):
    def token(self):
        return order.ORDER["token"]


compression = order.ORDER.get("compression", "none")
settings = {
    "bootstrap_servers": order.ORDER["bootstrap"],
    "security_protocol": order.PROTOCOL,
    "sasl_mechanism": order.ORDER.get("mechanism"),
    "compression_type": None if compression == "none" else compression,
    "max_request_size": order.MAX_REQUEST,
}
if "ca" in order.ORDER:
    settings["ssl_cafile"] = order.ORDER["ca"]
if "token" in order.ORDER:
    settings["sasl_oauth_token_provider"] = Token()
elif "user" in order.ORDER:
    settings |= {"sasl_plain_username": order.ORDER["user"], "sasl_plain_password": order.ORDER["password"]}
if order.IDEMPOTENT is not None:
    settings["enable_idempotence"] = order.IDEMPOTENT
if "acks" in order.ORDER:
    settings["acks"] = order.ORDER["acks"] if order.ORDER["acks"] == "all" else int(order.ORDER["acks"])

producer = None
try:
    producer = kafka.KafkaProducer(**settings)
    futures = []
    for i in range(order.COUNT):
        time.sleep(order.due(i))
        try:
            futures.append((i, producer.send(order.TOPIC, **order.record(i))))
        except Exception as error:
            fault(error)
            if not order.left():
                break
    for i, future in futures:
        try:
            order.acked(i, future.get(timeout=order.left()).offset)
        except Exception as error:
            fault(error)
except Exception as error:
    fault(error)
order.summary("kafka-python", kafka.__version__)
if producer:
    producer.close(timeout=5)
