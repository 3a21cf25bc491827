from collections.abc import Iterator

import pytest

from llmdiff.generation import Models, Renderer
from server.running import Running, config_for, running
from tiny_base import Places


@pytest.fixture(scope="package")
def renderer(places: Places) -> Renderer:
    """Tiny models, which one server at a time draws with."""
    return Renderer.load(Models(base=str(places.base), adapter=str(places.adapter)), device="cpu")


@pytest.fixture(scope="module")
def server(renderer: Renderer, places: Places) -> Iterator[Running]:
    """A real server of tiny models, which draws one picture at a time."""
    with running(renderer, config_for(places, steps=4, client_timeout=1)) as one:
        yield one
