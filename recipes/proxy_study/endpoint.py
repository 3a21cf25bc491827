"""An OpenAI-compatible chat endpoint for this machine, to try a proxy without the network.

    python recipes/proxy_study/endpoint.py --llm smollm2-135m      # a small LLM writes the answers
    python recipes/proxy_study/endpoint.py --oracle answers.json   # they are looked up: an upper bound

It has no key and answers without sampling at temperature 0: it is no server for others.
"""

import json
from collections.abc import Callable
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import sleep
from typing import Annotated, Any

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer

from llmdiff.models import language_model

Answer = Callable[[dict[str, Any]], str]
_LARGEST = 10**6  # bytes of a question
_LONGEST = 80  # tokens of an answer
_SEEDS = 2**31
_BATCH = 32  # questions that are answered together
_PATIENCE = 0.2  # seconds in which others may join


def answers_of(name: str) -> Answer:
    """Answers by an instruct model, by its own chat template; questions that wait at temperature 0 share a batch.

    Args:
        name: a name of `llmdiff models list`, a folder or a Hub id.
    """
    known = language_model(name)
    folder = str(known.pull()) if known else name
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    waiting: SimpleQueue[tuple[dict[str, Any], Future[str]]] = SimpleQueue()

    @torch.inference_mode()
    def written(questions: list[dict[str, Any]]) -> list[str]:
        chats = [question["messages"] for question in questions]
        ids: Any = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        temperature = _temperature(questions[0])
        sampling = {"temperature": temperature, "top_p": 0.9} if temperature else {}
        torch.manual_seed(int(questions[0].get("seed") or 0) % _SEEDS)
        tokens = model.generate(
            **ids, max_new_tokens=_LONGEST, pad_token_id=tokenizer.pad_token_id, do_sample=bool(sampling), **sampling
        )
        return [str(text) for text in tokenizer.batch_decode(tokens[:, ids["input_ids"].shape[1] :], True)]

    def work() -> None:
        while True:
            batch = [waiting.get()]
            sleep(_PATIENCE)
            while len(batch) < _BATCH and not waiting.empty() and not _temperature(batch[-1][0]):
                batch.append(waiting.get())
            for part in (batch[:-1], batch[-1:]) if _temperature(batch[-1][0]) else (batch,):
                for (_, future), text in zip(part, written([one for one, _ in part]) if part else [], strict=True):
                    future.set_result(text)

    Thread(target=work, daemon=True).start()

    def answer(question: dict[str, Any]) -> str:
        future: Future[str] = Future()
        waiting.put((question, future))
        return future.result()

    return answer


def _temperature(question: dict[str, Any]) -> float:
    return float(question.get("temperature") or 0)


def oracle(file: Path) -> Answer:
    """Answers by a JSON object of lists of them by prompt, each question's by its seed."""
    answers = json.loads(file.read_text("utf-8"))

    def answer(question: dict[str, Any]) -> str:
        known = answers.get(question["messages"][-1]["content"], [""])
        return str(known[int(question.get("seed") or 0) % len(known)])

    return answer


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
