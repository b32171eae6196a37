"""aiokafka as a client of the Kafka door; see order.py."""
import asyncio

import aiokafka
import order
from aiokafka.abc import AbstractTokenProvider
from aiokafka.helpers import create_ssl_context


class Token(AbstractTokenProvider):
    async def token(self):
        return order.ORDER["token"]


def fault(error):
    order.fault(type(error).__name__, getattr(error, "errno", ""), error)


async def main():
    compression = order.ORDER.get("compression", "none")
    settings = {
        "bootstrap_servers": order.ORDER["bootstrap"],
        "security_protocol": order.PROTOCOL,
        "sasl_mechanism": order.ORDER.get("mechanism", "PLAIN"),
        "compression_type": None if compression == "none" else compression,
        "max_request_size": order.MAX_REQUEST,
    }
    if "ca" in order.ORDER:
        settings["ssl_context"] = create_ssl_context(cafile=order.ORDER["ca"])
    if "token" in order.ORDER:
        settings["sasl_oauth_token_provider"] = Token()
    elif "user" in order.ORDER:
        settings |= {"sasl_plain_username": order.ORDER["user"], "sasl_plain_password": order.ORDER["password"]}
    if order.IDEMPOTENT is not None:
        settings["enable_idempotence"] = order.IDEMPOTENT
    if "acks" in order.ORDER:
        settings["acks"] = order.ORDER["acks"] if order.ORDER["acks"] == "all" else int(order.ORDER["acks"])
    producer = aiokafka.AIOKafkaProducer(**settings)
    try:
        await asyncio.wait_for(producer.start(), order.left())
        await produce(producer)
    except Exception as error:
        fault(error)
    finally:
        order.summary("aiokafka", aiokafka.__version__)
        try:
            await asyncio.wait_for(producer.stop(), 5)
        except Exception:
            pass  # It was said already what became of each record.


async def produce(producer):
    async def one(i, delivery):
        try:
            order.acked(i, (await delivery).offset)
        except Exception as error:
            fault(error)

    tasks = []
    for i in range(order.COUNT):
        if (wait := order.due(i)) > 0:
            await asyncio.sleep(wait)
        try:
            sent = await asyncio.wait_for(producer.send(order.TOPIC, **order.record(i)), order.left())
            tasks.append(asyncio.ensure_future(one(i, sent)))
        except Exception as error:
            fault(error)
    if tasks:
        _, pending = await asyncio.wait(tasks, timeout=order.left())
        for task in pending:
            order.fault("NoAnswer", "", "neither acknowledged nor failed")
            task.cancel()


asyncio.run(main())
