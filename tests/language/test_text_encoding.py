"""The learned sum, its gradients and its noise (docs/method.md section 2)."""

import pytest
import torch
import torch.nn.functional as F

from llmdiff.errors import LLMDiffError
from llmdiff.language import (
    ExtractionConfig,
    LanguageModel,
    TextEncoding,
    condense,
    encode,
    extract_stack,
    term_count,
    tokenize,
)

PROMPTS = ["a cat sat", "a", ""]
KEYS = {
    "llmdiff": {"g", "raw_h", "norm.weight", "norm.bias"},
    "weighted": {"logits", "norm.weight", "norm.bias"},
    "signed": {"mix", "norm.weight", "norm.bias"},
    "attention": {"logits", "query", "norm.weight", "norm.bias"},
    "layer:2": {"norm.weight", "norm.bias"},
}


def make(llm: LanguageModel, **options: object) -> TextEncoding:
    config = ExtractionConfig.model_validate(options)
    return TextEncoding(config, llm.width, llm.block_count)


@pytest.mark.parametrize("extraction", KEYS)
def test_state_dict_has_exactly_these_keys(tiny_llm: LanguageModel, extraction: str) -> None:
    assert set(make(tiny_llm, extraction=extraction).state_dict()) == KEYS[extraction]


def test_without_noise_there_is_no_h(tiny_llm: LanguageModel) -> None:
    assert set(make(tiny_llm, noise=False).state_dict()) == KEYS["llmdiff"] - {"raw_h"}


def test_with_a_fixed_g_there_is_no_g_and_the_sum_is_the_plain_one(tiny_llm: LanguageModel) -> None:
    fixed, learned = make(tiny_llm, fixed_g=True).eval(), make(tiny_llm).eval()
    assert set(fixed.state_dict()) == KEYS["llmdiff"] - {"g"}
    config = fixed.config
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    whole = learned(start, stack, tokens.kept)
    torch.testing.assert_close(fixed(start, stack, tokens.kept), whole)
    assert term_count(config, tiny_llm.block_count) == 1
    torch.testing.assert_close(fixed(start, condense(stack, config, 1), tokens.kept), whole)
    torch.testing.assert_close(encode(tiny_llm, PROMPTS, config, fixed).embeds, whole, rtol=1e-4, atol=1e-5)


def test_the_signed_mix_starts_as_the_mean_of_layer_norms_and_takes_either_sign(tiny_llm: LanguageModel) -> None:
    signed, mean = make(tiny_llm, extraction="signed").eval(), make(tiny_llm, extraction="norm-mean").eval()
    tokens = tokenize(tiny_llm, PROMPTS, signed.config)
    start, stack = extract_stack(tiny_llm, tokens, signed.config)
    expected = mean(*extract_stack(tiny_llm, tokens, mean.config), tokens.kept)
    torch.testing.assert_close(signed(start, stack, tokens.kept), expected, rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        signed.mix.copy_(torch.tensor([0.0, 1.0, 0.0, -1.0]))
    expected = F.layer_norm(stack[1] - stack[3], (tiny_llm.width,))
    torch.testing.assert_close(signed(start, stack, tokens.kept)[tokens.kept], expected[tokens.kept])
    torch.testing.assert_close(
        encode(tiny_llm, PROMPTS, signed.config, signed).embeds, signed(start, stack, tokens.kept), rtol=1e-4, atol=1e-4
    )


def test_attention_over_layers_is_that_of_each_token_by_itself(tiny_llm: LanguageModel) -> None:
    encoding = make(tiny_llm, extraction="attention").eval()
    config, width = encoding.config, tiny_llm.width
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    mean = make(tiny_llm, extraction="norm-mean").eval()
    torch.testing.assert_close(encoding(start, stack, tokens.kept), mean(start, stack.mean(0)[None], tokens.kept))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        encoding.query.copy_(torch.randn(width, generator=rng))
        encoding.logits.copy_(torch.randn(len(stack), generator=rng))
    query, logits = encoding.query.detach(), encoding.logits.detach()
    out = encoding(start, stack, tokens.kept)
    for row in range(len(PROMPTS)):
        for place in range(int(tokens.kept[row].sum())):
            states = [stack[t, row, place] for t in range(len(stack))]
            scores = [float(x @ query) / width**0.5 + float(logits[t]) for t, x in enumerate(states)]
            weights = torch.tensor(scores).softmax(0)
            expected = F.layer_norm(sum(w * x for w, x in zip(weights, states, strict=True)), (width,))
            torch.testing.assert_close(out[row, place], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(encode(tiny_llm, PROMPTS, config, encoding).embeds, out, rtol=1e-3, atol=1e-4)
    assert term_count(config, tiny_llm.block_count, groups=2) == tiny_llm.block_count
    with pytest.raises(LLMDiffError, match="every token has its own"):
        encoding.weights()


@pytest.mark.parametrize("extraction", ["llmdiff", "weighted", "mean", "signed"])
def test_forward_is_the_layer_norm_of_the_sum(tiny_llm: LanguageModel, extraction: str) -> None:
    config = ExtractionConfig(extraction=extraction)
    encoding = make(tiny_llm, extraction=extraction).eval()
    torch.nn.init.normal_(encoding.norm.weight)
    torch.nn.init.normal_(encoding.norm.bias)
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    total = start + sum(w * s for w, s in zip(encoding.weights(), stack, strict=True))
    expected = F.layer_norm(total, (tiny_llm.width,), encoding.norm.weight, encoding.norm.bias)
    out = encoding(start, stack, tokens.kept)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[tokens.kept], expected[tokens.kept], rtol=1e-4, atol=1e-5)
    assert not out[~tokens.kept].any()


def test_the_sum_does_not_depend_on_how_terms_lie_in_memory(tiny_llm: LanguageModel) -> None:
    encoding = make(tiny_llm, noise=False)
    count, width = tiny_llm.block_count, tiny_llm.width
    start, mask = torch.randn(2, 5, width), torch.ones(2, 5, dtype=torch.bool)
    results, gradients = [], []
    stack = torch.randn(2, 5, count, width).permute(2, 0, 1, 3)
    for laid in (stack, stack.contiguous()):
        encoding.zero_grad()
        results.append(encoding(start, laid, mask))
        results[-1].square().sum().backward()
        gradients.append(encoding.g.grad)
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("extraction", KEYS)
def test_gradients_reach_every_parameter(tiny_llm: LanguageModel, extraction: str) -> None:
    config = ExtractionConfig(extraction=extraction)
    encoding = make(tiny_llm, extraction=extraction).train()
    tokens = tokenize(tiny_llm, PROMPTS, config)
    out = encoding(*extract_stack(tiny_llm, tokens, config), tokens.kept)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    for name, parameter in encoding.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().min() > 0, name


def test_a_half_precision_stack_is_summed_in_the_precision_of_the_weights(tiny_llm: LanguageModel) -> None:
    config = ExtractionConfig()
    encoding = make(tiny_llm).eval()
    tokens = tokenize(tiny_llm, PROMPTS, config)
    start, stack = extract_stack(tiny_llm, tokens, config)
    out = encoding(start.half(), stack.half(), tokens.kept)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, encoding(start, stack, tokens.kept), rtol=0.01, atol=0.01)
    assert encoding.half()(start, stack, tokens.kept).dtype == torch.float16


def test_noise_has_the_variance_of_the_walk(tiny_llm: LanguageModel) -> None:
    encoding = make(tiny_llm)
    with torch.no_grad():
        encoding.raw_h.copy_(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    total = torch.randn(64, 50, tiny_llm.width, generator=torch.Generator().manual_seed(0))
    # beside a sum that is large, the LayerNorm is a known division: undo it
    big = total * 1e3
    noisy = encoding.train().finish(big, torch.Generator().manual_seed(1))
    clean = encoding.eval().finish(big)
    spread = big.var(-1, correction=0, keepdim=True).sqrt()
    added = ((noisy - clean) * spread).var().item()
    # LayerNorm takes two of D directions (mean and length) out of a small change
    expected = 2 * F.softplus(encoding.raw_h).sum() * (tiny_llm.width - 2) / tiny_llm.width
    assert added == pytest.approx(expected.item(), rel=0.05)


def test_noise_is_drawn_in_training_and_on_request(tiny_llm: LanguageModel) -> None:
    encoding = make(tiny_llm)
    total = torch.randn(2, 3, tiny_llm.width, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(encoding.train().finish(total), encoding.finish(total))
    assert torch.equal(encoding.eval().finish(total), encoding.finish(total))
    one, same, other = (encoding.finish(total, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    silent = make(tiny_llm, noise=False).train()
    assert torch.equal(silent.finish(total, torch.Generator()), silent.finish(total))


def test_noise_starts_far_below_the_scores(tiny_llm: LanguageModel) -> None:
    encoding = make(tiny_llm)
    total = torch.randn(2, 3, tiny_llm.width, generator=torch.Generator().manual_seed(0))
    change = encoding.train().finish(total) - encoding.eval().finish(total)
    assert 0 < change.std() < 0.01


def test_blocks_that_do_not_exist_are_refused(tiny_llm: LanguageModel) -> None:
    with pytest.raises(LLMDiffError, match="needs block 5, but the LLM has 4"):
        make(tiny_llm, extraction="layer:5")
    with pytest.raises(LLMDiffError, match="needs block 0"):
        TextEncoding(ExtractionConfig(extraction="penultimate"), 8, 1)


@pytest.mark.parametrize("extraction", ["first", "layer:0", "layer:k", "layer:-1", "layer:1.5", ""])
def test_unknown_extractions_are_refused(extraction: str) -> None:
    with pytest.raises(LLMDiffError, match="Unknown extraction"):
        ExtractionConfig(extraction=extraction)


@pytest.mark.parametrize("template", ["", "Describe", "{prompt}, {prompt} and {prompt}", "{text}"])
def test_templates_without_a_place_for_the_prompt_are_refused(template: str) -> None:
    with pytest.raises(LLMDiffError, match="once or twice"):
        ExtractionConfig(template=template)


def test_a_config_survives_json() -> None:
    config = ExtractionConfig(extraction="layer:3", template="Say: {prompt}", score="difference", max_tokens=7)
    assert ExtractionConfig.model_validate_json(config.model_dump_json()) == config
