"""The recipes by which the embedded base model was trained and shipped."""
