"""Tests of llmdiff.scenes."""
