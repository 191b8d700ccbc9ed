"""A service that greets and an actor that counts, on the Python SDK."""
import asyncio
import os

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from hypercorn.asyncio import serve
from hypercorn.config import Config
from kar import KarActor, actor_runtime, actor_state_get, actor_state_set


class Tally(KarActor):
    """Counts per id; ids of this SDK are numbers."""

    def __init__(self):
        super().__init__()
        self.value = 0

    async def activate(self):
        stored = await actor_state_get(self, "value")
        self.value = stored if isinstance(stored, int) else 0

    async def add(self, amount):
        self.value += amount
        await actor_state_set(self, "value", self.value)
        return self.value

    async def get(self):
        return self.value


app = FastAPI()


@app.post("/helloJson")
async def hello_json(request: Request):
    body = await request.json()
    return {"greetings": f"Hello {body['name']}!"}


@app.post("/helloText", response_class=PlainTextResponse)
async def hello_text(request: Request):
    name = (await request.body()).decode()
    return f"Hello {name}!"


actor_runtime([Tally], app)

config = Config()
config.bind = [f"127.0.0.1:{os.environ['KAR_APP_PORT']}"]
asyncio.run(serve(app, config))
