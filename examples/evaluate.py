"""Scores the embedded adapter on a few prompts of the scene benchmark, base model beside it."""

from llmdiff.evaluation import evaluate_scenes


def main(limit: int = 2) -> None:
    """Print the share of right pictures of each group; `limit` prompts of each."""
    for row in evaluate_scenes(limit=limit, seeds=1):
        if row["model"] != "difference":
            print(f"{row['group']:14}{row['model']:10}{row['share']:.0%}  ({row['low']:.0%} – {row['high']:.0%})")


if __name__ == "__main__":
    main()
