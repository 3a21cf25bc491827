"""An OpenAI-compatible chat endpoint for this machine, to try a proxy without the network.

    python recipes/proxy_study/endpoint.py --llm smollm2-135m      # a small LLM writes the answers
    python recipes/proxy_study/endpoint.py --oracle answers.json   # they are looked up: an upper bound

It answers one question after the other, greedily at temperature 0, and has no key: it is no server for others.
"""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmdiff.models import language_model

Answer = Callable[[dict[str, Any]], str]
_LARGEST = 10**6  # bytes of a question
_LONGEST = 80  # tokens of an answer
_SEEDS = 2**31


def answers_of(name: str) -> Answer:
    """Answers by an instruct model, by its own chat template.

    Args:
        name: a name of `llmdiff models list`, a folder or a Hub id.
    """
    known = language_model(name)
    folder = str(known.pull()) if known else name
    tokenizer, lock = AutoTokenizer.from_pretrained(folder), Lock()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def answer(question: dict[str, Any]) -> str:
        ids: Any = tokenizer.apply_chat_template(
            question["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        temperature = float(question.get("temperature") or 0)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_p": 0.9} if temperature else {"do_sample": False}
        )
        with lock:
            torch.manual_seed(int(question.get("seed") or 0) % _SEEDS)
            written = model.generate(**ids, max_new_tokens=_LONGEST, pad_token_id=tokenizer.eos_token_id, **sampling)
        return str(tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True))

    return answer


def oracle(file: Path) -> Answer:
    """Answers by a JSON object of them by prompt."""
    answers = json.loads(file.read_text("utf-8"))
    return lambda question: answers.get(question["messages"][-1]["content"], "")


def serve(answer: Answer, port: int) -> ThreadingHTTPServer:
    """A server on this machine alone; it runs once `serve_forever` is called."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.path != "/v1/chat/completions" or not 0 < length <= _LARGEST:
                self.send_error(404)
                return
            question = json.loads(self.rfile.read(length))
            message = {"role": "assistant", "content": answer(question)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"object": "chat.completion", "model": question["model"], "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main(
    llm: Annotated[str | None, typer.Option(help="An instruct model: a name, a folder or a Hub id.")] = None,
    oracle_file: Annotated[Path | None, typer.Option("--oracle", help="JSON: answers by prompt.")] = None,
    port: int = 8000,
) -> None:
    """Serve http://127.0.0.1:PORT/v1 until interrupted."""
    if (llm is None) == (oracle_file is None):
        raise typer.BadParameter("Give either --llm or --oracle.")
    server = serve(oracle(oracle_file) if oracle_file else answers_of(str(llm)), port)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    typer.run(main)
