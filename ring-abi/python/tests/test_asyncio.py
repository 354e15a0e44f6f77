"""The same in an event loop."""

from __future__ import annotations

import asyncio
import unittest
from typing import List

import vms_ring
from vms_ring import Ended, Rotated, Session, Unit

from .producer import KEY, Producer


class Asyncio(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.producer = Producer()
        self.addCleanup(self.producer.stop)
        self.cam = self.producer.stream("cam")

    async def test_units_as_they_come(self) -> None:
        async with await Session.open(self.producer.path) as session:
            await session.attach_async("cam", from_=vms_ring.LIVE)
            found: List[int] = []
            fourth = asyncio.Event()

            async def read() -> None:
                async for event in session:
                    if isinstance(event, Unit):
                        found.append(event.seq)
                        if len(found) == 4:
                            fourth.set()
                    else:
                        self.assertIsInstance(event, (Rotated, Ended))

            reader = asyncio.create_task(read())
            for _ in range(3):
                await asyncio.sleep(0)
                self.cam.publish(b"x", KEY)
            self.cam.rotate()
            self.cam.publish(b"x")
            await asyncio.wait_for(fourth.wait(), 10)
            self.cam.close()
            await asyncio.wait_for(reader, 10)
            self.assertEqual(found, [1, 2, 3, 4])

    async def test_one_stream(self) -> None:
        self.cam.publish(b"x", KEY)
        units = vms_ring.attach(self.producer.path, "cam", timeout=10)
        self.assertEqual((await units.__anext__()).seq, 1)
        self.cam.close()
        self.assertEqual([unit async for unit in units], [])

    async def test_time_outs_and_an_idle_reader_leave_the_loop_alone(self) -> None:
        async with await Session.open(self.producer.path) as session:
            stream = await session.attach_async("cam")
            self.assertIsNone(await session.anext(0.01))
            waiting = asyncio.create_task(session.anext())
            for _ in range(5):
                await asyncio.sleep(0)
            other = await session.attach_async("cam")
            self.assertEqual((await session.detach_async(other)).accepted, 0)
            self.assertFalse(waiting.done())
            self.cam.publish(b"x", KEY)
            event = await asyncio.wait_for(waiting, 10)
            assert isinstance(event, Unit) and event.stream is stream

    async def test_who_always_has_something_to_read_lets_others_run(self) -> None:
        async with await Session.open(self.producer.path) as session:
            await session.attach_async("cam", from_=vms_ring.LIVE)
            ran: List[int] = []

            async def other() -> None:
                while True:
                    ran.append(1)
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            self.cam.publish(b"x", KEY)
            for _ in range(1000):
                self.cam.publish(b"x")
                await session.anext()
            self.assertGreater(len(ran), 5)
            task.cancel()

    async def test_a_wait_can_be_cancelled_or_closed(self) -> None:
        session = await Session.open(self.producer.path)
        await session.attach_async("cam")
        waiting = asyncio.create_task(session.anext())
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await waiting
        waiting = asyncio.create_task(session.anext())
        for _ in range(3):
            await asyncio.sleep(0)
        session.close()
        with self.assertRaises(vms_ring.RingError):
            await asyncio.wait_for(waiting, 10)

    async def test_a_cancelled_wait_loses_no_rotated_stream(self) -> None:
        async with await Session.open(self.producer.path) as session:
            await session.attach_async("cam")
            self.producer.answer = lambda name, packet, fds: None if name == "attached" else (packet, fds)
            waiting = asyncio.create_task(session.anext())
            self.cam.rotate()
            asked = asyncio.get_running_loop().run_in_executor(
                None, self.producer.wait_for, lambda: len(self.producer.attaches) == 2
            )
            await asked
            waiting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await waiting
            self.producer.answer = lambda _name, packet, fds: (packet, fds)
            self.assertIsInstance(await asyncio.wait_for(session.anext(), 10), Rotated)

    async def test_a_producer_that_dies(self) -> None:
        session = await Session.open(self.producer.path)
        await session.attach_async("cam")
        waiting = asyncio.create_task(session.anext())
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, self.producer.stop)
        with self.assertRaises(vms_ring.ProducerGone):
            await asyncio.wait_for(waiting, 10)
        session.close()

    async def test_reading_on(self) -> None:
        events = vms_ring.reconnecting(self.producer.path, ["cam"])
        self.cam.publish(b"x", KEY)
        async for event in events:
            self.assertIsInstance(event, Unit)
            break
        self.assertIsNone(await events.anext(0.01))
        events.close()
