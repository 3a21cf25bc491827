"""The app as a web application: who may come in, what it serves, what it never fetches."""

import re
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from app.conftest import Served
from llmdiff.app import AppSettings, ui_app
from llmdiff.app.studio import Studio


@pytest.fixture
def client(served: Served) -> httpx.Client:
    return httpx.Client(base_url=served.address, timeout=20)


def config(client: httpx.Client) -> dict[str, object]:
    return client.get("/config").json()


def test_the_page_fetches_nothing_from_elsewhere_and_tells_nobody(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', answer.text)
    assert [one for one in fetched if "127.0.0.1" not in one] == []
    found = config(client)
    assert found["analytics_enabled"] is False
    assert not found.get("is_space")
    assert found["api_prefix"]


def test_the_page_is_ours_and_not_gradios(client: httpx.Client) -> None:
    page = client.get("/").text
    head = page[: page.index("</head>")]
    assert re.findall(r"<title>(.*?)</title>", head) == ["llmdiff"]
    tags = dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', head))
    assert tags["og:title"] == "llmdiff"
    assert "language model" in tags["description"] == tags["og:description"]
    assert not [one for one in tags.items() if "gradio" in "".join(one).lower() or one[0].startswith("twitter")]
    icon = client.get("/favicon.ico")
    assert icon.headers["content-type"] == "image/svg+xml"
    assert b"#8b5cf6" in icon.content


def test_no_function_is_offered_to_programs(client: httpx.Client) -> None:
    info = client.get("/gradio_api/info").json()
    assert info["named_endpoints"] == {}


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../etc/passwd",
        "/gradio_api/file=http://169.254.169.254/latest",
        "/gradio_api/file=https%3A//example.com/x.png",
        "/gradio_api/proxy=https://example.hf.space/x",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ],
)
def test_files_and_addresses_that_are_not_the_apps_are_not_served(client: httpx.Client, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    assert answer.status_code in (401, 403, 404), answer.text[:200]


def test_pictures_in_the_folder_are_served_through_copies_alone(client: httpx.Client, served: Served) -> None:
    served.settings.out.mkdir(parents=True, exist_ok=True)
    secret = served.settings.out / "notes.txt"
    secret.write_text("mine")
    assert client.get(f"/gradio_api/file={secret}").status_code == 403


def test_an_address_in_the_place_of_a_file_is_not_fetched(client: httpx.Client, served: Served) -> None:
    found = config(client)
    components = {one["id"]: one["type"] for one in found["components"]}
    uploads = [one for one in found["dependencies"] if [components.get(i) for i in one["inputs"]] == ["uploadbutton"]]
    assert len(uploads) == 1
    for path in ("http://127.0.0.1:9/x.png", "https://example.com/x.png", "/etc/passwd", str(served.settings.base)):
        file = {"path": path, "url": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        body = {"data": [file], "fn_index": uploads[0]["id"], "session_hash": "me"}
        assert client.post("/gradio_api/queue/join", json=body).status_code == 200
        said = ""
        with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "me"}) as stream:
            for line in stream.iter_lines():
                said += line
                if "process_completed" in line or "close_stream" in line:
                    break
        assert '"success":false' in said, said


def test_uploads_are_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    big = b"0" * (33 * 2**20)
    answer = client.post("/gradio_api/upload", files={"files": ("x.png", big)})
    assert answer.status_code == 413


def test_a_password_is_asked_of_everybody(
    app_settings: AppSettings, studio_renderer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # to be as before once this second app of the process has set it
    app = ui_app(app_settings, password="open sesame", renderer=studio_renderer)
    with TestClient(app) as client:
        assert client.get("/config").status_code == 401
        assert "<title>llmdiff</title>" in client.get("/").text
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.get("/gradio_api/info").status_code == 401
        assert client.post("/gradio_api/upload", files={"files": ("x.png", b"0")}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "open sesame"}).status_code == 200
        assert client.get("/config").status_code == 200


@pytest.fixture
def studio_renderer(app_settings: AppSettings, tmp_path: Path) -> object:
    return Studio(app_settings).renderer
