"""Uses the Python SDK's calls and compares each result with what KAR 1.x gives."""
import asyncio
import json
import os
import traceback
from datetime import datetime, timedelta, timezone

import kar
from fastapi import FastAPI, Request
from hypercorn.asyncio import serve
from hypercorn.config import Config

NOTED = []


class Probe(kar.KarActor):
    async def echo(self, *args, **kwargs):
        return [list(args), kwargs]

    async def nothing(self):
        pass

    async def note(self, value):
        NOTED.append(value)

    async def through(self, other):
        return await kar.actor_call(self, kar.actor_proxy("Probe", other), "back", self.id)

    async def back(self, other):
        return await kar.actor_call(self, kar.actor_proxy("Probe", other), "echo", "back")

    async def hand_over(self, other):
        return kar.actor_encode_tail_call(kar.actor_proxy("Probe", other), "echo", "from", self.id)

    async def fail(self):
        raise ValueError("as told")


ONE = kar.actor_proxy("Probe", 1)


async def eventually(check):
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


async def service():
    got = await kar.call("py-suite", "shout", json.dumps({"word": "ho"}))
    assert got == {"said": "HO"}, got


async def promise():
    got = await kar.async_call("py-suite", "shout", json.dumps({"word": "later"}))
    assert got == {"said": "LATER"}, got


async def calls():
    assert await kar.actor_call(ONE, "echo", 1, "b") == [[1, "b"], {}]
    assert await kar.actor_call(ONE, "echo", 1, key="v") == [[1], {"key": "v"}]
    assert await kar.actor_root_call(ONE, "echo") == [[], {}]
    assert await kar.actor_async_call(ONE, "echo", 2) == [[2], {}]
    assert await kar.actor_call(ONE, "nothing") == ""


async def reentrancy():
    assert await kar.actor_call(ONE, "through", 2) == [["back"], {}]


async def tail_call():
    assert await kar.actor_call(ONE, "hand_over", 3) == [["from", 1], {}]


async def exception():
    # 1.3.5 prints the remote stack and returns it as the value.
    assert "as told" in await kar.actor_call(ONE, "fail")


async def state():
    await kar.actor_state_remove_all(ONE)
    await kar.actor_state_set(ONE, "k", {"deep": [1]})
    assert await kar.actor_state_get(ONE, "k") == {"deep": [1]}
    assert await kar.actor_state_contains(ONE, "k")
    assert not await kar.actor_state_contains(ONE, "other")
    assert await kar.actor_state_set_multiple(ONE, {"x": 1, "y": 2}) == 2
    assert await kar.actor_state_remove_some(ONE, ["x", "nosuch"]) == 1
    await kar.actor_state_submap_set(ONE, "m", "one", 1)
    assert await kar.actor_state_submap_get_all(ONE, "m") == {"one": 1}
    assert await kar.actor_state_submap_size(ONE, "m") == 1
    assert await kar.actor_state_submap_keys(ONE, "m") == ["one"]
    assert await kar.actor_state_get_all(ONE) == {"k": {"deep": [1]}, "y": 2, "m": {"one": 1}}


async def reminders():
    at = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    await kar.actor_schedule_reminder(ONE, "note", {"id": "far", "target_time": at, "period": "1h"}, "x")
    got = await kar.actor_get_reminder(ONE, "far")
    assert got["path"] == "/note" and got["period"] == 3600 * 10**9, got
    assert await kar.actor_cancel_reminder(ONE, "far") == "1"


async def events():
    topic = f"py-suite-{os.getpid()}"
    await kar.events_create_topic(topic)
    await kar.events_create_subscription(ONE, "note", topic)
    await kar.events_publish(topic, json.dumps("event"))
    await eventually(lambda: "event" in NOTED)
    assert await kar.events_cancel_subscription(ONE, topic) == "1"


app = FastAPI()


@app.post("/shout")
async def shout(request: Request):
    return {"said": (await request.json())["word"].upper()}


@app.post("/run")
async def run():
    results = []
    for check in (service, promise, calls, reentrancy, tail_call, exception, state, reminders, events):
        try:
            await check()
            results.append({"name": check.__name__, "ok": True})
        except Exception:
            results.append({"name": check.__name__, "ok": False, "detail": traceback.format_exc()[-2000:]})
    return results


kar.actor_runtime([Probe], app)

config = Config()
config.bind = [f"127.0.0.1:{os.environ['KAR_APP_PORT']}"]
asyncio.run(serve(app, config))
