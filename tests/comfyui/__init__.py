"""Tests of llmdiff.comfyui and of the node pack."""
