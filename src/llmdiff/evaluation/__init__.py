"""Evaluation: from pictures to scores, beside the base model and with intervals."""

from llmdiff.evaluation.checker import evaluate_checker
from llmdiff.evaluation.distance import evaluate_distance
from llmdiff.evaluation.pictures import evaluate_pictures
from llmdiff.evaluation.prompts import ScenePrompt, demo_prompts, implied_prompts, scene_prompts
from llmdiff.evaluation.rewriting import evaluate_proxy
from llmdiff.evaluation.scenes import check, evaluate_scenes
from llmdiff.evaluation.world_checker import evaluate_world_checker

__all__ = [
    "ScenePrompt",
    "check",
    "demo_prompts",
    "evaluate_checker",
    "evaluate_distance",
    "evaluate_pictures",
    "evaluate_proxy",
    "evaluate_scenes",
    "evaluate_world_checker",
    "implied_prompts",
    "scene_prompts",
]
