"""Tests of `llmdiff.app`."""
