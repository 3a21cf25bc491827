"""A world of real things, drawn with emoji art: scenes of them, their captions, and a checker that reads pictures."""
