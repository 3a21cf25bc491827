"""Every way of reading the LLM in an adapter: untrained it changes nothing, and it is saved and loaded with it."""

import pytest
import torch

from adapter.tiny import draw, perturb
from llmdiff.adapter import LLMDiffAdapter
from llmdiff.language import ExtractionConfig

READINGS = {
    "signed": {"extraction": "signed"},
    "attention": {"extraction": "attention"},
    "fixed g": {"fixed_g": True},
    "no unconditional term": {"score": "conditional"},
    "the prompt twice": {"template": "{prompt}\n{prompt}"},
}


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_changes_nothing_untrained_and_is_saved_and_loaded(sd, make_adapter, settled_llm, tmp_path, name):
    base = draw(sd)
    reading = ExtractionConfig.model_validate(READINGS[name])
    adapter = make_adapter(sd, mode="augment", reading=reading).attach(sd)
    assert torch.equal(draw(sd), base)
    perturb(adapter)
    expected = draw(sd)
    assert not torch.equal(expected, base)
    adapter.save_pretrained(tmp_path)
    adapter.detach()
    again = LLMDiffAdapter.from_pretrained(tmp_path, llm=settled_llm)
    assert again.config.reading == reading
    assert again.state_dict().keys() == adapter.state_dict().keys()
    again.attach(sd)
    assert torch.equal(draw(sd), expected)
