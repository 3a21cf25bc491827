import threading
from collections.abc import Iterator

import pytest
import uvicorn

from llmdiff.study import Study, study_app


@pytest.fixture
def address(study: Study) -> Iterator[str]:
    """A real server of the test's study, on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(study_app(study), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
