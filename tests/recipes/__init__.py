"""Tests of the maintainers' scripts in recipes/."""
