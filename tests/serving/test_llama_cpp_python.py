"""The proxy before llama-cpp-python's real server, asked by the official client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

openai = pytest.importorskip("openai")
pytest.importorskip("uvicorn")

from hagpolicy.config.config import DecodingConfig  # noqa: E402
from hagpolicy.config.space import DecodingSpace  # noqa: E402
from hagpolicy.serving.handler import RequestHandler  # noqa: E402
from hagpolicy.serving.proxy import make_proxy  # noqa: E402
from hagpolicy.serving.rewrite import RewriteRules  # noqa: E402
from tests.serving.wrapping import WordPolicy  # noqa: E402
from tests.support.asgi_server import Serving  # noqa: E402
from tests.support.servers.launching import Served  # noqa: E402

pytestmark = pytest.mark.servers

# Greedy, so that texts can be compared; what repeats itself is told from what is kept from it.
SPACE = DecodingSpace(
    [
        DecodingConfig(temperature=0.0),
        DecodingConfig(temperature=0.0, repetition_penalty=1.8),
        DecodingConfig(temperature=0.0, hint="Answer in French."),
    ]
)
FRUITS, RIVERS, NAMES = (f"List twelve {what}, separated by commas." for what in ("fruits", "rivers", "names"))
WORDS = {"fruits,": 0, "rivers,": 1, "names,": 2}


def chat(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def handler() -> RequestHandler:
    return RequestHandler(WordPolicy(SPACE, WORDS), RewriteRules("llama_cpp_python"))


@pytest.fixture
def url(llama_served: Served, handler: RequestHandler) -> Iterator[str]:
    proxy = Serving(make_proxy(handler, llama_served.url))
    yield f"{proxy.url}/v1"
    proxy.close()


def test_a_client_gets_what_it_would_get_for_the_policys_settings(llama_served: Served, url: str) -> None:
    asked = {"model": llama_served.model, "max_tokens": 24}
    with (
        openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client,
        openai.OpenAI(api_key="none", base_url=llama_served.url, max_retries=0) as plain,
    ):
        for prompt, config, own in zip((FRUITS, RIVERS, NAMES), SPACE, ({}, {"repeat_penalty": 1.8}, {}), strict=True):
            hinted = chat(f"{prompt}\n\n{config.hint}" if config.hint else prompt)
            said = {"top_p": 1.0, "extra_body": {"repeat_penalty": 1.0, "top_k": 0, "min_p": 0.0, **own}}
            # The first of all reads the prompt anew and the others take it from the server's cache, which moves the
            # last digits.
            plain.chat.completions.create(messages=hinted, temperature=0.0, **said, **asked)
            raw = client.chat.completions.with_raw_response.create(messages=chat(prompt), **asked)
            wanted = plain.chat.completions.create(messages=hinted, temperature=0.0, **said, **asked)
            assert raw.parse().choices[0].message.content == wanted.choices[0].message.content
            assert raw.headers["x-hag-reason"] in ("best_by_margin", "reference_best")
            assert json.loads(raw.headers["x-hag-config"]) == {**config.to_dict(), "max_tokens": 24}
        mine = client.completions.with_raw_response.create(prompt=RIVERS, extra_body={"repeat_penalty": 1.3}, **asked)
        assert mine.headers["x-hag-reason"] == "no_config_agrees"
        assert mine.parse().choices[0].text


def test_streams_and_an_asynchronous_client(llama_served: Served, url: str, handler: RequestHandler) -> None:
    async def ask() -> tuple[str, list[str]]:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            asked = {"model": llama_served.model, "max_tokens": 16}
            await client.chat.completions.create(messages=chat(RIVERS), **asked)  # the others find it in the cache
            chunks = await client.chat.completions.create(messages=chat(RIVERS), stream=True, **asked)
            streamed = [chunk.choices[0].delta.content or "" async for chunk in chunks]
            calls = [client.chat.completions.create(messages=chat(RIVERS), **asked) for _ in range(3)]
            return "".join(streamed), [one.choices[0].message.content for one in await asyncio.gather(*calls)]

    streamed, whole = asyncio.run(ask())
    assert set(whole) == {streamed}
    assert handler.counts == {"best_by_margin": 5}
