"""The recipe by which the embedded base of the world of things is trained: `python -m world.train` in recipes."""
