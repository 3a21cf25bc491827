"""Tests of llmdiff.base."""
