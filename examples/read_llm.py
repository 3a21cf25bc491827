"""Reads prompts with an LLM in several ways, and shows how near their encodings are."""

import torch

from llmdiff import ExtractionConfig, LanguageModel
from llmdiff.language import TextEncoding, encode

PROMPTS = ["a cat on a mat", "a kitten on a rug", "a red sports car"]


@torch.no_grad()
def main() -> None:
    """Print the cosine of the first prompt's last vector to the others', for each extraction."""
    llm = LanguageModel.load("embedded")  # or Qwen/Qwen3-0.6B, a folder, a GGUF file
    for name in ("llmdiff", "last", "mean"):
        config = ExtractionConfig(extraction=name)
        weights = TextEncoding(config, llm.width, llm.block_count).eval()
        found = encode(llm, PROMPTS, config, weights)
        last = torch.stack([row[mask][-1] for row, mask in zip(found.embeds, found.mask, strict=True)])
        near = torch.nn.functional.cosine_similarity(last[:1], last[1:])
        print(f"{name:8}", " ".join(f"{value:.3f}" for value in near.tolist()))


if __name__ == "__main__":
    main()
