"""Evaluation: from pictures to scores, beside the base model and with intervals."""

from llmdiff.evaluation.checker import evaluate_checker
from llmdiff.evaluation.consistency import evaluate_consistency
from llmdiff.evaluation.distance import evaluate_distance
from llmdiff.evaluation.pictures import evaluate_pictures
from llmdiff.evaluation.prompts import ScenePrompt, demo_prompts, implied_prompts, scene_prompts
from llmdiff.evaluation.rewriting import evaluate_proxy
from llmdiff.evaluation.scenes import SceneReport, SceneSettings, check, evaluate_scenes, scene_report

__all__ = [
    "ScenePrompt",
    "SceneReport",
    "SceneSettings",
    "check",
    "demo_prompts",
    "evaluate_checker",
    "evaluate_consistency",
    "evaluate_distance",
    "evaluate_pictures",
    "evaluate_proxy",
    "evaluate_scenes",
    "implied_prompts",
    "scene_prompts",
    "scene_report",
]
