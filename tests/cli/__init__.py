"""Tests of llmdiff.cli."""
