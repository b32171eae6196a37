"""confluent-kafka (librdkafka) as a client of the Kafka door; see order.py."""
import time

import confluent_kafka
import order
from confluent_kafka import KafkaError, KafkaException, Producer

stopped = False


def on_error(error):
    """As the documentation has it: errors here are informational, but for those of authentication, which end it."""
    global stopped
    if error.code() in (KafkaError._AUTHENTICATION, KafkaError._FATAL) or error.fatal():
        stopped = True
        order.fault("KafkaError", error.name(), error.str())


def on_delivery(i):
    def report(error, message):
        if error is None:
            order.acked(i, message.offset())
        else:
            order.fault("KafkaError", error.name(), error.str())
    return report


settings = {
    "bootstrap.servers": order.ORDER["bootstrap"],
    "security.protocol": order.PROTOCOL,
    "compression.type": order.ORDER.get("compression", "none"),
    "message.max.bytes": order.MAX_REQUEST,
    "error_cb": on_error,
}
if "mechanism" in order.ORDER:
    settings["sasl.mechanism"] = order.ORDER["mechanism"]
if "ca" in order.ORDER:
    settings["ssl.ca.location"] = order.ORDER["ca"]
if "token" in order.ORDER:
    settings["oauth_cb"] = lambda _: (order.ORDER["token"], time.time() + 3600)
elif "user" in order.ORDER:
    settings |= {"sasl.username": order.ORDER["user"], "sasl.password": order.ORDER["password"]}
if order.IDEMPOTENT is not None:
    settings["enable.idempotence"] = order.IDEMPOTENT
if "acks" in order.ORDER:
    settings["acks"] = order.ORDER["acks"]

producer = Producer(settings)
for i in range(order.COUNT):
    while (wait := order.due(i)) > 0 and not stopped:
        producer.poll(wait)
    if stopped:
        break
    try:
        producer.produce(order.TOPIC, on_delivery=on_delivery(i), **order.record(i))
    except KafkaException as error:
        order.fault("KafkaException", error.args[0].name(), error.args[0].str())
    producer.poll(0)
while not stopped and len(producer) and order.left() > 0:
    producer.flush(min(1.0, order.left()))
if len(producer) and not stopped:
    order.fault("NoAnswer", "", "neither acknowledged nor failed")
order.summary("confluent-kafka", f"{confluent_kafka.__version__}/{confluent_kafka.libversion()[0]}")
if stopped or len(producer):
    producer.purge()
    producer.flush(1)
