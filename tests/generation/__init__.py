"""Tests of llmdiff.generation."""
