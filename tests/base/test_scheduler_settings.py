"""A base model's scheduler: settings that are saved with one are taken, any other is named with its file."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from base.folders import change_index, fault
from llmdiff.base.loading import load_pipeline
from llmdiff.base.scheduler_settings import check_scheduler, failure_in, faulty_setting
from llmdiff.errors import LLMDiffError
from llmdiff.generation import Renderer
from llmdiff.generation.record import PictureSettings
from llmdiff.training.meta import meta_base
from tiny_base import Places

STEPPING = [
    "CogVideoXDDIM", "DDIMInverse", "DDIMParallel", "DDIM", "DDPM", "DEISMultistep", "DPMSolverMultistep",
    "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "FlowMatchEulerDiscrete", "HeunDiscrete",
    "IPNDM", "LCM", "LMSDiscrete", "PNDM", "SASolver", "TCD", "UnCLIP", "UniPCMultistep",
]  # fmt: skip
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "trained_betas": None}
KNOWN = [  # as they are in the folders of well-known models
    ("PNDM", SD | {"skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}),
    ("EulerDiscrete", SD | {"interpolation_type": "linear", "sample_max_value": 1.0, "use_karras_sigmas": False}),
    ("EulerDiscrete", SD | {"timestep_type": "continuous", "sigma_max": 700.0, "sigma_min": 0.002,
                             "use_karras_sigmas": True, "prediction_type": "v_prediction"}),
    ("EulerDiscrete", SD | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ("DDIM", {"rescale_betas_zero_snr": True, "prediction_type": "epsilon", "timestep_spacing": "trailing"}),
    ("DDIM", {"trained_betas": [0.001] * 50, "num_train_timesteps": 50}),
    ("DDPM", {"variance_type": "learned_range", "beta_schedule": "squaredcos_cap_v2", "thresholding": True}),
    ("DPMSolverMultistep", {"lambda_min_clipped": -math.inf, "use_flow_sigmas": True, "flow_shift": 3,
                            "prediction_type": "flow_prediction", "variance_type": None}),
    ("DPMSolverMultistep", {"variance_type": "learned_range", "solver_order": 2}),
    ("EDMEuler", {"sigma_data": 1, "sigma_max": 120, "sigma_min": 0.002}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "base_shift": 0.5, "max_image_seq_len": 4096}),
    ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True, "shift_terminal": 0.02, "shift": 1}),
    ("UniPCMultistep", {"solver_order": 2, "disable_corrector": [0, 1], "predict_x0": True, "solver_p": None}),
]  # fmt: skip
ODD = {
    "num_train_timesteps": [-1, 0, 10**12, 1e300, math.nan, math.inf, "1000", [], {}, True, 2.5],
    "beta_start": ["x", math.nan, 1, -1, [0.1]],
    "beta_end": [math.inf, -1, 2.5, None, {}],
    "beta_schedule": ["none such", "", 3, None, ["linear"]],
    "trained_betas": [[], [0.1] * 3, [math.nan] * 1000, "x", 0.5, True, ["a"], [[0.1]], {"a": 1}],
    "prediction_type": ["none such", None, 1, ["epsilon"]],
    "timestep_spacing": ["none such", None, -1],
    "steps_offset": [10**6, -(10**6), 2**63, "1", 0.5],
    "clip_sample": ["false", [], 3, math.nan],
    "_class_name": [None, 3, {}],
}


def kind_of(name: str) -> Any:
    return getattr(diffusers, f"{name}Scheduler")


@pytest.mark.parametrize("name", STEPPING)
def test_the_defaults_of_every_scheduler_are_taken(name: str) -> None:
    kind = kind_of(name)
    assert faulty_setting(kind, dict(kind().config)) is None
    assert failure_in(4, kind()) is None, "it is tried"


@pytest.mark.parametrize(("name", "config"), KNOWN)
def test_settings_of_known_models_are_taken_and_leave_torch_s_randomness_alone(name: str, config: Any) -> None:
    before = torch.random.get_rng_state()
    assert faulty_setting(kind_of(name), config) is None
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.fault("hostile text")
@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ODD.items() for value in values])
def test_an_odd_setting_is_named_with_its_file(tmp_path: Path, key: str, value: Any) -> None:
    file = tmp_path / "scheduler_config.json"
    file.write_text(json.dumps({"_class_name": "DDIMScheduler", **SD, "steps_offset": 1, key: value}))
    with pytest.raises(LLMDiffError) as caught:
        check_scheduler(tmp_path, diffusers.DDIMScheduler)
    sentence = str(caught.value)
    assert sentence.startswith(f"The setting {key} in {str(file)!r} is none that a DDIMScheduler works with (")
    assert "\n" not in sentence
    assert len(sentence) < 400 + len(str(file))


NUMBERS = st.one_of(st.integers(-(10**7), 10**7), st.floats(), st.booleans(), st.none(), st.text(max_size=9))
VALUES = st.one_of(NUMBERS, st.lists(NUMBERS, max_size=4), st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2))


@pytest.mark.fault("hostile text")
@settings(deadline=None, max_examples=100)
@given(data=st.data(), name=st.sampled_from(STEPPING))
def test_any_settings_are_taken_or_one_is_named(data: st.DataObject, name: str) -> None:
    kind = kind_of(name)
    keys = sorted(key for key in kind().config if not key.startswith("_"))
    config = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, max_size=4))
    found = faulty_setting(kind, config)
    assert found is None or found[0] in config


@pytest.mark.fault("hostile text")
def test_a_base_model_is_held_to_it_however_it_is_loaded(places: Places, tmp_path: Path) -> None:
    base = shutil.copytree(places.base, tmp_path / "base")
    file = base / "scheduler" / "scheduler_config.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"prediction_type": "none such"}))
    assert f"The setting prediction_type in {str(file)!r}" in fault(base)
    with pytest.raises(LLMDiffError, match="The setting prediction_type in"):
        meta_base(str(base))
    file.write_text("[]")
    assert f"The file {str(file)!r} holds no JSON object" in fault(base)
    file.unlink()
    assert f"There is no file {str(file)!r}" in fault(base)
    change_index(base, scheduler=["diffusers", "NoneSuchScheduler"])
    assert "is a 'NoneSuchScheduler' of 'diffusers'" in fault(base)


def test_a_number_of_steps_that_a_scheduler_cannot_make_is_told(places: Places) -> None:
    pipe = load_pipeline(places.base)
    pipe.scheduler = diffusers.PNDMScheduler(prediction_type="v_prediction")
    renderer = Renderer(pipe)
    asked = {"prompt": "a box", "guidance": 5.0, "scale": 1.0, "seed": 0, "width": 16, "height": 16}
    renderer.draw(PictureSettings(steps=4, **asked))
    with pytest.raises(LLMDiffError, match=r"cannot draw in 2 steps \(.*\): ask for another number of --steps\."):
        renderer.draw(PictureSettings(steps=2, **asked))
